import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyga.metrics import anchor_purity, knn_purity


def labels(n: int = 400, sizes: tuple[int, ...] = (4, 3)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(size, size=n) for size in sizes], axis=1)


def naive_knn(features: np.ndarray, label: np.ndarray, k: int) -> float:
    shares = []
    for row in range(len(features)):
        distance = ((features - features[row]) ** 2).sum(axis=1)
        distance[row] = np.inf
        shares.append(np.mean(label[np.argsort(distance)[:k]] == label[row]))
    return float(np.mean(shares))


@pytest.mark.parametrize("dim", [1, 5])
def test_knn_agrees_with_brute_force(dim):
    factors = labels(120)
    rng = np.random.default_rng(1)
    features = factors[:, [0, 1, 0]][:, :, None] * 0.7 + rng.normal(size=(120, 3, dim))
    result = knn_purity(features, factors, num_train=120, neighbours=7)
    for unit, factor in np.ndindex(3, 2):
        assert result.matrix[unit, factor] == pytest.approx(naive_knn(features[:, unit], factors[:, factor], 7))
    np.testing.assert_array_equal(result.per_unit, result.matrix.max(axis=1))
    assert result.score == pytest.approx(result.per_unit.mean())


def test_separated_clusters_are_pure_in_their_factor_only():
    factors = labels()
    features = factors[:, ::-1] + 0.01 * np.random.default_rng(1).normal(size=factors.shape)
    result = knn_purity(features, factors, num_train=400)
    np.testing.assert_array_equal(result.per_unit, 1.0)
    assert result.best_factor.tolist() == [1, 0]
    assert result.matrix[0, 0] == pytest.approx(1 / 4, abs=0.05)


@pytest.mark.parametrize("constant", [False, True])
def test_noise_and_constant_units_have_chance_purity(constant):
    factors = labels(3_000) ** 4 // 16  # most rows have the first value
    features = np.zeros((3_000, 2)) if constant else np.random.default_rng(1).normal(size=(3_000, 2))
    result = knn_purity(features, factors, num_train=3_000)
    assert (result.chance > [0.35, 0.5]).all()
    np.testing.assert_allclose(result.matrix, np.tile(result.chance, (2, 1)), atol=0.03)


def test_neighbours_among_equal_codes_are_drawn_at_random():
    rng = np.random.default_rng(2)
    factors = (rng.random((3_000, 1)) < 0.1).astype(int)
    codes = rng.integers(2, size=(3_000, 1))
    result = knn_purity(codes, factors, num_train=3_000)
    assert result.score == pytest.approx(result.chance[0], abs=0.01)


def test_chance_is_the_sum_of_squared_shares():
    factors = np.repeat([0, 1], [30, 10])[:, None]
    result = knn_purity(np.random.default_rng(0).normal(size=(40, 1)), factors, num_train=40, neighbours=3)
    assert result.chance[0] == pytest.approx(0.75**2 + 0.25**2)


def test_codes_are_features_of_dimension_one():
    factors = labels()
    codes = factors + np.random.default_rng(1).normal(size=factors.shape)
    flat, deep = (knn_purity(c, factors, num_train=300, seed=2) for c in (codes, codes[:, :, None]))
    np.testing.assert_array_equal(flat.matrix, deep.matrix)


@settings(max_examples=10)
@given(st.permutations(range(3)), st.sampled_from([-4.0, 0.5, 2.0]), st.floats(-3, 3))
def test_knn_ignores_order_sign_scale_and_shift(order, scale, shift):
    factors = labels(150)
    codes = factors[:, [0, 1, 0]] + np.random.default_rng(1).normal(size=(150, 3))
    plain = knn_purity(codes, factors, num_train=150)
    changed = knn_purity((codes * scale + shift)[:, order], factors, num_train=150)
    np.testing.assert_allclose(changed.matrix, plain.matrix[order], atol=1e-3)


def test_knn_refuses_invalid_input():
    factors = labels()
    codes = factors.astype(float)
    with pytest.raises(ValueError, match=r"features must have shape \(n, units\) or \(n, units, dim\)"):
        knn_purity(codes[:, 0], factors)
    with pytest.raises(ValueError, match=r"features has 400 rows: at least 10000 are needed \(num_train\)"):
        knn_purity(codes, factors)
    with pytest.raises(ValueError, match="features has 2 NaN or infinite values"):
        knn_purity(np.where(np.arange(400)[:, None] == 3, np.nan, codes), factors, num_train=50)
    with pytest.raises(ValueError, match="num_train must be an integer of at least 11, got 10"):
        knn_purity(codes, factors, num_train=10)
    with pytest.raises(ValueError, match="neighbours must be an integer of at least 1, got 0"):
        knn_purity(codes, factors, neighbours=0)
    with pytest.raises(ValueError, match="factors must be integers"):
        knn_purity(codes, codes, num_train=50)


def test_anchor_purity_by_hand():
    factors = np.array([[0, 0], [0, 1], [0, 0], [1, 1], [1, 0], [1, 1]])
    assignments = np.array([[0, 4], [0, 4], [0, 4], [0, 4], [2, 4], [2, 4]])
    result = anchor_purity(assignments, factors)
    # Unit 0, factor 0: anchor 0 has labels 0 0 0 1 (3 of 4), anchor 2 has 1 1 (2 of 2). Factor 1: 0 1 0 1 and 0 1.
    np.testing.assert_allclose(result.matrix, [[5 / 6, 3 / 6], [3 / 6, 3 / 6]])
    assert result.best_factor.tolist() == [0, 0]
    nan = np.nan
    np.testing.assert_allclose(result.per_anchor, [[3 / 4, nan, 1, nan, nan], [nan, nan, nan, nan, 1 / 2]])
    np.testing.assert_allclose(result.per_unit, [5 / 6, 3 / 6])
    assert result.score == pytest.approx(4 / 6)
    np.testing.assert_allclose(result.chance, 0.5)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_anchor_purity_lies_between_chance_and_one_and_ignores_anchor_numbers(seed, anchors):
    rng = np.random.default_rng(seed)
    factors, assignments = labels(60), rng.integers(anchors, size=(60, 3))
    result = anchor_purity(assignments, factors)
    assert (result.matrix >= result.chance - 1e-12).all()
    assert (result.matrix <= 1).all()
    renamed = anchor_purity(rng.permutation(anchors)[assignments] + 2, factors)
    np.testing.assert_allclose(renamed.matrix, result.matrix)


def test_anchor_purity_refuses_invalid_input():
    factors = labels(10)
    with pytest.raises(ValueError, match="assignments must be integers, got dtype float64"):
        anchor_purity(np.zeros((10, 2)), factors)
    with pytest.raises(ValueError, match="assignments must be anchor numbers of at least 0, got -1"):
        anchor_purity(np.full((10, 2), -1), factors)
    with pytest.raises(ValueError, match="factors has 10 rows, but 9 are needed"):
        anchor_purity(np.zeros((9, 2), dtype=int), factors)
    with pytest.raises(ValueError, match=r"assignments must have two dimensions"):
        anchor_purity(np.zeros(10, dtype=int), factors)
