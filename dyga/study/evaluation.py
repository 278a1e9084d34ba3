"""Evaluation of a trained run: its codes, and metrics.json."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save

from dyga import metrics
from dyga.config import Config
from dyga.data import Dataset
from dyga.explore.run import GRID_SIZE, Run, project
from dyga.method.diffusion import to_tensor
from dyga.metrics.tad import binary_columns
from dyga.provenance import locked, write_atomically, write_json
from dyga.seeds import sample_rows

MIN_BINARY = 3  # factors of two values from which on TAD is reported


def evaluate(run: Run) -> dict:
    """Writes the run's codes.safetensors and metrics.json and returns the metrics; existing files are kept. ValueError if the
    data are not those that the run was trained on.

    Codes are each unit's first principal component over `config.evaluation_images` random images, the same for every run.
    Without factors only the codes are made.
    """
    _ = run.data
    made = [run.folder / name for name in ("metrics.json", "codes.safetensors")]
    if not all(path.exists() for path in made):  # an exported run may lie where nothing can be written
        with locked(run.folder, patience=86_400):
            if not all(path.exists() for path in made):
                write_json(made[0], _evaluate(run))
    return run.metrics


def _evaluate(run: Run) -> dict:
    config, data = run.config, run.data
    rows = evaluation_rows(config, data)
    count = len(rows)
    features = np.empty((count, config.units, config.unit_dim), np.float32)
    scalars = np.empty((count, config.units * config.scalars_per_unit), np.float32)
    # In batches: the unit MLPs' hidden layers of all images at once would be hundreds of megabytes.
    for i in range(0, count, 500):
        with torch.no_grad():
            batch = run.model.scalars(to_tensor(data.images[rows[i : i + 500]]).to(run.device))
            scalars[i : i + 500], features[i : i + 500] = batch.cpu().numpy(), run.model.features(batch).cpu().numpy()
    mean, axis = principal_axes(features)
    # The scalars of a pruned unit are constant; its axis would follow rounding errors.
    axis *= (np.ptp(scalars, axis=0) > 0).reshape(config.units, -1).any(axis=1, keepdims=True)
    codes = project(features, mean, axis)
    path = np.stack([unit_path(own) for own in np.split(scalars, config.units, axis=1)], axis=1)
    saved = {"rows": rows, "codes": codes, "mean": mean, "axis": axis, "path": path.reshape(GRID_SIZE, -1)}
    write_atomically(run.folder / "codes.safetensors", save({k: np.ascontiguousarray(v) for k, v in saved.items()}))
    result: dict = {"images": count, "anchors": run.anchors.counts.tolist()}
    if data.factors is None:
        return result | {"note": "the data set has no factors, so no disentanglement metric applies"}
    return result | score(codes, features, data.factors[rows], data.factor_names, config)


def evaluation_rows(config: Config, data: Dataset) -> np.ndarray:
    """The rows that are encoded for the metrics, sorted: `config.evaluation_images` of them, or all. No factor is constant."""
    rows = sample_rows(len(data.images), min(config.evaluation_images, len(data.images)), seed=0)
    return rows if data.factors is None else np.sort(metrics.varied_rows(data.factors, rows))


def sample_sizes(config: Config, rows: int) -> dict[str, int]:
    """`num_train` and `num_test` of the settings, or what `rows` allow in the same proportion."""
    total = config.num_train + config.num_test
    if rows >= total:
        return {"num_train": config.num_train, "num_test": config.num_test}
    num_train = rows * config.num_train // total
    return {"num_train": num_train, "num_test": rows - num_train}


def suite(run: Run, estimator: str) -> pd.DataFrame:
    """The standard metrics of `dyga.metrics.evaluate` on the run's saved codes, DCI by `estimator`. ValueError without
    factors."""
    saved, data, config = run.projection, run.data, run.config
    if data.factors is None:
        raise ValueError(f"{config.dataset} has no factors, so no disentanglement metric applies")
    sizes = sample_sizes(config, len(saved["rows"]))
    return metrics.evaluate(saved["codes"], data.factors[saved["rows"]], **sizes, estimator=estimator, n_jobs=-1)


def score(codes: np.ndarray, features: np.ndarray, factors: np.ndarray, names: Sequence[str], config: Config) -> dict:
    """Every metric of the tables as JSON-ready values; protocols in dyga.metrics. Purity is a mean over active units. TAD is of
    the binary factors, and left out if there are fewer than three.

    `num_train` and `num_test` say how many rows were drawn; few images allow fewer than the settings ask for. The votes of the
    FactorVAE score are drawn with replacement, so their numbers are those of the settings.
    """
    sizes, votes = sample_sizes(config, len(codes)), dict(num_train=config.num_train, num_test=config.num_test)
    train = {"num_train": sizes["num_train"], "seed": 0}
    dci = metrics.dci(codes, factors, **sizes, seed=0, estimator=config.dci_estimator)
    nmi = metrics.nmi(codes, factors, **train).matrix
    active = metrics.active_mask(codes)
    purity = np.full(len(active), np.nan)
    neighbours = min(10, sizes["num_train"] - 1)
    purity[active] = metrics.knn_purity(features[:, active], factors, neighbours=neighbours, **train).per_unit
    return {
        **sizes,
        "active": active.tolist(),
        "factor_vae_score": metrics.factor_vae_score(codes, factors, **votes, seed=0).score,
        "dci_disentanglement": dci.disentanglement,
        "dci_completeness": dci.completeness,
        "dci_informativeness": dci.informativeness,
        "dci_estimator": config.dci_estimator,
        "mig": metrics.mig(codes, factors, **train).score,
        "knn_purity": float(np.nanmean(purity)),
        "knn_purity_per_unit": [None if np.isnan(value) else value for value in purity.tolist()],
        "importance": np.asarray(dci.importance).tolist(),
        "nmi": nmi.tolist(),
        "best_units": nmi.argmax(axis=0).tolist(),
        "factor_names": list(names),
        "downstream": _downstream(codes, factors, dci, config.dci_estimator, **sizes),
        **_tad(codes, factors),
    }


def _tad(codes: np.ndarray, factors: np.ndarray) -> dict:
    """TAD of the binary factors, how many of them are captured, and how many there are. Empty if there are fewer than three."""
    binary = binary_columns(factors)
    if len(binary) < MIN_BINARY:
        return {}
    result = metrics.total_auroc_difference(codes, factors[:, binary], seed=0)
    return {"tad": result.tad, "captured": result.captured, "binary_factors": len(binary)}


def _downstream(codes: np.ndarray, factors: np.ndarray, dci: metrics.DCI, estimator: str, num_train: int, num_test: int) -> dict:
    """Accuracy by number of labels. With `num_train` labels the classifier is DCI's, so it is not fitted again."""
    sizes, accuracy = [n for n in (100, 1_000) if n < num_train], dci.accuracy[None]
    if sizes:
        few = metrics.sample_efficiency(codes, factors, sizes, num_test=num_test, estimator=estimator, seed=0)
        accuracy = np.vstack([few.accuracy, accuracy])
    mean = accuracy.mean(axis=1)
    return {"sizes": [*sizes, num_train], "accuracy": accuracy.tolist(), "efficiency": (mean / (mean[-1] or 1)).tolist()}


def unit_path(scalars: np.ndarray) -> np.ndarray:
    """A path through a unit's scalars (n, 1 or 2) for a slider: (201, 1 or 2) float32.

    With one varying scalar: evenly from its 1st to its 99th percentile. With two: once round by their angle, starting where the
    density is lowest; each point is the median of the 2% of the sample that are nearest in angle.
    """
    if (scalars.std(axis=0) > 0).sum() < 2:
        low, high = np.percentile(scalars, [1, 99], axis=0).astype(np.float32)
        return np.linspace(low, high, GRID_SIZE, dtype=np.float32)
    x, y = (scalars - scalars.mean(axis=0)).T
    angle = np.arctan2(y, x) % (2 * np.pi)
    bins = 60
    counts = np.histogram(angle, bins, (0, 2 * np.pi))[0]
    # The sixth of the ring with the lowest density; among equals, the one with the emptiest middle.
    stretch = sum(np.roll(counts, shift) for shift in range(-bins // 12, bins // 12 + 1))
    start = (np.lexsort((counts, stretch))[0] + 0.5) * 2 * np.pi / bins
    angle = (angle - start) % (2 * np.pi)
    order = np.argsort(angle, kind="stable")
    grid = np.linspace(*np.percentile(angle, [1, 99]), GRID_SIZE)
    width = max(len(order) // 50, 1)
    first = np.clip(np.searchsorted(angle[order], grid) - width // 2, 0, len(order) - width)
    return np.stack([np.median(scalars[order[i : i + width]], axis=0) for i in first]).astype(np.float32)


def principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and first principal axis of each unit: features (n, units, dim) -> two arrays (units, dim).

    An axis has unit length; its sign makes its largest entry positive.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    # Unit by unit, since a float64 copy of all features would be large.
    units = range(features.shape[1])
    covariances = (np.atleast_2d(np.cov(features[:, unit], rowvar=False, dtype=np.float64)) for unit in units)
    axis = np.stack([np.linalg.eigh(each)[1][:, -1] for each in covariances])
    largest = np.take_along_axis(axis, np.abs(axis).argmax(axis=1)[:, None], axis=1)
    return mean.astype(np.float32), (axis * np.sign(largest)).astype(np.float32)
