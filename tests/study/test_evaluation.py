"""What is measured of a run: codes and ways through units."""

from types import SimpleNamespace

import numpy as np
import pytest

from dyga import metrics
from dyga.config import make_config
from dyga.study.evaluation import evaluation_rows, principal_axes, sample_sizes, score, suite, unit_path


def around(angles: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) + rng.normal(0, 0.02, (len(angles), 2))


def test_the_way_through_one_scalar_is_even_between_its_percentiles():
    scalars = np.random.default_rng(0).normal(size=(10_000, 1)).astype(np.float32)
    path = unit_path(scalars)
    assert path.shape == (201, 1) and path.dtype == np.float32
    assert path[[0, -1], 0] == pytest.approx(np.percentile(scalars, [1, 99]))
    assert np.allclose(np.diff(path[:, 0]), np.diff(path[:, 0]).mean(), atol=1e-5)


def test_the_way_through_two_scalars_of_which_one_was_pruned_is_that_of_the_other():
    scalars = np.random.default_rng(0).normal(size=(1_000, 1)).astype(np.float32)
    for place in (0, 1):
        path = unit_path(np.insert(scalars, place, 0, axis=1))
        assert path[:, 1 - place] == pytest.approx(unit_path(scalars)[:, 0], abs=1e-5) and not path[:, place].any()


def test_the_way_round_a_ring_of_clusters_meets_each_once():
    hues = np.repeat(np.arange(10), 500)
    path = unit_path(around(hues * 0.2 * np.pi))
    nearest = np.round(np.arctan2(path[:, 1], path[:, 0]) / (0.2 * np.pi)).astype(int) % 10
    met = nearest[np.flatnonzero(np.diff(nearest, prepend=-1))]
    assert sorted(met) == list(range(10))
    steps = np.diff(met) % 10
    assert (steps == steps[0]).all() and steps[0] in (1, 9)
    assert np.linalg.norm(path, axis=1) == pytest.approx(1, abs=0.1)


def test_the_way_along_an_arc_starts_and_ends_at_its_ends():
    arc = np.linspace(-1, 2, 3_000)
    path = unit_path(around(arc) * 2 + 5)
    ends = around(arc)[[0, -1]] * 2 + 5
    distances = np.linalg.norm(path[[0, -1], None] - ends, axis=-1)
    assert distances.min(axis=1) == pytest.approx(0, abs=0.2) and {*distances.argmin(axis=1)} == {0, 1}
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.2


def test_the_principal_axis_is_the_direction_of_most_variance_with_a_fixed_sign():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 2, 3)) * [[5, 1, 1], [1, 1, 5]] + 2
    mean, axis = principal_axes(features)
    assert mean == pytest.approx(features.mean(axis=0), abs=1e-4)
    assert axis[0, 0] > 0.98 and axis[1, 2] > 0.98 and np.linalg.norm(axis, axis=1) == pytest.approx(1)
    assert principal_axes(-features)[1] == pytest.approx(axis, abs=1e-5)
    assert principal_axes(features[..., :1])[1] == pytest.approx(1)


@pytest.mark.parametrize("binary", [2, 3])
def test_tad_is_of_the_binary_factors_if_there_are_three(binary):
    rng = np.random.default_rng(0)
    factors = rng.integers([2] * binary + [4] * (4 - binary), size=(900, 4))
    codes = factors + rng.normal(0, 0.01, factors.shape)
    found = score(codes, codes[..., None], factors, tuple("abcd"), make_config("smoke"))
    assert ("tad" in found) == ("captured" in found) == (binary == 3)
    if binary == 3:
        assert found["tad"] == pytest.approx(1.5, abs=0.2) and (found["captured"], found["binary_factors"]) == (3, 3)


def test_purity_is_a_mean_over_active_units():
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(1_000, 2))
    codes = np.insert(factors + rng.normal(0, 0.01, (1_000, 2)), 1, 0, axis=1)  # the second unit was pruned
    found = score(codes, codes, factors, ("a", "b"), make_config("smoke"))
    assert found["active"] == [True, False, True] and found["knn_purity_per_unit"][1] is None
    assert found["knn_purity"] == pytest.approx(1, abs=0.001)
    assert metrics.knn_purity(codes, factors, num_train=600).score < 0.9


@pytest.mark.parametrize("rows", [20, 90])
def test_few_images_are_measured_with_the_sizes_that_they_allow(rows, monkeypatch):
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(2, size=rows), np.arange(rows) == 5], axis=1).astype(np.int64)  # the second is rare
    codes = factors + rng.normal(0, 0.1, (rows, 2))
    config = make_config("quick")
    found = score(codes, codes, factors, ("a", "b"), config)
    assert (found["num_train"], found["num_test"]) == (rows * 2 // 3, rows - rows * 2 // 3)
    assert found["downstream"]["sizes"] == [rows * 2 // 3] and found["factor_vae_score"] > 0.9
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    data, projection = SimpleNamespace(factors=factors), {"codes": codes, "rows": np.arange(rows)}
    table = suite(SimpleNamespace(projection=projection, data=data, config=config), "lightgbm")
    assert np.isfinite(table["value"]).all() and {"beta_vae", "sap", "infomec"} < set(table["metric"])


def test_the_suite_needs_factors():
    run = SimpleNamespace(projection={}, data=SimpleNamespace(factors=None), config=SimpleNamespace(dataset="folder:here"))
    with pytest.raises(ValueError, match="folder:here has no factors, so no disentanglement metric applies"):
        suite(run, "lightgbm")


def test_sizes_of_samples():
    config = make_config("quick")
    assert sample_sizes(config, 15_000) == sample_sizes(config, 480_000) == {"num_train": 10_000, "num_test": 5_000}
    assert sample_sizes(config, 2_000) == {"num_train": 1_333, "num_test": 667}


def test_no_factor_is_constant_in_the_images_that_are_measured():
    factors = np.zeros((50_000, 2), np.int64)
    factors[::2, 0] = factors[31_234, 1] = 1
    data = SimpleNamespace(images=factors, factors=factors)
    rows = evaluation_rows(make_config("smoke"), data)
    assert len(set(rows)) == 1_000 and 31_234 in rows and (np.diff(rows) > 0).all()
