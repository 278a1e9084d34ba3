import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics import DCI, dci
from dyga.metrics.fast_trees import boosted_trees

SIZES = {"num_train": 400, "num_test": 200}


def labels(sizes: tuple[int, ...] = (3, 4, 2), n: int = 700) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(size, size=n) for size in sizes], axis=1)


def trained_like(n: int = 1_600, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Codes like those of a trained model: one factor dominates each unit, others contribute a little."""
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


def test_duplicated_units_lower_completeness_only():
    factors = labels()
    result = dci(np.hstack([factors, factors]).astype(float), factors, **SIZES)
    assert result.disentanglement == pytest.approx(1.0, abs=0.01)
    # If two of six units share each factor evenly, completeness is 1 - log 2 / log 6.
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


def test_constant_units_have_no_importance():
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


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_nearly_perfect_codes_stay_finite(seed):
    # Scikit-learn's importances can be -1e-17 here.
    factors = labels((3, 4, 5, 3), 1_500)
    codes = np.hstack([factors + 0.01 * np.random.default_rng(1).normal(size=factors.shape), np.zeros((1_500, 1))])
    result = dci(codes, factors, num_train=1_000, num_test=500, seed=seed)
    assert 0.9 < result.disentanglement <= 1 and 0.9 < result.completeness <= 1


def test_equal_units_share_a_factor_in_both_estimators():
    factors = labels()
    codes = np.hstack([factors, factors[:, :1]]).astype(float)
    for estimator in ("sklearn", "lightgbm"):
        importance = dci(codes, factors, estimator=estimator, **SIZES).importance
        assert 0.1 < importance[0, 0] < 0.9 and importance[0, 0] + importance[3, 0] > 0.95


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
    assert fast.disentanglement == pytest.approx(reference.disentanglement, abs=0.02)
    assert fast.completeness == pytest.approx(reference.completeness, abs=0.02)
    assert fast.informativeness == pytest.approx(reference.informativeness, abs=0.02)
    assert np.corrcoef(fast.importance.ravel(), reference.importance.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("classes", [2, 4])
def test_fast_trees_match_scikit_learn_on_few_distinct_values(classes):
    # There are fewer values than bins, so every split, leaf and importance must be the same.
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 12, size=(600, 3)).astype(float)
    label = (codes[:, 0] + codes[:, 1] / 3 + rng.normal(0, 2, 600)).clip(0, 11).astype(int) * classes // 12
    gain, guess = boosted_trees(codes[:400], label[:400], codes[400:])
    reference = GradientBoostingClassifier(random_state=0).fit(codes[:400], label[:400])
    np.testing.assert_allclose(gain, reference.feature_importances_, atol=0.01)
    assert np.mean(guess == reference.predict(codes[400:])) > 0.97


@pytest.mark.parametrize("estimator", ["sklearn", "lightgbm"])
def test_a_rare_value_counts(estimator):
    """Factor 0 has its second value in 12 of 8,000 training rows; unit 0 differs only there."""
    rng = np.random.default_rng(0)
    factors = np.stack([np.arange(9_000) % 700 == 0, rng.integers(3, size=9_000)], axis=1).astype(int)
    codes = np.stack([factors[:, 0], factors[:, 1] + 0.1 * rng.normal(size=9_000), rng.normal(size=9_000)], axis=1)
    result = dci(codes, factors, num_train=8_000, num_test=1_000, estimator=estimator)
    assert result.disentanglement == pytest.approx(1.0, abs=0.01) and result.accuracy.min() > 0.99
    np.testing.assert_allclose(result.importance, np.eye(3)[:, :2], atol=0.01)


def test_few_rows():
    factors = labels((2, 3), 40)
    result = dci(factors[:, ::-1].astype(float), factors, num_train=25, num_test=15, estimator="lightgbm")
    assert result.disentanglement == pytest.approx(1.0, abs=0.01) and result.informativeness == 1.0


def test_the_number_of_jobs_does_not_change_the_result():
    factors = labels((2, 2), 300)
    codes = factors @ [[1.0, 0.3], [0.2, 1.0]] + np.random.default_rng(0).normal(size=(300, 2))
    for estimator in ("sklearn", "lightgbm"):
        sizes = {"num_train": 200, "num_test": 100, "estimator": estimator}
        with parallel_config("threading"):  # starting processes takes seconds
            one, two = dci(codes, factors, **sizes), dci(codes, factors, n_jobs=2, **sizes)
        np.testing.assert_array_equal(one.importance, two.importance)
        assert one.informativeness == two.informativeness


@settings(max_examples=4)
@given(st.lists(st.sampled_from([0.25, 1.0, 16.0]), min_size=5, max_size=5), st.permutations(range(5)))
def test_dci_ignores_scale_and_order_of_units(scale, order):
    codes, factors = trained_like(500)
    sizes = {"num_train": 300, "num_test": 200, "estimator": "lightgbm"}
    plain = dci(codes, factors, **sizes)
    changed = dci((codes * scale)[:, order], factors, **sizes)
    assert changed.disentanglement == pytest.approx(plain.disentanglement, abs=0.02)
    np.testing.assert_allclose(changed.importance, plain.importance[order], atol=0.02)


@pytest.mark.parametrize(("units", "size"), [(3, 1.0), (6, 0.5), (2, 1.0)])
def test_size_is_factors_over_units(units, size):
    assert DCI(1.0, 1.0, 1.0, np.ones((units, 3)), np.ones(3)).size == size
