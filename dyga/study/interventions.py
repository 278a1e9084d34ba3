"""Does a unit change its own factor and nothing else? Units are moved or interchanged, the images decoded, and a factor
classifier, trained on real pictures and labels, reads what they show.

The paper shows interchange as pictures (its Figure 3); the numbers are the project's own.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dyga.checkpoint import load_model, save_model
from dyga.config import Config
from dyga.data import load_dataset
from dyga.explore.run import Run, Unit, even_indices
from dyga.kept import CLASSIFIER, check_made_of, claim, classifier_settings
from dyga.method.diffusion import to_tensor
from dyga.provenance import describe, kept_json, locked, write_json
from dyga.seeds import step_seed
from dyga.study.factor_classifier import FactorClassifier


def train_factor_classifier(config: Config, folder: Path, data_dir: Path | None = None) -> None:
    """Trains the study's factor classifier and writes `folder`/model.safetensors. Its accuracy on 1,000 random images is in
    provenance.json; in a small data set, it was also trained on most of them. ValueError if the data set has no factors, or the
    folder holds a classifier of other data or settings."""
    data = load_dataset(config.dataset, data_dir, config.image_size)
    if data.factors is None:
        raise ValueError(f"{config.dataset} has no factors for a classifier to read")
    made_of = classifier_settings(replace(config, data=data.identity))
    with locked(folder):
        claim(folder / "config.json", made_of)
        if (folder / "model.safetensors").exists():
            return
        start, steps = time.monotonic(), config.classifier_steps
        torch.manual_seed(0)
        classifier, peak = FactorClassifier(data.factor_sizes, config.image_size), 4e-3
        optimiser = torch.optim.AdamW(classifier.parameters(), fused=True)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = peak * min(1, (step + 1) / 50, 2 * (steps - step) / steps)
            seed = step_seed(0, step, stream=2)
            rows = np.random.default_rng(seed).integers(len(data.images), size=64)
            images = _soften(to_tensor(data.images[rows]), torch.Generator().manual_seed(seed))
            loss = classifier.loss(images, torch.from_numpy(data.factors[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        rows = np.random.default_rng(step_seed(0, steps, stream=2)).integers(len(data.images), size=1_000)
        right = read(classifier.eval(), data.images[rows]) == data.factors[rows]
        accuracy = dict(zip(data.factor_names, right.mean(axis=0).tolist(), strict=True))
        seconds = round(time.monotonic() - start, 1)
        write_json(folder / "provenance.json", describe(accuracy=accuracy, seconds=seconds))
        save_model(folder / "model.safetensors", classifier)


def _soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred and noisy images, so that the classifier reads decoded images whatever their sharpness."""
    factor = 2 ** int(torch.randint(3, (), generator=generator))
    if factor > 1:
        images = F.interpolate(F.avg_pool2d(images, factor), scale_factor=factor, mode="bilinear")
    return images + 0.1 * torch.rand((), generator=generator) * torch.randn(images.shape, generator=generator)


def load_factor_classifier(run: Run) -> FactorClassifier:
    """The classifier of the run's study. ValueError if it was not trained, or on other data."""
    classifier = FactorClassifier(run.data.factor_sizes, run.config.image_size).eval().requires_grad_(False)
    folder = run.folder.parent / CLASSIFIER
    check_made_of(folder / "config.json", classifier_settings(run.config))
    load_model(folder / "model.safetensors", classifier)
    return classifier


def read(classifier: FactorClassifier, images: np.ndarray) -> np.ndarray:
    """uint8 images (n, size, size, 3) -> what the classifier reads in them, (n, factors) int64."""
    return np.concatenate([classifier.read(to_tensor(images[i : i + 256])).numpy() for i in range(0, len(images), 256)])


def traversal_scores(readings: np.ndarray, before: np.ndarray, factor: int) -> tuple[float, float, float]:
    """Readings (n, places, factors) along one unit and `before` (n, factors), those of the unmoved picture -> shares of
    traversals in which `factor` changes somewhere, of the other factors' readings that stay, and of traversals with a change and
    nothing else changed anywhere."""
    same = readings == before[:, None]
    others = np.delete(same, factor, axis=2)
    changed = ~same[:, :, factor].all(axis=1)
    kept = float(others.mean()) if others.size else 1.0  # there may be a single factor
    return float(changed.mean()), kept, float((changed & others.all(axis=(1, 2))).mean())


def interchange_scores(
    readings: np.ndarray, source: np.ndarray, target: np.ndarray, factor: int
) -> tuple[float, float, float, int]:
    """Readings (n, factors) of exchanged pictures, of their sources and of their targets -> shares of exchanges in which `factor`
    reads as the target's, of the other factors' readings that stay the source's, and of exchanges with both; and how many
    counted: those whose source and target differ in `factor`."""
    differ = source[:, factor] != target[:, factor]
    readings, source, target = readings[differ], source[differ], target[differ]
    if not len(readings):
        return float("nan"), float("nan"), float("nan"), 0
    followed = readings[:, factor] == target[:, factor]
    others = np.delete(readings == source, factor, axis=1)
    kept = float(others.mean()) if others.size else 1.0
    return float(followed.mean()), kept, float((followed & others.all(axis=1)).mean()), len(readings)


def intervention_scores(run: Run) -> list[dict]:
    """The effect of moving and interchanging units: a record per factor and intervention, kept in the run's interventions.json.

    `moved` says what was done: "traversal" moves the factor's unit through its range, "interchange, one unit" takes that unit
    from another picture, "interchange, all units" takes every unit that follows the factor best. `changed`, `kept` and
    `isolated` are shares, as in `traversal_scores` and `interchange_scores`, of `count` pictures or pairs; `decoded_accuracy`
    is the share of untouched decoded pictures in which the classifier reads the factor's true value. ValueError without factors
    or classifier.
    """
    if not run.factor_names:
        raise ValueError(f"{run.config.dataset} has no factors, so interventions cannot be scored")
    return kept_json(run.folder / "interventions.json", lambda: _measure(run))


def _measure(run: Run, places: int = 6) -> list[dict]:
    data, classifier = run.data, load_factor_classifier(run)
    count = min(run.config.intervention_images, len(data.images) // 2)
    rows = np.random.default_rng(7).choice(len(data.images), 2 * count, replace=False)
    features, truth = run.encode(data.images[rows]), data.factors[rows]
    best = run.metrics["best_units"]  # a unit may be the best of two factors

    def decoded(changed: np.ndarray) -> np.ndarray:
        return read(classifier, run.decode(changed))

    untouched = decoded(features)
    source, target = untouched[:count], untouched[count:]
    grid = run.traversal_grid[even_indices(places)]
    records = []
    for factor, name in enumerate(data.factor_names):
        decoded_accuracy = float((untouched[:, factor] == truth[:, factor]).mean())
        unit = best[factor]
        along = np.repeat(features[:count, None], places, axis=1)
        along[:, :, unit] = grid[:, unit]
        readings = decoded(along.reshape(-1, *features.shape[1:])).reshape(count, places, -1)
        changed, kept, isolated = traversal_scores(readings, source, factor)
        record = {"factor": name, "decoded_accuracy": decoded_accuracy}
        shares = {"changed": changed, "kept": kept, "isolated": isolated, "count": count}
        records.append(record | {"moved": "traversal", "units": [unit]} | shares)
        for moved, units in (("interchange, one unit", [unit]), ("interchange, all units", run.following(Unit(unit, (name,))))):
            swapped = features[:count].copy()
            swapped[:, units] = features[count:, units]
            followed, kept, isolated, pairs = interchange_scores(decoded(swapped), source, target, factor)
            shares = {"changed": followed, "kept": kept, "isolated": isolated, "count": pairs}
            records.append(record | {"moved": moved, "units": units} | shares)
    return records
