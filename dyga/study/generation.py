"""The paper's Table 2, for data with binary attributes: TAD, and how far generated images are from real ones."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from dyga import metrics
from dyga.data.store import LazyImages
from dyga.explore.run import Run
from dyga.kept import CLASSIFIER, GENERATED, claim, digest, first_stage_of
from dyga.method.diffusion import to_images, to_tensor
from dyga.provenance import locked, write_atomically, write_json
from dyga.seeds import step_seed
from dyga.study import report
from dyga.study.factor_classifier import FactorClassifier
from dyga.study.interventions import load_factor_classifier
from dyga.study.study import Study

BATCH = 128  # images that are generated, and read, at once
BY_CLASSIFIER = "Fréchet distance, factor classifier"


def generation_scores(run: Run) -> dict:
    """Fréchet distances between generated and real images, kept in generated/scores.json of the run's folder.

    `fid` is in the features of Inception-v3, None while its weights are missing; they are never downloaded here. `classifier` is
    in the features of the study's factor classifier, and `classifier_real` is the same distance between two sets of real images.
    Each set has `images` images: the units of the generated ones come from the first real set, and the distances are to the
    second, which has no image of the first. An interrupted call continues after its last batch.

    ValueError if the run has no TAD, without the study's factor classifier or first stage, and if the folder holds images of
    another model.
    """
    if "tad" not in run.metrics:
        raise ValueError(f"{run.config.dataset} has too few binary factors for TAD, so no images are generated for its table")
    config, data, folder = run.config, run.data, run.folder / GENERATED
    classifier, path = load_factor_classifier(run), folder / "scores.json"
    files = [run.folder / "model.safetensors", first_stage_of(run.folder, config)]
    files.append(run.folder.parent / CLASSIFIER / "model.safetensors")
    made_of = {"data": data.identity, "weights": [digest(file.read_bytes()) for file in files]}
    made_of |= {name: getattr(config, name) for name in ("generated_images", "generation_steps")}
    with locked(folder):
        claim(folder / "config.json", made_of)
        known = json.loads(path.read_text()) if path.exists() else {}
        if not known or (known["fid"] is None and not metrics.missing_inception()):
            write_json(path, _measure(run, classifier, folder))
            for batch in folder.glob("*.npy"):
                batch.unlink()
        return json.loads(path.read_text())


def _measure(run: Run, classifier: FactorClassifier, folder: Path) -> dict:
    config, images = run.config, run.data.images
    side = config.image_size
    count = min(config.generated_images, len(images) // 2)
    sources, others = np.sort(np.random.default_rng(11).choice(len(images), (2, count), replace=False))
    for start in tqdm(range(0, count, BATCH), f"generating, {run.name}", mininterval=10, delay=2, ascii=True):
        path = folder / f"{start:06d}.npy"
        if not path.exists():
            content = io.BytesIO()
            np.save(content, generate(run, images[sources[start : start + BATCH]], step_seed(11, start)))
            write_atomically(path, content.getvalue())
    generated = _Images(count, side, lambda rows: np.load(folder / f"{rows[0]:06d}.npy"))
    first, second = (_Images(count, side, lambda rows, drawn=drawn: images[drawn[rows]]) for drawn in (sources, others))

    def features(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return classifier.features(to_tensor(batch)).numpy()

    def distance(those: LazyImages, **options) -> float:
        return metrics.fid(second, those, batch_size=BATCH, **options).score

    return {
        "images": count,
        "steps": config.generation_steps,
        "fid": None if metrics.missing_inception() else distance(generated),
        "classifier": distance(generated, features=features),
        "classifier_real": distance(first, features=features),
    }


@torch.no_grad()
def generate(run: Run, images: np.ndarray, seed: int) -> np.ndarray:
    """Images (n, size, size, 3) uint8 from the units of `images`, each from noise of its own, as in the paper (temperature 1)."""
    units = torch.from_numpy(run.encode(images)).to(run.device)
    latents = run.model.sample(units, run.config.generation_steps, seed, temperature=1.0, same_noise=False)
    return to_images(run.first_stage.decode(latents))


class _Images(LazyImages):
    """`count` images, read by a function of consecutive row numbers."""

    def __init__(self, count: int, side: int, read: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(count, side, side)
        self._read = read

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        return self._read(indices)


def table2(study: Study, runs: Mapping[tuple[str, int], Run]) -> pd.DataFrame:
    """The paper's Table 2 as text: a study's runs {(variant, seed): run}, its baselines, and the published rows. `attrs` has a
    `caption`, and a `note` if Inception's weights are missing. Images are generated as in `generation_scores`."""
    scores = {key: generation_scores(run) for key, run in runs.items()}
    rows = []
    for (method, _), values in [*((key, run.metrics | scores[key]) for key, run in runs.items()), *study.baselines().items()]:
        rows.append({"method": method, "TAD": values["tad"], "captured": values["captured"]})
        rows[-1] |= {"FID": values.get("fid"), BY_CLASSIFIER: values.get("classifier")}
    one = next(iter(scores.values()))
    rows.append({"method": "real images", BY_CLASSIFIER: one["classifier_real"]})
    groups = pd.DataFrame(rows).groupby("method", sort=False)
    digits = {"TAD": 3, "captured": 1, "FID": 1, BY_CLASSIFIER: 1}
    texts = {name: groups[name].agg(lambda values, n=n: report.mean_spread(values, digits=n)) for name, n in digits.items()}
    ours = pd.DataFrame(texts).reset_index()
    ours.insert(0, "from", f"this run: {study.name}")
    published = report.published(study.dataset, "table2")
    table = pd.concat([ours, published]).fillna("–")
    attributes = next(iter(runs.values())).metrics["binary_factors"]
    caption = f"Table 2: this run on {study.dataset} ({attributes} binary attributes; {one['images']:,} generated images)"
    if len(published):
        caption += f", and published numbers for {published.attrs['title']}, which are of another experiment"
    table.attrs = {"caption": caption, "note": metrics.missing_inception()}
    return table
