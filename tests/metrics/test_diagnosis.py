import numpy as np
import pytest

from dyga import metrics

NAMES = ("floor_hue", "shape", "scale")
SIZES = {"num_train": 2_000}


def world(n=2_000):
    """Factors (n, 3), and one clean unit per factor."""
    rng = np.random.default_rng(0)
    factors = rng.integers([10, 4, 8], size=(n, 3))
    return factors + 0.05 * rng.normal(size=factors.shape), factors, rng


def test_one_unit_per_factor():
    codes, factors, _ = world()
    found = metrics.diagnose(codes[:, [2, 0, 1]], factors, NAMES, **SIZES)
    assert found.sentences == ("3 of 3 factors have a unit of their own: floor_hue (unit 1); shape (unit 2); scale (unit 0)",)
    assert np.array_equal(found.follows, np.eye(3, dtype=bool)[[2, 0, 1]])
    assert not found.dead.any()


def test_shared_factors_and_units_of_several():
    codes, factors, rng = world()
    copy = codes[:, 0] + 0.3 * rng.normal(size=len(codes))
    both = factors[:, 1] + 4 * factors[:, 2]
    found = metrics.diagnose(np.stack([codes[:, 0], both, copy], axis=1), factors, NAMES, **SIZES)
    first, shared, several = found.sentences
    assert first == "0 of 3 factors have a unit of their own"
    assert shared.startswith("floor_hue is shared by units 0 and 2 (NMI 1.00 and 0.8")
    assert several.startswith("unit 1 follows shape and scale (NMI ")
    many = metrics.diagnose(codes[:, [0] * 5] * range(1, 6), factors, NAMES, **SIZES)
    assert "floor_hue is shared by units 0 to 4 (NMI 1.00 to 1.00)" in many.sentences


def test_units_without_a_factor():
    codes, factors, rng = world()
    noise = rng.normal(size=(len(codes), 4))
    constant = np.full((len(codes), 1), 0.1) * [1.0, 1.0]
    constant[:, 1] += 1e-9 * noise[:, 0]
    found = metrics.diagnose(np.hstack([codes, noise, constant]), factors, NAMES, **SIZES)
    assert found.sentences[1:] == ("units 3 to 8 carry no factor", "units 7 and 8 are constant")
    assert np.flatnonzero(found.dead).tolist() == [3, 4, 5, 6, 7, 8]
    one = metrics.diagnose(np.hstack([codes, noise[:, :1]]), factors, **SIZES)
    assert one.sentences[1:] == ("unit 3 carries no factor",)
    assert "factor 0 (unit 0)" in one.sentences[0]


def test_factors_that_no_unit_follows():
    _, factors, rng = world()
    bit = rng.integers(2, size=len(factors))
    factors = np.stack([bit, rng.integers(2, size=len(factors)), factors[:, 2]], axis=1)
    # The first factor is the parity of two units, of which neither alone is informative; the second one is nowhere.
    key = rng.integers(2, size=len(factors))
    codes = np.stack([key, key ^ bit, factors[:, 2]], axis=1) + 0.1 * rng.normal(size=(len(factors), 3))
    dci = metrics.dci(codes, factors, num_train=1_000, num_test=500, estimator="lightgbm")
    found = metrics.diagnose(codes, factors, NAMES, dci=dci, **SIZES)
    assert found.sentences[1].startswith("no unit follows floor_hue (best NMI 0.0")
    assert "but it can be read from several together, above all units 0 and 1 (accuracy" in found.sentences[1]
    assert found.sentences[2].startswith("no unit follows shape")
    assert "and all units together predict it little better than chance (accuracy" in found.sentences[2]
    assert "together" not in " ".join(metrics.diagnose(codes, factors, NAMES, **SIZES).sentences)


def test_a_factor_that_is_spread_over_many_units():
    """Twenty units each hold a little of it, and none is important alone."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(2, size=4_000), rng.integers(2, size=4_000)], axis=1)
    codes = 0.25 * factors[:, :1] + rng.normal(size=(4_000, 60))
    codes = np.hstack([codes, factors[:, 1:] + 0.1 * rng.normal(size=(4_000, 1))])
    trees = metrics.dci(codes, factors, num_train=3_000, num_test=1_000, estimator="lightgbm")
    found = metrics.diagnose(codes, factors, ("spread", "own"), dci=trees, num_train=3_000)
    (sentence,) = [each for each in found.sentences if "no unit follows spread" in each]
    assert "but it can be read from many together (accuracy 0." in sentence


def test_a_rare_value_that_is_read_perfectly_is_not_called_chance():
    _, factors, rng = world()
    rare = (rng.random(len(factors)) < 0.05).astype(int)
    key = rng.integers(2, size=len(factors))
    codes = np.stack([key, key ^ rare, factors[:, 2]], axis=1) + 0.01 * rng.normal(size=(len(factors), 3))
    factors = np.stack([rare, factors[:, 2]], axis=1)
    dci = metrics.dci(codes, factors, num_train=1_000, num_test=500, estimator="lightgbm")
    found = metrics.diagnose(codes, factors, NAMES[:2], dci=dci, **SIZES)
    assert dci.accuracy[0] > 0.99 and "but it can be read from several together, above all units 0 and 1" in found.sentences[1]


def test_a_unit_that_an_outlier_hides_from_the_nmi_is_named():
    codes, factors, _ = world()
    codes[0, 0] = 1e6
    dci = metrics.dci(codes, factors, num_train=1_000, num_test=500, estimator="lightgbm")
    found = metrics.diagnose(codes, factors, NAMES, dci=dci, **SIZES).sentences
    assert "no unit follows floor_hue" in found[1] and "but trees read it from unit 0, in finer steps" in found[1]
    assert "no factor" not in " ".join(found)


def test_bad_input():
    codes, factors, _ = world(100)
    with pytest.raises(ValueError, match="factor_names has 2 names, but there are 3 factors"):
        metrics.diagnose(codes, factors, NAMES[:2], num_train=100)
    with pytest.raises(ValueError, match="codes has 100 rows: at least 101"):
        metrics.diagnose(codes, factors, num_train=101)
