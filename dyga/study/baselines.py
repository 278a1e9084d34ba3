"""Baselines: PCA, ICA and beta-TCVAE with the same data, number of units and evaluation as the variants."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA, FastICA
from tqdm import tqdm

from dyga.config import Config
from dyga.data import load_dataset
from dyga.data.store import LazyImages
from dyga.kept import claim
from dyga.method.diffusion import to_tensor
from dyga.provenance import describe, locked, write_json
from dyga.seeds import sample_rows, step_seed
from dyga.study.beta_tcvae import BetaTCVAE
from dyga.study.evaluation import evaluation_rows, score

Encoder = Callable[[np.ndarray], np.ndarray]


def run_baselines(config: Config, folder: Path, data_dir: Path | None = None) -> dict[str, dict]:
    """Fits and measures every baseline into `folder`: <method>.json as each is done, metrics.json at the end.

    Returns {method: metrics and `seconds` of fitting}. ValueError for a data set without factors, and if the
    folder holds results of other data or settings.
    """
    data = load_dataset(config.dataset, data_dir, config.image_size)
    if data.factors is None:
        raise ValueError(f"{config.dataset} has no factors, so no baseline can be measured")
    config = replace(config, data=data.identity)
    with locked(folder):
        claim(folder / "config.json", asdict(config))
        results = {}
        for method, fit in METHODS.items():
            path = folder / f"{method}.json"
            if not path.exists():
                write_json(path, _measure(fit, config, data))
            results[method] = json.loads(path.read_text())
        write_json(folder / "provenance.json", describe(dataset=config.dataset, profile=config.profile, seed=config.seed))
        write_json(folder / "metrics.json", results)
    return results


def _measure(fit: Callable[[Config, LazyImages], Encoder], config: Config, data) -> dict:
    start = time.monotonic()
    encode = fit(config, data.images)
    seconds = time.monotonic() - start
    rows = evaluation_rows(config, data)
    codes = np.concatenate([encode(data.images[rows[i : i + 500]]) for i in range(0, len(rows), 500)])
    return {"seconds": round(seconds, 1)} | score(codes, codes, data.factors[rows], data.factor_names, config)


def _pooled(images: np.ndarray) -> np.ndarray:
    """(n, size, size, 3) uint8 -> (n, 768) float32: averages over 16x16 squares."""
    n, block = len(images), images.shape[1] // 16
    return images.reshape(n, 16, block, 16, block, 3).mean(axis=(2, 4), dtype=np.float32).reshape(n, -1) / 127.5 - 1


def _sample(config: Config, images: LazyImages) -> np.ndarray:
    """At most 10,000 pooled images, drawn by the run's seed; some of them are also in the evaluation."""
    rows = sample_rows(len(images), min(10_000, config.evaluation_images, len(images)), seed=config.seed + 1)
    return np.concatenate([_pooled(images[rows[i : i + 500]]) for i in range(0, len(rows), 500)])


def fit_pca(config: Config, images: LazyImages) -> Encoder:
    """The first `config.units` principal components of the pooled pixels; fewer if there are fewer images."""
    sample = _sample(config, images)
    model = PCA(min(config.units, len(sample)), random_state=config.seed).fit(sample)
    return lambda batch: model.transform(_pooled(batch))


def fit_ica(config: Config, images: LazyImages) -> Encoder:
    """`config.units` independent components (FastICA, Hyvarinen 1999), which rotate the whitened principal ones; fewer if
    there are fewer images."""
    sample = _sample(config, images)
    units = min(config.units, len(sample) - 1)  # centred images span one dimension less
    model = FastICA(units, whiten="unit-variance", max_iter=1_000, tol=1e-3, random_state=config.seed).fit(sample)
    return lambda batch: model.transform(_pooled(batch))


def fit_beta_tcvae(config: Config, images: LazyImages) -> Encoder:
    """beta-TCVAE on the same batches; Adam at 3e-3, or the profile's rate if that is lower. Half as many steps as a variant,
    to keep the default run short.
    """
    torch.manual_seed(step_seed(config.seed, 0))
    model = BetaTCVAE(config.units, config.extractor_kernels, config.extractor_channels, image_size=config.image_size)
    optimiser = torch.optim.Adam(model.parameters(), lr=min(config.lr, 3e-3))
    for step in tqdm(range(config.steps // 2), "beta-TCVAE", mininterval=10, ascii=True):
        seed = step_seed(config.seed, step + 1)
        rows = np.random.default_rng(seed).integers(len(images), size=config.batch)
        loss = model.loss(to_tensor(images[rows]), torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval().requires_grad_(False)
    return lambda batch: model.encode(to_tensor(batch))[0].numpy()


METHODS: dict[str, Callable[[Config, LazyImages], Encoder]] = {"PCA": fit_pca, "ICA": fit_ica, "beta-TCVAE": fit_beta_tcvae}
