"""A trained model to play with and to measure: encode, decode, traverse, swap, attention; and its metrics.json."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor

from . import metrics, probes
from .checkpoint import load_config, load_model
from .config import Config
from .data import load_dataset
from .diffusion import LatentUnitDiffusion, to_images, to_tensor
from .models.autoencoder import FIRST_STAGES
from .provenance import locked, write_atomically, write_json


class Run:
    """One trained variant. Made by `load_run`; images are uint8 (n, 64, 64, 3), features float32 (n, units, dim)."""

    def __init__(self, folder: Path, data_dir: Path | None = None):
        self.folder = folder
        self.config: Config = load_config(folder)
        self.name = f"{self.config.variant}-seed{self.config.seed}"
        self.data_dir = data_dir
        self.model = LatentUnitDiffusion(self.config).eval().requires_grad_(False)
        load_model(folder / "model.safetensors", self.model)

    @property
    def anchors(self):
        """The run's `GaussianAnchors`."""
        return self.model.anchors

    @cached_property
    def data(self):
        """The data set that the run was trained on."""
        return load_dataset(self.config.dataset, self.data_dir)

    @cached_property
    def first_stage(self):
        """The first stage that the study's runs share."""
        stage = FIRST_STAGES[self.config.first_stage]().eval().requires_grad_(False)
        load_model(self.folder.parent / "first_stage" / "model.safetensors", stage)
        return stage

    @cached_property
    def log(self) -> list[dict]:
        """The training log's records."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    @cached_property
    def metrics(self) -> dict:
        """metrics.json. ValueError if the run was not evaluated yet."""
        path = self.folder / "metrics.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no metrics.json: run notebook 02_training or 'dyga evaluate' first")
        return json.loads(path.read_text())

    @cached_property
    def projection(self) -> dict[str, np.ndarray]:
        """Each unit's principal axis, from codes.safetensors: mean and axis (units, dim)."""
        path = self.folder / "codes.safetensors"
        if not path.exists():
            raise ValueError(f"{self.folder} has no codes: run notebook 02_training or 'dyga evaluate' first")
        return load_file(path)

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images (n, 64, 64, 3) uint8 -> features (n, units, dim), before alignment. ValueError for other shapes or types."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (64, 64, 3):
            raise ValueError(f"images is {images.dtype} {images.shape}: valid is uint8 (n, 64, 64, 3)")
        batches = range(0, len(images), 256)
        parts = [self.model.feature_extractor(to_tensor(images[i : i + 256])) for i in batches]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.config.units, self.config.unit_dim), np.float32)

    def decode(self, features: np.ndarray, steps: int = 10, seed: int = 0) -> np.ndarray:
        """Features (n, units, dim) -> images (n, 64, 64, 3) uint8, all from one noise tensor. ValueError for other shapes."""
        features = np.asarray(features, dtype=np.float32)
        expected = (self.config.units, self.config.unit_dim)
        if features.ndim != 3 or features.shape[1:] != expected or not np.isfinite(features).all():
            raise ValueError(f"features is {features.shape}: valid are finite numbers of shape (n, {expected[0]}, {expected[1]})")
        parts = []
        for i in range(0, len(features), 64):
            latents = self.model.sample(torch.from_numpy(features[i : i + 64]), steps, seed)
            parts.append(to_images(self.first_stage.decode(latents)))
        return np.concatenate(parts) if parts else np.zeros((0, 64, 64, 3), np.uint8)

    def codes(self, images: np.ndarray) -> np.ndarray:
        """Images -> (n, units): each unit's first principal component, what the metrics see."""
        return self.project(self.encode(images))

    def project(self, features: np.ndarray) -> np.ndarray:
        """Features (n, units, dim) -> codes (n, units) along the axes fitted when the run was evaluated."""
        return _project(features, self.projection["mean"], self.projection["axis"])

    @cached_property
    def curve(self) -> np.ndarray:
        """(201, units, dim): each unit's features from its 1st to its 99th percentile of scalars in the evaluated sample."""
        low, high = self.projection["scalar_range"]
        grid = torch.from_numpy(np.linspace(low, high, 201, dtype=np.float32))
        with torch.no_grad():
            return self.model.feature_extractor.unit_mlps(grid).numpy()

    def traverse(self, image: np.ndarray, unit: int, count: int = 8, steps: int = 10, seed: int = 0) -> np.ndarray:
        """`count` images along one unit's range, the other units held at those of `image` (64, 64, 3)."""
        self._check_units([unit])
        features = np.repeat(self.encode(image[None]), count, axis=0)
        features[:, unit] = self.curve[np.linspace(0, 200, count).round().astype(int), unit]
        return self.decode(features, steps, seed)

    def swap(self, source: np.ndarray, target: np.ndarray, units: Sequence[int], steps: int = 10, seed: int = 0) -> np.ndarray:
        """Latent interchange (paper, Figure 3): `source` with `units` taken from `target`; one image or (n, 64, 64, 3)."""
        self._check_units(units)
        single = np.ndim(source) == 3
        features = self.encode(source[None] if single else source)
        features[:, list(units)] = self.encode(target[None] if single else target)[:, list(units)]
        images = self.decode(features, steps, seed)
        return images[0] if single else images

    @torch.no_grad()
    def attention(self, images: np.ndarray, steps: int = 10, seed: int = 0) -> np.ndarray:
        """Images (n, 64, 64, 3) -> (n, units, h, w): cross-attention maps while sampling, averaged over steps, heads and the
        layers, each brought to the finest resolution."""
        layers = self.model.denoiser.keep_attention(True)
        maps: list[Tensor] = []
        size = self.model.latent_shape[-1]

        def collect(*_):
            squares = [layer.map.unflatten(-1, (int(layer.map.shape[-1] ** 0.5),) * 2) for layer in layers]
            resized = [torch.nn.functional.interpolate(s, (size, size), mode="bilinear") for s in squares]
            maps.append(torch.stack(resized).mean(dim=0))

        hook = self.model.denoiser.register_forward_hook(collect)
        try:
            self.model.sample(torch.from_numpy(self.encode(images)), steps, seed)
        finally:
            hook.remove()
            self.model.denoiser.keep_attention(False)
        return torch.stack(maps).mean(dim=0).numpy()

    def _check_units(self, units: Sequence[int]) -> None:
        wrong = [u for u in units if not 0 <= u < self.config.units]
        if wrong:
            raise ValueError(f"units {wrong}: valid are 0 to {self.config.units - 1}")


def load_run(folder: str | Path, data_dir: str | Path | None = None) -> Run:
    """Opens runs/<dataset>-<profile>/<variant>-seed<k>. ValueError, naming the folder, if it holds no complete run."""
    return Run(Path(folder), Path(data_dir) if data_dir else None)


def evaluate(run: Run) -> dict:
    """Writes the run's codes.safetensors and metrics.json and returns the metrics; what is there already is kept.

    Codes are each unit's first principal component over `config.evaluation_images` random images, the same for every run.
    Without factors only the codes are made.
    """
    with locked(run.folder):
        path = run.folder / "metrics.json"
        if not path.exists():
            write_json(path, _evaluate(run))
    return run.metrics


def _evaluate(run: Run) -> dict:
    config, data = run.config, run.data
    count = min(config.evaluation_images, len(data.images))
    rows = np.sort(np.random.default_rng(0).choice(len(data.images), count, replace=False))
    extractor = run.model.feature_extractor
    features = np.empty((count, config.units, config.unit_dim), np.float32)
    scalars = np.empty((count, config.units), np.float32)
    # In batches: the unit MLPs' hidden layers of all images at once would be hundreds of megabytes.
    for i in range(0, count, 500):
        with torch.no_grad():
            batch = extractor.scalars(to_tensor(data.images[rows[i : i + 500]]))
            scalars[i : i + 500], features[i : i + 500] = batch.numpy(), extractor.unit_mlps(batch).numpy()
    mean, axis = principal_axes(features)
    codes = _project(features, mean, axis)
    limits = np.percentile(scalars, [1, 99], axis=0).astype(np.float32)
    saved = {"rows": rows, "codes": codes, "mean": mean, "axis": axis, "scalar_range": limits}
    write_atomically(run.folder / "codes.safetensors", save({k: np.ascontiguousarray(v) for k, v in saved.items()}))
    result: dict = {"images": count, "anchors": run.anchors.counts.tolist()}
    if data.factors is None:
        return result | {"note": "the data set has no factors, so no disentanglement metric applies"}
    return result | score(codes, features, data.factors[rows], run)


def score(codes: np.ndarray, features: np.ndarray, factors: np.ndarray, run: Run) -> dict:
    """Every metric of the tables as JSON-ready values; protocols in dyga.metrics."""
    config = run.config
    sizes = dict(num_train=config.num_train, num_test=config.num_test)
    dci = metrics.dci(codes, factors, **sizes, seed=0, estimator=config.dci_estimator)
    nmi = metrics.nmi(codes, factors, num_train=config.num_train, seed=0).matrix
    downstream = probes.sample_efficiency(
        codes,
        factors,
        sizes=tuple(n for n in (100, 1_000, 10_000) if n <= config.num_train),
        num_test=config.num_test,
        estimator=config.dci_estimator,
        seed=0,
    )
    return {
        "factor_vae_score": metrics.factor_vae_score(codes, factors, **sizes, seed=0).score,
        "dci_disentanglement": dci.disentanglement,
        "dci_completeness": dci.completeness,
        "dci_informativeness": dci.informativeness,
        "dci_estimator": config.dci_estimator,
        "mig": metrics.mig(codes, factors, num_train=config.num_train, seed=0).score,
        "knn_purity": metrics.knn_purity(features, factors, num_train=config.num_train, seed=0).score,
        "importance": np.asarray(dci.importance).tolist(),
        "nmi": nmi.tolist(),
        "best_units": nmi.argmax(axis=0).tolist(),
        "factor_names": list(run.data.factor_names),
        "downstream": {
            "sizes": list(downstream.sizes),
            "accuracy": np.asarray(downstream.accuracy).tolist(),
            "efficiency": np.asarray(downstream.efficiency).tolist(),
        },
    }


def principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and first principal axis of each unit: features (n, units, dim) -> two arrays (units, dim).

    An axis has unit length; its sign makes its largest entry positive.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    # Unit by unit, since a float64 copy of all features would be large.
    units = range(features.shape[1])
    axis = np.stack([np.linalg.eigh(np.cov(features[:, unit], rowvar=False, dtype=np.float64))[1][:, -1] for unit in units])
    largest = np.take_along_axis(axis, np.abs(axis).argmax(axis=1)[:, None], axis=1)
    return mean.astype(np.float32), (axis * np.sign(largest)).astype(np.float32)


def _project(features: np.ndarray, mean: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return np.einsum("nud,ud->nu", features, axis) - np.einsum("ud,ud->u", mean, axis)
