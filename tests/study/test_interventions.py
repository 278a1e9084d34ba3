"""Whether a unit changes its own factor: the counting on made-up readings, the measuring on the smoke study."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyga import load_run
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.study.interventions import (
    interchange_scores,
    intervention_scores,
    load_factor_classifier,
    read,
    train_factor_classifier,
    traversal_scores,
)


def test_a_traversal_that_moves_its_factor_alone():
    before = np.array([[3, 1, 2]])
    readings = np.array([[[0, 1, 2], [3, 1, 2], [5, 1, 2]]])
    assert traversal_scores(readings, before, 0) == (1.0, 1.0, 1.0)


def test_a_traversal_that_drags_another_factor_along_at_one_place():
    before = np.array([[3, 1, 2]])
    readings = np.array([[[0, 1, 2], [3, 1, 2], [5, 0, 2]]])
    assert traversal_scores(readings, before, 0) == (1.0, pytest.approx(5 / 6), 0.0)


def test_a_traversal_that_changes_nothing_is_no_success():
    before = np.array([[3, 1], [2, 2]])
    assert traversal_scores(before[:, None].repeat(4, axis=1), before, 1) == (0.0, 1.0, 0.0)


def test_an_exchange_counts_pairs_that_differ_only():
    source = np.array([[0, 1], [2, 1], [4, 0]])
    target = np.array([[1, 1], [2, 0], [5, 1]])  # the second pair agrees in factor 0
    readings = np.array([[1, 1], [9, 9], [5, 1]])
    assert interchange_scores(readings, source, target, 0) == (1.0, 0.5, 0.5, 2)


def test_of_a_single_factor_nothing_else_can_change():
    before, after = np.array([[0], [1]]), np.array([[1], [1]])
    assert traversal_scores(after[:, None], before, 0) == (0.5, 1.0, 0.5)
    assert interchange_scores(after, before, np.array([[1], [0]]), 0) == (0.5, 1.0, 0.5, 2)


def test_pairs_that_never_differ_say_nothing():
    same = np.array([[1, 2]])
    *shares, count = interchange_scores(same, same, same, 0)
    assert count == 0 and all(math.isnan(share) for share in shares)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_alone_is_never_more_than_followed(seed, factor):
    rng = np.random.default_rng(seed)
    changed, kept, alone = traversal_scores(rng.integers(2, size=(5, 4, 3)), rng.integers(2, size=(5, 3)), factor)
    assert 0 <= alone <= changed <= 1 and 0 <= kept <= 1
    source, target = rng.integers(2, size=(2, 9, 3))
    target[0, factor] = 1 - source[0, factor]
    followed, kept, alone, count = interchange_scores(rng.integers(2, size=(9, 3)), source, target, factor)
    assert 0 <= alone <= followed <= 1 and 0 <= kept <= 1 and 1 <= count <= 9


def test_measured_once_for_every_factor_and_way(study):
    folder = study / "runs" / "rooms3d-smoke" / "pruned-seed0"
    run = load_run(folder)
    records = json.loads((folder / "interventions.json").read_text())  # notebook 06 left it
    assert intervention_scores(run) == records
    assert [r["factor"] for r in records[::3]] == list(run.data.factor_names)
    assert {r["moved"] for r in records} == {"traversal", "interchange, one unit", "interchange, all units"}
    assert all(set(one["units"]) <= set(whole["units"]) for one, whole in zip(records[1::3], records[2::3], strict=True))
    assert all(r["count"] == run.config.intervention_images for r in records[::3])


def test_the_probe_is_trained_once_and_says_how_well_it_reads(study, tmp_path):
    config = make_config("smoke")
    train_factor_classifier(config, tmp_path / "factor_classifier")
    trained = study / "runs" / "rooms3d-smoke" / "factor_classifier"
    weights = "model.safetensors"
    assert (tmp_path / "factor_classifier" / weights).read_bytes() == (trained / weights).read_bytes()
    before = (trained / weights).stat().st_mtime_ns
    train_factor_classifier(config, trained)
    assert (trained / weights).stat().st_mtime_ns == before
    accuracy = json.loads((trained / "provenance.json").read_text())["accuracy"]
    run = load_run(trained.parent / "pruned-seed0")
    assert list(accuracy) == list(run.data.factor_names)
    assert read(load_factor_classifier(run), run.data.images[:3]).shape == (3, 6)


def test_without_factors_there_is_nothing_to_read(study, tmp_path):
    with pytest.raises(ValueError, match="has no factors for a classifier to read"):
        train_factor_classifier(make_config("smoke", f"folder:{_pictures(tmp_path)}"), tmp_path / "factor_classifier", tmp_path)
    assert not (tmp_path / "factor_classifier").exists()


def test_interventions_need_factors():
    run = SimpleNamespace(factor_names=(), config=SimpleNamespace(dataset="folder:here"))
    with pytest.raises(ValueError, match="folder:here has no factors, so interventions cannot be scored"):
        intervention_scores(run)


def test_a_classifier_of_other_data_or_settings_is_refused(tmp_path):
    config, folder = replace(make_config("smoke"), classifier_steps=1), tmp_path / "factor_classifier"
    train_factor_classifier(config, folder)
    with pytest.raises(ValueError, match=r"made of other settings \(classifier_steps was 1, now 2\)"):
        train_factor_classifier(replace(config, classifier_steps=2), folder)
    data = load_dataset()
    run = SimpleNamespace(folder=tmp_path / "run", data=data, config=replace(config, data=data.identity))
    assert load_factor_classifier(run)
    run.config = replace(run.config, data="rooms3d, version 2")
    with pytest.raises(
        ValueError, match=r"factor_classifier was made of other data \(data was 'rooms3d, version 1', now 'rooms3d, v"
    ):
        load_factor_classifier(run)


def _pictures(folder):
    from PIL import Image

    (folder / "pictures").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "pictures" / "a.png")
    return folder / "pictures"


def test_a_missing_probe_is_named(study, tmp_path):
    run = load_run(study / "runs" / "rooms3d-smoke" / "pruned-seed0")
    run.folder = tmp_path / "pruned-seed0"
    with pytest.raises(ValueError, match=r"factor_classifier/model.safetensors: there is no such checkpoint"):
        load_factor_classifier(run)
