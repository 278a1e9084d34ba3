"""Table 2 on a sample in CelebA's published format: prepared, trained on, measured, and shown by the notebooks."""

import hashlib
import importlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from dyga import load_run, metrics
from dyga.data import CATALOG, load_dataset, prepare_dataset
from dyga.data.catalog import CELEBA_ATTRIBUTES, RemoteFile, Source
from dyga.study import baselines, evaluation, generation
from dyga.study.interventions import train_factor_classifier
from dyga.study.reproduce import _fingerprint, notebook_paths
from dyga.study.study import Study
from dyga.training.first_stage import train_first_stage
from dyga.training.loop import train

COUNT = 300
SETTINGS = (
    "units=4, min_scalars=4, steps=4, first_stage_steps=2, classifier_steps=2, evaluation_images=300, num_train=200, num_test=100"
)


def _face(attributes: np.ndarray) -> bytes:
    """A JPEG file of CelebA's size: a background, a head and a mouth, coloured by the first attributes."""
    image = Image.new("RGB", (178, 218), tuple(60 + 120 * attributes[:3]))
    draw = ImageDraw.Draw(image)
    draw.ellipse((45, 50, 135, 170), tuple(60 + 120 * attributes[3:6]))
    draw.rectangle((70, 130, 110, 130 + 15 * attributes[6]), "red")
    stored = io.BytesIO()
    image.save(stored, "jpeg")
    return stored.getvalue()


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    """A study of 300 pictures with one run, trained and measured; the two files in CelebA's formats are made here."""
    root = tmp_path_factory.mktemp("celeba")
    values = np.random.default_rng(0).integers(2, size=(COUNT, 40))
    listed = root / "list_attr_celeba.txt"
    rows = [f"{i + 1:06d}.jpg " + " ".join(f"{2 * v - 1:2d}" for v in row) for i, row in enumerate(values)]
    listed.write_text("\n".join([str(COUNT), " ".join(CELEBA_ATTRIBUTES), *rows]) + "\n")
    zipped = root / "img_align_celeba.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for i, row in enumerate(values):
            archive.writestr(f"img_align_celeba/{i + 1:06d}.jpg", _face(row))
    (root / "downloads").mkdir()
    files = [RemoteFile(p.name, "", hashlib.md5(p.read_bytes()).hexdigest()) for p in (zipped, listed)]
    for path in (zipped, listed):
        path.rename(root / "downloads" / path.name)
    with pytest.MonkeyPatch.context() as patch:
        own: Source = replace(CATALOG["celeba"], files=tuple(files), count=COUNT)
        patch.setitem(CATALOG, "celeba", own)
        patch.setenv("TORCH_HOME", str(root))  # without Inception's weights
        assert np.array_equal(prepare_dataset("celeba", root).factors, values)
        study = Study("celeba", "smoke", "encdiff", "0", str(root), str(root), SETTINGS)
        (config,) = study.configs()
        train_first_stage(config, study.runs / "first_stage", root)
        train_factor_classifier(config, study.runs / "factor_classifier", root)
        for _ in train(config, study.folder(config), root):
            pass
        evaluation.evaluate(load_run(study.folder(config), root))
        patch.setattr(baselines, "METHODS", {"PCA": baselines.fit_pca})
        patch.setattr(baselines, "score", lambda codes, _, factors, *rest: evaluation._tad(codes, factors))  # the rest is slow
        baselines.run_baselines(config, study.baseline_folders()[0], root)
        yield study


@pytest.fixture
def run(celeba):
    """The study's run; what the test generates is deleted."""
    (folder,) = celeba.finished().values()
    yield load_run(folder, celeba.data_dir)
    shutil.rmtree(folder / "generated", ignore_errors=True)


def cell(notebook: str, key: str) -> str:
    (path,) = (path for path in notebook_paths() if path.stem == notebook)
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == key)


def test_the_notebooks_show_table_2_beside_the_published_one(celeba, run, capsys):
    shown = []
    names = {name: getattr(celeba, name) for name in Study.__dataclass_fields__} | {"display": lambda *all: shown.extend(all)}
    for key in ("c02", "c03", "c20"):
        exec(cell("04_metrics", key), names)
    table = pd.read_csv(celeba.figures / "table2.csv")
    assert list(table) == ["from", "method", "TAD", "captured", "FID", generation.BY_CLASSIFIER]
    ours = table.set_index("method").loc[["encdiff", "PCA", "real images"]]
    assert (ours["from"] == f"this run: {celeba.name}").all() and (ours["FID"] == "–").all()
    assert ours["TAD"].tolist() == [f"{v:.3f}" for v in (run.metrics["tad"], celeba.baselines()["PCA", 0]["tad"])] + ["–"]
    scores = json.loads((run.folder / "generated" / "scores.json").read_text())
    assert scores["classifier"] > scores["classifier_real"]  # four training steps teach nothing
    printed = [f"{scores[name]:.1f}" for name in ("classifier", "classifier_real")]
    assert ours.loc[["encdiff", "real images"], generation.BY_CLASSIFIER].tolist() == printed
    published = table[table["from"] == "published, another experiment: CelebA"].set_index("method")
    assert len(published) == 6 and published.loc["DyGA+SD (paper)", ["TAD", "FID"]].tolist() == ["0.954 ± 0.024", "13.0 ± 0.0"]
    origin = json.loads((celeba.figures / "table2.json").read_text())
    assert origin["caption"].startswith("Table 2: this run on celeba (40 binary attributes; 32 generated images)")
    assert "get https://" in capsys.readouterr().out and "**FID**" in shown[-2].data
    exec(cell("07_report", "report-table2"), names | {"first": run})
    assert shown[-1].data.equals(table)


def test_tad_is_measured_on_the_binary_attributes(run):
    codes, factors = run.projection["codes"], run.data.factors[run.projection["rows"]]
    expected = metrics.total_auroc_difference(codes, factors)
    assert (run.metrics["tad"], run.metrics["captured"], run.metrics["binary_factors"]) == (expected.tad, expected.captured, 40)


def test_data_without_binary_attributes_have_no_table_2():
    world = SimpleNamespace(metrics={"mig": 0.5}, config=SimpleNamespace(dataset="rooms3d"))
    with pytest.raises(ValueError, match="rooms3d has too few binary factors for TAD"):
        generation.generation_scores(world)
    names = {"scores": pd.DataFrame({"MIG": [0.5]}), "first": world}
    exec(cell("04_metrics", "c20"), names)
    exec(cell("07_report", "report-table2"), names)


def test_images_are_generated_once_and_an_interrupted_call_goes_on(run, monkeypatch):
    monkeypatch.setattr(generation, "BATCH", 12)
    generate, seen = generation.generate, []

    def stops(run, images, seed):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(images))
        return generate(run, images, seed)

    monkeypatch.setattr(generation, "generate", stops)
    with pytest.raises(KeyboardInterrupt):
        generation.generation_scores(run)
    assert len(list((run.folder / "generated").glob("*.npy"))) == 2
    seen[:] = ["the rest:"]
    scores = generation.generation_scores(run)
    assert seen == ["the rest:", 8] and not list((run.folder / "generated").glob("*.npy"))
    assert scores | {"images": 32, "steps": 2, "fid": None} == scores and scores["classifier"] > 0
    assert generation.generation_scores(run) == scores and len(seen) == 2
    monkeypatch.setattr(generation, "generate", generate)
    (run.folder / "generated" / "scores.json").unlink()
    assert generation.generation_scores(run) == scores


def test_fid_is_computed_as_soon_as_the_weights_are_there(celeba, run, monkeypatch):
    assert generation.generation_scores(run)["fid"] is None
    before = [_fingerprint(path, {}, celeba) for path in notebook_paths((3, 4))]
    fid = importlib.import_module("dyga.metrics.fid")
    weights = fid.inception_weights()
    weights.parent.mkdir(parents=True)
    weights.touch()
    monkeypatch.setattr(fid, "_inception", lambda _: lambda batch: batch.mean(axis=(1, 2)))
    after = [_fingerprint(path, {}, celeba) for path in notebook_paths((3, 4))]
    assert before[0] == after[0] and before[1] != after[1]
    assert generation.generation_scores(run)["fid"] > 0
    weights.unlink()


def test_images_of_another_model_are_not_used(celeba, run):
    generation.generation_scores(run)
    weights = run.folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content + b" ")
    with pytest.raises(ValueError, match=r"generated was made of other settings \(weights was .*delete that folder"):
        generation.generation_scores(run)
    weights.write_bytes(content)


def test_a_new_training_deletes_what_the_old_model_generated(run, tmp_path):
    generation.generation_scores(run)
    folder = shutil.copytree(run.folder, tmp_path / "encdiff-seed0")
    (folder / "model.safetensors").unlink()
    for _ in train(run.config, folder, run.data_dir):
        pass
    assert (folder / "model.safetensors").exists() and not (folder / "generated").exists()


def test_each_image_starts_from_noise_of_its_own(run):
    same = load_dataset("celeba", run.data_dir).images[np.zeros(2, int)]
    one, other = generation.generate(run, same, seed=0)
    assert (one != other).any()
    assert np.array_equal(generation.generate(run, same, seed=0)[1], other)
