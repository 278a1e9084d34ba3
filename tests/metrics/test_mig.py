import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from dyga.metrics import mig, nmi, unit_order


def grid(*sizes: int, repeats: int = 1) -> np.ndarray:
    """Every combination of values, so that factors are exactly independent and uniform."""
    return np.array(list(itertools.product(*map(range, sizes))) * repeats)


def binary_entropy(p: float) -> float:
    return -(p * math.log(p) + (1 - p) * math.log(1 - p))


def test_perfect_codes_have_the_identity_matrix_and_a_gap_of_one():
    factors = grid(5, 4, 3)
    codes = factors * [2.0, -1.0, 7.0]
    np.testing.assert_allclose(nmi(codes, factors, num_train=60).matrix, np.eye(3), atol=1e-12)
    result = mig(codes, factors, num_train=60)
    assert result.score == pytest.approx(1.0)
    np.testing.assert_allclose(result.per_factor, 1.0)


def test_duplicated_units_have_no_gap():
    factors = grid(5, 4, 3)
    assert mig(np.hstack([factors, factors]).astype(float), factors, num_train=60).score == 0.0


def test_a_binary_symmetric_channel_has_the_known_value():
    factor = np.repeat([0, 1], 400)
    flipped = np.tile([1, 0, 0, 0], 200)  # a quarter of each value is flipped
    codes = (factor ^ flipped)[:, None].astype(float)
    expected = 1 - binary_entropy(0.25) / math.log(2)
    assert nmi(codes, factor[:, None], num_train=800).matrix[0, 0] == pytest.approx(expected)
    # A second unit that is flipped half the time has no information, so the gap is the first unit's value.
    useless = (factor ^ np.tile([1, 0], 400))[:, None]
    assert mig(np.hstack([codes, useless]), factor[:, None], num_train=800).score == pytest.approx(expected)


def test_twenty_bins_cannot_separate_forty_values():
    factors = grid(40, repeats=3)
    matrix = nmi(factors.astype(float), factors, num_train=120).matrix
    assert matrix[0, 0] == pytest.approx(math.log(20) / math.log(40))
    assert nmi(factors.astype(float), factors, num_train=120, num_bins=40).matrix[0, 0] == pytest.approx(1.0)


def test_a_unit_that_encodes_two_factors_has_full_information_on_both():
    factors = grid(2, 2, repeats=5)
    both = (factors[:, :1] + 2 * factors[:, 1:]).astype(float)
    np.testing.assert_allclose(nmi(both, factors, num_train=20).matrix, 1.0)
    assert mig(both, factors, num_train=20).score == pytest.approx(1.0)  # single unit: the second best is 0
    assert mig(np.hstack([both, both]), factors, num_train=20).score == 0.0


def test_constant_units_count_as_zero():
    factors = grid(5, 4)
    codes = np.hstack([factors, np.full((20, 1), -3.0)])
    np.testing.assert_array_equal(nmi(codes, factors, num_train=20).matrix[2], 0.0)
    assert mig(codes, factors, num_train=20).score == pytest.approx(1.0)
    assert mig(np.zeros((20, 2)), factors, num_train=20).score == 0.0


def test_agrees_with_histograms_of_numpy():
    rng = np.random.default_rng(0)
    factors = rng.integers(6, size=(500, 2))
    codes = factors @ rng.normal(size=(2, 3)) + rng.normal(size=(500, 3))
    matrix = nmi(codes, factors, num_train=500).matrix
    for unit, factor in np.ndindex(3, 2):
        table = np.histogram2d(codes[:, unit], factors[:, factor], bins=(20, 6))[0]
        expected = mutual_info_score(None, None, contingency=table)
        expected /= mutual_info_score(factors[:, factor], factors[:, factor])
        assert matrix[unit, factor] == pytest.approx(expected)


def test_noise_has_almost_no_information():
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(10_000, 2))
    noise = rng.normal(size=(10_000, 5))
    # The bias of plug-in mutual information is about (bins - 1)(values - 1) / 2n = 57 / 20,000 nats.
    assert nmi(noise, factors).matrix.max() < 3 * 57 / 20_000
    assert mig(noise, factors).score < 0.002


@settings(max_examples=30)
@given(
    st.integers(0, 10_000),
    st.permutations(range(4)),
    st.lists(st.sampled_from([-2.0, 0.25, -1.0, 64.0]), min_size=4, max_size=4),
)
def test_bounds_and_invariance_to_order_sign_and_scale(seed, order, scale):
    rng = np.random.default_rng(seed)
    factors = rng.integers(3, size=(200, 2))
    codes = factors @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(200, 4))
    plain, changed = (mig(c, factors, num_train=150) for c in (codes, (codes * scale)[:, order]))
    assert 0.0 <= plain.score <= 1.0
    assert plain.score == pytest.approx(plain.per_factor.mean())
    np.testing.assert_allclose(changed.per_factor, plain.per_factor, atol=1e-9)
    matrix = nmi(codes, factors, num_train=150).matrix
    assert matrix.shape == (4, 2)
    assert 0.0 <= matrix.min() <= matrix.max() <= 1.0


@given(st.permutations(range(9)), st.integers(0, 100))
def test_units_are_ordered_so_that_a_disentangled_model_shows_a_diagonal(positions, seed):
    values = np.random.default_rng(seed).random((9, 5)) * 0.3
    for factor in range(5):
        values[positions[factor], factor] = 0.9
    order = unit_order(values)
    assert sorted(order) == list(range(9))
    assert list(order[:5]) == positions[:5]
    assert (np.diff(values[order[5:]].max(1)) <= 0).all()


def test_unit_order_with_fewer_units_than_factors():
    values = np.array([[0.1, 0.2, 0.9], [0.8, 0.1, 0.1]])
    assert list(unit_order(values)) == [1, 0]
