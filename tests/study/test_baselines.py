"""Baselines: each finds what it can find, and a folder of results is kept, not made again."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from dyga.config import make_config
from dyga.data import load_dataset
from dyga.seeds import sample_rows
from dyga.study import baselines

TINY = dataclasses.replace(make_config("smoke"), steps=8, evaluation_images=1_500)


CONFIG = make_config("smoke", variant="encdiff")  # of the study's baselines


@pytest.fixture(scope="module")
def measured(study, tmp_path_factory):
    """The smoke study's baselines, in a folder of their own."""
    folder = tmp_path_factory.mktemp("baselines") / "baselines-seed0"
    shutil.copytree(study / "runs" / "rooms3d-smoke" / "baselines-seed0", folder)
    return folder, json.loads((folder / "metrics.json").read_text())


def test_every_method_is_measured_as_a_variant_is(measured):
    _, results = measured
    assert list(results) == ["PCA", "ICA", "beta-TCVAE"]
    for values in results.values():
        assert {"seconds", "factor_vae_score", "dci_disentanglement", "mig", "knn_purity", "downstream"} <= set(values)
        assert np.shape(values["nmi"]) == (CONFIG.units, 6)
    assert results["PCA"]["dci_disentanglement"] > results["beta-TCVAE"]["dci_disentanglement"]  # a few steps teach nothing


def test_what_is_measured_is_not_measured_again(measured, monkeypatch):
    folder, results = measured
    monkeypatch.setattr(baselines, "_measure", None)
    (folder / "metrics.json").unlink()
    assert baselines.run_baselines(CONFIG, folder) == results


def test_results_of_other_settings_or_data_are_refused(measured):
    folder, _ = measured
    with pytest.raises(ValueError, match=r"was made of other settings \(steps was 40, now 10\): delete that folder"):
        baselines.run_baselines(dataclasses.replace(CONFIG, steps=10), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"data": "rooms3d, version 0"}))
    with pytest.raises(ValueError, match=r"made of other data \(data was 'rooms3d, version 0', now 'rooms3d, version 1'\)"):
        baselines.run_baselines(CONFIG, folder)
    (folder / "config.json").write_text(json.dumps(config))


def test_pca_codes_are_uncorrelated_and_ordered():
    images = load_dataset("rooms3d").images
    codes = baselines.fit_pca(TINY, images)(images[sample_rows(480_000, 2_000, seed=5)])
    correlation = np.corrcoef(codes, rowvar=False) - np.eye(TINY.units)
    assert np.abs(correlation).max() < 0.2
    assert (np.diff(codes.std(axis=0)) < 0.1).all()


def test_ica_codes_have_unit_variance():
    images = load_dataset("rooms3d").images
    codes = baselines.fit_ica(TINY, images)(images[sample_rows(480_000, 2_000, seed=5)])
    np.testing.assert_allclose(codes.std(axis=0), 1, atol=0.2)


def test_the_same_seed_gives_the_same_vae():
    images = load_dataset("rooms3d").images
    one, two = (baselines.fit_beta_tcvae(TINY, images)(images[:20]) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_without_factors_there_is_nothing_to_measure(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    from PIL import Image

    Image.new("RGB", (64, 64)).save(pictures / "a.png")
    config = dataclasses.replace(TINY, dataset=f"folder:{pictures}")
    with pytest.raises(ValueError, match="has no factors"):
        baselines.run_baselines(config, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()
