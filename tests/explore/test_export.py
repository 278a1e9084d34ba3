import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import save_images
from safetensors.numpy import load_file

from dyga import load_run
from dyga.__main__ import main
from dyga.config import make_config
from dyga.explore.export import portable
from dyga.extensions import Extension
from dyga.study.evaluation import evaluate
from dyga.training.first_stage import train_first_stage
from dyga.training.loop import train

CONTENTS = {
    "README.md", "config.json", "model.safetensors", "codes.safetensors", "metrics.json", "interventions.json", "examples.png",
    "reconstructions.webp", "traversals.webp", "first_stage/config.json", "first_stage/provenance.json",
    "first_stage/model.safetensors",
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("export") / "model")


def contents(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_export_that_was_moved_decodes_the_same_images_bit_for_bit(run, exported, tmp_path):
    moved = shutil.copytree(exported, tmp_path / "elsewhere")
    opened = load_run(moved)
    images = run.data.images[np.array([5, 1_000, 300_000])]
    features = run.encode(images)
    np.testing.assert_array_equal(opened.encode(images), features)
    np.testing.assert_array_equal(opened.decode(features), run.decode(features))
    np.testing.assert_array_equal(opened.decode(features, 2, 1, 1.0), run.decode(features, 2, 1, 1.0))
    np.testing.assert_array_equal(opened.codes(images), run.codes(images))
    np.testing.assert_array_equal(opened.examples, run.examples)
    assert opened.active_units == run.active_units and opened.metrics == run.metrics
    assert opened.data.identity == run.data.identity


def test_an_export_holds_what_is_needed_and_nothing_else(run, exported):
    assert contents(exported) == CONTENTS
    assert not list(exported.parent.glob(".*"))
    with pytest.raises(ValueError, match=r"model has no log\.jsonl: exports do not contain it"):
        _ = load_run(exported).log


def test_an_export_can_be_exported(exported, tmp_path):
    again = load_run(exported).export(tmp_path / "again")
    assert contents(again) == CONTENTS
    for name in ("model.safetensors", "codes.safetensors", "examples.png", "config.json"):
        assert (again / name).read_bytes() == (exported / name).read_bytes()


def test_explorers_open_an_export_where_nothing_can_be_written_and_no_data_are(exported, tmp_path, monkeypatch):
    from dyga.explore.widgets import InterchangeExplorer, TraversalExplorer

    moved = shutil.copytree(exported, tmp_path / "elsewhere")
    monkeypatch.setattr("dyga.explore.run.load_dataset", lambda *_: pytest.fail("the data were opened"))
    opened = load_run(moved)
    assert TraversalExplorer(opened, opened.examples).rows and InterchangeExplorer(opened, opened.examples).children
    assert contents(moved) == CONTENTS


def test_half_precision_has_nearly_the_same_images_in_half_the_space(run, exported, tmp_path):
    folder = run.export(tmp_path / "half", half=True)
    opened, images = load_run(folder), run.examples
    difference = opened.decode(opened.encode(images)).astype(int) - run.decode(run.encode(images))
    assert np.abs(difference).max() <= 4 and np.abs(difference).mean() < 0.1
    size = {each: (each / "model.safetensors").stat().st_size for each in (folder, exported)}
    assert size[folder] < 0.6 * size[exported]
    means = [load_file(each / "model.safetensors")["anchors.means"] for each in (folder, exported)]
    np.testing.assert_array_equal(*means)
    codes = load_file(folder / "codes.safetensors")
    assert np.allclose(opened.codes(run.data.images[codes["rows"][:50]]), codes["codes"][:50], atol=0.05)


def test_the_model_card_has_the_runs_own_numbers(run, exported):
    card = (exported / "README.md").read_text()
    assert card.startswith("# Pruned, trained on rooms3d\n") and "rooms3d, version" in card
    assert f"| MIG | {run.metrics['mig']:.3f} |" in card and "40 steps in" in card and "They are no images of a published" in card
    for unit in run.active_units:
        assert f"| {unit.index} | {' + '.join(unit.factors)} |" in card
    code = card.split("```python\n")[1].split("```")[0].replace("PATH OF THIS FOLDER", str(exported))
    values: dict = {}
    exec(code, values)
    assert values["images"].shape == (8, 64, 64, 3)


class Own(Extension):
    """A user's own."""


def test_an_export_of_own_pictures_tells_no_path_and_finds_them_again(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "secret" / "photos", np.arange(20) * 10_000)
    config = replace(make_config("smoke", f"folder:{folder}", "encdiff"), steps=2, first_stage_steps=2, image_size=32)
    list(train(config, tmp_path / "study" / "encdiff-seed0", tmp_path, [Own()]))
    train_first_stage(config, tmp_path / "study" / "first_stage", tmp_path)
    note = tmp_path / "study" / "first_stage" / "provenance.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"note": "no weights: download them to /home/secret"}))
    run = load_run(tmp_path / "study" / "encdiff-seed0", tmp_path, [Own()])
    evaluate(run)
    exported = run.export(tmp_path / "export")
    card = (exported / "README.md").read_text()
    assert contents(exported) == CONTENTS - {"interventions.json"}
    assert "None: the data set has no factors" in card and "looks for them in the current folder, as folder:photos" in card
    for path in exported.rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), path
    assert 'load_run("PATH OF THIS FOLDER", extensions=[Own()])' in card
    opened = load_run(exported, tmp_path, [Own()])
    assert opened.examples.shape == opened.decode(opened.encode(opened.examples)).shape == (16, 32, 32, 3)
    with pytest.raises(ValueError, match="photos is not a folder"):
        _ = opened.data
    monkeypatch.chdir(tmp_path / "secret")
    assert len(load_run(exported, tmp_path, [Own()]).data.images) == 20
    (folder / "00.png").unlink()
    with pytest.raises(ValueError, match=r"was trained on folder:photos, 20 images of 32px.*now there is .*19 images of 32px"):
        _ = load_run(exported, tmp_path, [Own()]).data


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("rooms3d", "rooms3d"),
        ("npz:/home/me/set.npz", "npz:set.npz"),
        ("hf:owner/name", "hf:owner/name"),
        ("hf:/data/saved", "hf:./saved"),
    ],
)
def test_portable_settings_have_no_path(dataset, expected):
    config = replace(make_config(), dataset=dataset, data=f"{dataset}, 20 images, digest 12ab")
    assert portable(config).dataset == expected and portable(config).data == f"{expected}, 20 images, digest 12ab"


def test_the_command_exports_and_refuses_in_one_line(run, tmp_path, capsys):
    main(["export", str(run.folder), str(tmp_path / "model"), "--half"])
    assert capsys.readouterr().out.endswith(" MB\n") and contents(tmp_path / "model") == CONTENTS
    wrong = {"/no/such/run": "cannot be opened as a run", str(run.folder): "exists and is not empty: choose another"}
    for folder, message in wrong.items():
        with pytest.raises(SystemExit) as stopped:
            main(["export", folder, str(tmp_path / "model")])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    copy = shutil.copytree(run.folder, tmp_path / "runs" / "copy")
    (copy / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"has no metrics\.json"):
        load_run(copy).export(tmp_path / "new")
    shutil.rmtree(copy / "first_stage")
    shutil.copy(run.folder / "metrics.json", copy)
    with pytest.raises(ValueError, match="there is no such first stage"):
        load_run(copy).export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unknown_pretrained_models_are_named(monkeypatch):
    with pytest.raises(ValueError, match=r"pretrained:cars3d: there is no such model: valid are"):
        load_run("pretrained:cars3d")
    monkeypatch.setattr("dyga.explore.run.checkout", lambda: None)
    with pytest.raises(ValueError, match="come with a clone of the repository, not with the package"):
        load_run("pretrained:rooms3d")
