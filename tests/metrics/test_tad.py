import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dyga.metrics import total_auroc_difference


def cube(columns: int = 4) -> np.ndarray:
    """Every combination of bits: the attributes are exactly balanced and independent."""
    return np.array(list(itertools.product([0, 1], repeat=columns)))


def test_perfect_codes_score_a_half_per_attribute():
    attributes = cube()
    result = total_auroc_difference(attributes * [1.0, -2.0, 3.0, 0.5], attributes)
    np.testing.assert_allclose(result.auroc, 0.5 + 0.5 * np.eye(4))
    assert result.captured == 4
    assert result.tad == pytest.approx(4 * 0.5)


def test_duplicated_units_are_captured_without_a_difference():
    attributes = cube()
    result = total_auroc_difference(np.hstack([attributes, attributes]).astype(float), attributes)
    assert result.captured == 4
    assert result.tad == 0.0


def test_dependent_attributes_are_left_out():
    attributes = cube()
    attributes[:, 1] = 1 - attributes[:, 0]
    result = total_auroc_difference(attributes.astype(float), attributes)
    assert result.captured == 2
    assert result.tad == pytest.approx(2 * 0.5)


def test_an_attribute_below_the_threshold_is_not_captured():
    rng = np.random.default_rng(0)
    attributes = rng.integers(2, size=(20_000, 2))
    codes = attributes * [0.8, 1.2] + rng.normal(size=(20_000, 2))
    result = total_auroc_difference(codes, attributes)
    # Gaussians with unit variance and means d apart have AUROC = Phi(d / sqrt 2): 0.714 and 0.802.
    expected = norm.cdf(np.array([0.8, 1.2]) / np.sqrt(2))
    np.testing.assert_allclose(np.diag(result.auroc), expected, atol=0.01)
    assert result.captured == 1
    assert result.tad == pytest.approx(expected[1] - 0.5, abs=0.02)


def test_a_single_unit_is_compared_with_chance_and_constant_units_are_at_chance():
    attributes = cube(1).repeat(5, axis=0)
    assert total_auroc_difference(attributes.astype(float), attributes).tad == pytest.approx(0.5)
    constant = total_auroc_difference(np.ones((10, 2)), attributes)
    np.testing.assert_array_equal(constant.auroc, 0.5)
    assert (constant.tad, constant.captured) == (0.0, 0)


def naive_coarse(code: np.ndarray, attribute: np.ndarray, thresholds: int) -> float:
    best = 0.0
    for sign in (1, -1):
        false_rates, true_rates = [], []
        for step in range(thresholds):
            position = (code - code.min()) / (code.max() - code.min())
            cut = step / (thresholds - 1)
            predicted = position >= cut if sign > 0 else position < cut
            false_rates.append(predicted[attribute == 0].mean())
            true_rates.append(predicted[attribute == 1].mean())
        false_rates, true_rates = sorted(false_rates), sorted(true_rates)
        area = sum(true_rates[i] * (false_rates[i] - false_rates[i - 1]) for i in range(1, thresholds))
        best = max(best, area)
    return best


def test_coarse_thresholds_match_a_naive_loop_and_are_biased_upward():
    rng = np.random.default_rng(0)
    attributes = rng.integers(2, size=(2_000, 2))
    codes = attributes + rng.normal(size=(2_000, 2))
    exact = total_auroc_difference(codes, attributes).auroc
    coarse = total_auroc_difference(codes, attributes, thresholds=11).auroc
    for unit, attribute in np.ndindex(2, 2):
        expected = naive_coarse(codes[:, unit], attributes[:, attribute], 11)
        assert coarse[unit, attribute] == pytest.approx(expected, abs=1e-9)
    assert (np.diag(coarse) > np.diag(exact) + 0.02).all()
    fine = total_auroc_difference(codes, attributes, thresholds=4_001).auroc
    np.testing.assert_allclose(fine, exact, atol=0.003)


def test_coarse_auroc_of_narrow_units_is_chance():
    attributes = cube()
    codes = attributes * [1.0, 0.19, 0.21, 1.0]
    coarse = total_auroc_difference(codes, attributes, thresholds=11).auroc
    np.testing.assert_array_equal(coarse[1], 0.5)
    assert coarse[2, 2] == 1.0
    assert total_auroc_difference(codes, attributes).auroc[1, 1] == 1.0


def test_more_than_two_values_are_refused():
    with pytest.raises(ValueError, match=r"factors has columns \[1\] of more than two values"):
        total_auroc_difference(np.zeros((6, 2)), np.array([[0, 0], [1, 1], [0, 2]] * 2))


def test_num_train_draws_rows():
    rng = np.random.default_rng(0)
    attributes = rng.integers(2, size=(500, 2))
    codes = attributes + rng.normal(size=(500, 2))
    drawn = [total_auroc_difference(codes, attributes, num_train=100, seed=s).auroc[0, 0] for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_exact_auroc_is_scikit_learns_with_ties_and_any_sign(seed, levels):
    rng = np.random.default_rng(seed)
    attributes = rng.integers(2, size=(60, 2))
    attributes[:2] = [[0, 1], [1, 0]]
    codes = rng.integers(levels, size=(60, 3)) + attributes[:, :1]
    result = total_auroc_difference(codes * -1.0, attributes).auroc
    for unit, attribute in np.ndindex(3, 2):
        area = roc_auc_score(attributes[:, attribute], codes[:, unit])
        assert result[unit, attribute] == pytest.approx(max(area, 1 - area))
