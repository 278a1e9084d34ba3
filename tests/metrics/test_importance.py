import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config

from dyga.metrics import dci
from dyga.metrics.fast_trees import fast_classifier, impurity_importance

SIZES = {"num_train": 400, "num_test": 200}


def labels(sizes: tuple[int, ...] = (3, 4, 2), n: int = 700) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(size, size=n) for size in sizes], axis=1)


def trained_like(n: int = 1_600, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Codes as training leaves them: one factor dominates a unit, others leak in."""
    rng = np.random.default_rng(3)
    factors = labels((5, 4, 3), n)
    mix = np.array([[1.0, 0.1, 0.0, 0.8, 0.1], [0.1, 1.0, 0.1, 0.0, 0.1], [0.0, 0.1, 1.0, 0.1, 0.1]])
    return (factors / factors.std(axis=0)) @ mix + noise * rng.normal(size=(n, 5)), factors


@pytest.mark.parametrize("estimator", ["sklearn", "lightgbm"])
def test_perfect_codes(estimator):
    factors = labels()
    result = dci(factors[:, [1, 2, 0]] * -2.5, factors, estimator=estimator, **SIZES)
    assert result.disentanglement == pytest.approx(1.0, abs=0.01)
    assert result.completeness == pytest.approx(1.0, abs=0.01)
    assert result.informativeness == 1.0
    np.testing.assert_allclose(result.importance, np.eye(3)[[1, 2, 0]], atol=0.01)


def test_scores_follow_from_the_importances():
    codes, factors = trained_like()
    result = dci(codes, factors, estimator="lightgbm", num_train=800, num_test=400)
    matrix = result.importance.tolist()
    total = sum(map(sum, matrix))
    disentanglement = 0.0
    for row in matrix:
        shares = [value / sum(row) for value in row if value > 0]
        disentanglement += sum(row) / total * (1 + sum(p * math.log(p, 3) for p in shares))
    completeness = 0.0
    for column in zip(*matrix, strict=True):
        shares = [value / sum(column) for value in column if value > 0]
        completeness += sum(column) / total * (1 + sum(p * math.log(p, 5) for p in shares))
    assert 0.3 < completeness < disentanglement < 0.95
    assert result.disentanglement == pytest.approx(disentanglement, abs=1e-12)
    assert result.completeness == pytest.approx(completeness, abs=1e-12)
    np.testing.assert_allclose(result.importance.sum(axis=0), 1.0)


def test_duplicated_units_cost_completeness_only():
    factors = labels()
    result = dci(np.hstack([factors, factors]).astype(float), factors, **SIZES)
    assert result.disentanglement == pytest.approx(1.0, abs=0.01)
    # Each factor shared evenly by two of six units would give 1 - log 2 / log 6.
    assert 1 - math.log(2) / math.log(6) - 1e-6 < result.completeness < 0.9


def test_rotation_by_45_degrees_is_not_disentangled():
    factors = labels((4, 4))
    turned = np.stack([factors[:, 0] + factors[:, 1], factors[:, 0] - factors[:, 1]], axis=1).astype(float)
    result = dci(turned, factors, **SIZES)
    assert result.disentanglement < 0.05
    assert result.completeness < 0.05
    assert result.informativeness == 1.0


def test_noise_is_uninformative():
    factors = labels()
    noise = np.random.default_rng(1).normal(size=(len(factors), 4))
    result = dci(noise, factors, estimator="lightgbm", **SIZES)
    assert result.informativeness == pytest.approx((1 / 3 + 1 / 4 + 1 / 2) / 3, abs=0.07)
    assert result.disentanglement < 0.1


def test_dead_units_have_no_importance():
    factors = labels()
    codes = np.hstack([np.ones((len(factors), 2)), factors])
    result = dci(codes, factors, estimator="lightgbm", **SIZES)
    np.testing.assert_array_equal(result.importance[:2], 0.0)
    assert result.disentanglement == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("estimator", ["sklearn", "lightgbm"])
def test_constant_codes_have_defined_values(estimator):
    factors = labels()
    result = dci(np.ones((len(factors), 3)), factors, estimator=estimator, **SIZES)
    assert (result.disentanglement, result.completeness) == (0.0, 0.0)
    np.testing.assert_array_equal(result.importance, 0.0)
    assert 0.2 < result.informativeness < 0.5


def test_single_unit_and_single_factor():
    factors = labels()
    one_unit = dci(factors[:, :1].astype(float), factors, estimator="lightgbm", **SIZES)
    assert one_unit.completeness == 1.0
    one_factor = dci(factors.astype(float), factors[:, :1], estimator="lightgbm", **SIZES)
    assert one_factor.disentanglement == 1.0


@pytest.mark.parametrize("noise", [0.15, 0.5])
def test_lightgbm_agrees_with_the_reference(noise):
    codes, factors = trained_like(noise=noise)
    sizes = {"num_train": 800, "num_test": 800}
    reference = dci(codes, factors, **sizes)
    fast = dci(codes, factors, estimator="lightgbm", **sizes)
    assert fast.disentanglement == pytest.approx(reference.disentanglement, abs=0.03)
    assert fast.completeness == pytest.approx(reference.completeness, abs=0.03)
    assert fast.informativeness == pytest.approx(reference.informativeness, abs=0.03)
    assert np.corrcoef(fast.importance.ravel(), reference.importance.ravel())[0, 1] > 0.99


def test_fast_importance_is_the_squared_residual_that_splits_explain():
    # A binary factor that unit 0 gives away: the first tree removes all of p(1 - p) n = 75.
    label = np.repeat([0, 1], [300, 100])
    codes = np.stack([label, np.tile([0.0, 1.0], 200)], axis=1)
    model = fast_classifier(1, 0).set_params(n_estimators=1).fit(codes, label)
    np.testing.assert_allclose(impurity_importance(model, codes, label), [75.0, 0.0])
    # The second one explains what the first step of 0.1 has left of the gap between the two values.
    model = fast_classifier(1, 0).set_params(n_estimators=2).fit(codes, label)
    zero, one = model.predict_proba(codes, num_iteration=1)[[0, -1], 1]
    left = (1 - one) - (0 - zero)
    expected = 75.0 + left**2 * 300 * 100 / 400
    np.testing.assert_allclose(impurity_importance(model, codes, label), [expected, 0.0])


def test_the_number_of_jobs_does_not_change_the_result():
    factors = labels((2, 2), 300)
    codes = factors @ [[1.0, 0.3], [0.2, 1.0]] + np.random.default_rng(0).normal(size=(300, 2))
    for estimator in ("sklearn", "lightgbm"):
        sizes = {"num_train": 200, "num_test": 100, "estimator": estimator}
        with parallel_config("threading"):  # starting processes takes seconds
            one, two = dci(codes, factors, **sizes), dci(codes, factors, n_jobs=2, **sizes)
        np.testing.assert_array_equal(one.importance, two.importance)
        assert one.informativeness == two.informativeness


@settings(deadline=None, derandomize=True, max_examples=4)
@given(st.lists(st.sampled_from([0.25, 1.0, 16.0]), min_size=5, max_size=5), st.permutations(range(5)))
def test_dci_ignores_scale_and_order_of_units(scale, order):
    codes, factors = trained_like(500)
    sizes = {"num_train": 300, "num_test": 200, "estimator": "lightgbm"}
    plain = dci(codes, factors, **sizes)
    changed = dci((codes * scale)[:, order], factors, **sizes)
    assert changed.disentanglement == pytest.approx(plain.disentanglement, abs=0.02)
    np.testing.assert_allclose(changed.importance, plain.importance[order], atol=0.02)
