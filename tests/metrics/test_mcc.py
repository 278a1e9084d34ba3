import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from dyga import metrics


def world(n=2_000, seed=0):
    """Codes (n, 4), of which units 2, 0 and 3 follow the three factors in part, and factors with unevenly spaced values."""
    rng = np.random.default_rng(seed)
    factors = np.array([0, 1, 5, 30])[rng.integers(4, size=(n, 3))]
    standard = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    codes = rng.normal(size=(n, 4))
    codes[:, [2, 0, 3]] += standard * [3.0, -3.0, 0.5]
    codes[:, 0] = np.exp(codes[:, 0])
    return codes, factors


def by_trying_all(codes, factors, correlation):
    """The largest mean over assignments, found by trying each of them."""
    from itertools import permutations

    matrix = np.array([[abs(correlation(unit, factor).statistic) for factor in factors.T] for unit in codes.T])
    return max(np.mean([matrix[u, f] for f, u in enumerate(units)]) for units in permutations(range(len(matrix)), 3))


def test_equals_the_best_of_all_assignments_of_scipys_correlations():
    codes, factors = world()
    found = metrics.mcc(codes, factors, num_train=len(codes))
    assert found.pearson == pytest.approx(by_trying_all(codes, factors, pearsonr), abs=1e-9)
    assert found.spearman == pytest.approx(by_trying_all(codes, factors, spearmanr), abs=1e-9)
    assert found.spearman > found.pearson + 0.03  # unit 0 is a nonlinear function of its factor
    assert found.pearson_matrix.shape == (4, 3)


def test_rotated_codes_score_less():
    rng = np.random.default_rng(1)
    factors = rng.integers(10, size=(1_000, 2))
    centred = factors - factors.mean(axis=0)
    assert metrics.mcc(centred, factors, num_train=1_000).pearson == pytest.approx(1.0)
    turned = centred @ (np.array([[1, -1], [1, 1]]) / np.sqrt(2))
    assert metrics.mcc(turned, factors, num_train=1_000).pearson == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_fewer_units_than_factors_and_a_constant_unit():
    _, factors = world()
    one = metrics.mcc(factors[:, :1] * 2.0, factors, num_train=1_000)
    assert one.pearson == pytest.approx(1 / 3, abs=1e-9)
    assert metrics.mcc(np.full((len(factors), 2), 0.1), factors, num_train=1_000).spearman == 0.0


def test_bad_input():
    codes, factors = world(50)
    with pytest.raises(ValueError, match="codes has 50 rows: at least 51"):
        metrics.mcc(codes, factors, num_train=51)
    with pytest.raises(ValueError, match="factors must be integers"):
        metrics.mcc(codes, factors / 2, num_train=20)
