import numpy as np
import pytest
from scipy.stats import norm

from dyga.metrics import modularity_explicitness

SIZES = {"num_train": 1_200, "num_test": 600}


def bits(columns: int = 3, n: int = 2_000) -> np.ndarray:
    return np.random.default_rng(0).integers(2, size=(n, columns))


def test_perfect_codes_are_modular_and_explicit():
    factors = bits()
    result = modularity_explicitness(factors * -3.0, factors, **SIZES)
    assert result.modularity == pytest.approx(1.0, abs=0.001)
    assert result.explicitness == 1.0


@pytest.mark.parametrize(("columns", "expected"), [(2, 0.0), (3, 0.5), (5, 0.75)])
def test_modularity_of_a_unit_that_encodes_two_factors(columns, expected):
    # Two equal squared terms give 1 - 1 / (factors - 1).
    factors = bits(columns)
    codes = (factors[:, :1] + 2 * factors[:, 1:2]).astype(float)
    assert modularity_explicitness(codes, factors, **SIZES).modularity == pytest.approx(expected, abs=0.01)


def test_modularity_of_constant_units_and_of_a_single_factor():
    factors = bits()
    codes = np.hstack([np.zeros((2_000, 1)), factors])
    assert modularity_explicitness(codes, factors, **SIZES).modularity == pytest.approx(0.75, abs=0.001)
    nothing = modularity_explicitness(np.zeros((2_000, 2)), factors, **SIZES)
    assert nothing.modularity == 0.0
    assert nothing.explicitness == 0.5
    assert modularity_explicitness(codes[:, 1:], factors[:, :1], **SIZES).modularity == 1.0


def test_explicitness_of_noise_is_chance_and_of_a_gaussian_shift_is_known():
    factors = bits(1)
    noise = np.random.default_rng(2).normal(size=(2_000, 1))
    assert modularity_explicitness(noise, factors, **SIZES).explicitness == pytest.approx(0.5, abs=0.06)
    # Two Gaussians with unit variance and means 1 apart have AUC = Phi(1 / sqrt 2), for both values.
    shifted = modularity_explicitness(noise + factors, factors, **SIZES).explicitness
    assert shifted == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.05)


def test_values_missing_from_a_split_are_left_out():
    factors = bits()
    factors[:3, 0] = [7, 8, 9]
    result = modularity_explicitness(factors.astype(float), factors, **SIZES)
    assert 0.9 < result.explicitness <= 1.0
