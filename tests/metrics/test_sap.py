import numpy as np
import pytest

from dyga.metrics import sap

SIZES = {"num_train": 1_200, "num_test": 600}


def bits(columns: int = 3, n: int = 2_000) -> np.ndarray:
    return np.random.default_rng(0).integers(2, size=(n, columns))


def test_sap_of_perfect_binary_codes_is_the_gap_to_guessing():
    factors = bits()
    result = sap(factors * 2.0 - 1.0, factors, **SIZES)
    np.testing.assert_array_equal(np.diag(result.accuracy), 1.0)
    # The second-best unit guesses one of two even values.
    assert result.score == pytest.approx(0.5, abs=0.05)


def test_sap_of_duplicated_units_is_zero_and_of_a_single_unit_its_accuracy():
    factors = bits()
    codes = factors * 2.0 - 1.0
    assert sap(np.hstack([codes, codes]), factors, **SIZES).score == 0.0
    single = sap(codes[:, :1], factors, **SIZES)
    assert single.accuracy.shape == (1, 3)
    assert single.score == pytest.approx(single.accuracy.mean())


def test_sap_of_noise_and_constant_units():
    factors = bits()
    noise = np.random.default_rng(1).normal(size=(2_000, 3))
    assert sap(noise, factors, **SIZES).score < 0.05
    constant = sap(np.ones((2_000, 2)), factors, **SIZES)
    assert constant.score == 0.0
    assert constant.accuracy == pytest.approx(0.5, abs=0.07)
