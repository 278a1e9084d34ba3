import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from dyga import metrics

SIZES = {"num_train": 1_000, "num_test": 500}


def world(n=1_500):
    rng = np.random.default_rng(0)
    factors = rng.integers([5, 20, 7], size=(n, 3))
    a, b, c = ((factors - factors.mean(axis=0)) / factors.std(axis=0)).T
    codes = np.stack([a + b, a - 0.5 * b, c**2, rng.normal(size=n)], axis=1) + 0.2 * rng.normal(size=(n, 4))
    return codes, factors


def split(seed, n):
    return np.split(np.random.default_rng(seed).choice(n, n, replace=False), [1_000])


def r2(value, predicted):
    return 1 - np.square(value - predicted).sum() / np.square(value - value.mean()).sum()


def test_linear_equals_the_normal_equations():
    codes, factors = world()
    for seed in range(2):
        train, test = split(seed, len(codes))
        design = np.column_stack([codes, np.ones(len(codes))])
        weights = np.linalg.solve(design[train].T @ design[train], design[train].T @ factors[train])
        own = np.mean([r2(v, p) for v, p in zip(factors[test].T, (design[test] @ weights).T, strict=True)])
        assert metrics.r_squared(codes, factors, **SIZES, seed=seed).linear == pytest.approx(own, abs=1e-6)


def test_boosted_agrees_with_scikit_learns_boosting():
    codes, factors = world()
    found, other = [], []
    for seed in range(2):
        train, test = split(seed, len(codes))
        model = HistGradientBoostingRegressor(random_state=0)
        other += [r2(value[test], model.fit(codes[train], value[train]).predict(codes[test])) for value in factors.T]
        found.append(metrics.r_squared(codes, factors, **SIZES, seed=seed).boosted)
    assert np.mean(found) == pytest.approx(np.mean(other), abs=0.01)


def test_values_are_numbers_and_not_classes():
    rng = np.random.default_rng(2)
    factors = np.array([[0], [1], [100]])[rng.integers(3, size=1_500), 0][:, None]
    assert metrics.r_squared(factors * 0.5, factors, **SIZES).linear == pytest.approx(1.0)
    ranks = np.searchsorted([0, 1, 100], factors).astype(float)
    assert metrics.r_squared(ranks, factors, **SIZES).linear < 0.8
    assert metrics.r_squared(ranks, factors, **SIZES).boosted > 0.99


def test_codes_without_information_score_zero():
    codes, factors = world()
    noise = np.random.default_rng(5).normal(size=codes.shape)
    found = metrics.r_squared(noise, factors, **SIZES)
    assert abs(found.linear) < 0.05 and found.boosted < 0.05
    assert metrics.r_squared(np.zeros_like(codes), factors, **SIZES).boosted == pytest.approx(0.0, abs=0.02)


def test_bad_input():
    codes, factors = world(60)
    with pytest.raises(ValueError, match="codes has 60 rows"):
        metrics.r_squared(codes, factors, num_train=50, num_test=11)
    with pytest.raises(ValueError, match="num_test must be an integer of at least 2"):
        metrics.r_squared(codes, factors, num_train=50, num_test=1)
