"""The models that come with the repository: notebook 06 and a colleague's load_run show them before anything is trained."""

import json

import numpy as np
import pytest
from conftest import ROOT

from dyga import load_run
from dyga.data import RENDERED, load_dataset
from dyga.study.study import NotTrained, Study

WORLDS = ("arm3d", "faces2d", "rooms3d")


@pytest.fixture(params=WORLDS)
def model(request):
    return load_run(f"pretrained:{request.param}")


def test_every_world_has_a_model_and_none_is_large():
    folders = sorted((ROOT / "data" / "pretrained").iterdir())
    assert tuple(folder.name for folder in folders) == WORLDS and set(WORLDS) <= set(RENDERED)
    for folder in folders:
        assert sum(path.stat().st_size for path in folder.rglob("*")) < 5e6


def test_a_model_decodes_its_examples(model):
    images = model.examples.astype(float)
    error = model.decode(model.encode(model.examples)) - images
    assert np.mean(10 * np.log10(255**2 / (error**2).mean(axis=(1, 2, 3)))) > 20  # dB
    mean = images.mean(axis=0)
    assert (error**2).mean() < 0.2 * ((images - mean) ** 2).mean()


def test_a_models_data_are_todays_and_its_codes_too(model):
    data = load_dataset(model.config.dataset)
    assert model.config.data == data.identity and model.factor_names == data.factor_names
    rows = model.projection["rows"][:64]
    expected = model.projection["codes"][:64]
    assert np.abs(model.codes(data.images[rows]) - expected).max() < 0.05 * expected.std(axis=0).max()


def test_the_units_of_a_model_are_named_after_factors(model):
    names = {unit.factors[0] for unit in model.active_units}
    assert names <= set(model.factor_names) and len(names) >= 5
    card = (model.folder / "README.md").read_text()
    assert f"| DCI disentanglement | {model.metrics['dci_disentanglement']:.3f} |" in card
    records = json.loads((model.folder / "interventions.json").read_text())
    assert {record["factor"] for record in records} == set(model.factor_names)


@pytest.mark.parametrize("world", WORLDS)
def test_before_training_a_study_shows_the_model_and_keeps_its_figures_apart(world, tmp_path, capsys):
    study = Study(world, "smoke", root=str(tmp_path))
    shown, run = study.shown()
    assert run.folder.name == world and shown.figures == tmp_path / "figures" / f"{world}-pretrained"
    assert "is not trained yet" in capsys.readouterr().out


def test_without_a_model_a_study_says_what_to_run_first(tmp_path):
    with pytest.raises(NotTrained, match=r"faces2d_correlated-smoke is not trained yet .* Run notebook 02_training first"):
        Study("faces2d_correlated", "smoke", root=str(tmp_path)).shown()
