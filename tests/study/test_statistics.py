import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_rel

from dyga.study.statistics import holm, paired_difference, seeds_needed, stratified_difference, verdict

scores = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


@given(st.data())
def test_the_interval_is_that_of_the_paired_t_test(data):
    count = data.draw(st.integers(3, 8))
    a, b = (np.array(data.draw(st.lists(st.floats(-1, 1), min_size=count, max_size=count))) for _ in range(2))
    if np.ptp(a - b) < 1e-6:
        return
    result = paired_difference(a, b)
    test = ttest_rel(a, b)
    expected = test.confidence_interval(0.95)
    assert result.p == pytest.approx(test.pvalue, abs=1e-9)
    assert result.low == pytest.approx(expected.low, abs=1e-9) and result.high == pytest.approx(expected.high, abs=1e-9)
    assert result.count == count and result.mean == pytest.approx((a - b).mean())


@given(scores, scores)
def test_swapping_the_sides_mirrors_the_interval(a, b):
    a, b = a[: min(len(a), len(b))], b[: min(len(a), len(b))]
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert (one.low, one.mean, one.high) == pytest.approx((-other.high, -other.mean, -other.low))


def test_strata_are_those_of_a_linear_model():
    """The mean of the worlds' intercepts in a least-squares fit of differences on worlds, by its textbook formulas."""
    rng = np.random.default_rng(0)
    strata = [rng.normal(mean, 0.1, count) for mean, count in ((0.1, 5), (0.3, 4), (-0.2, 5))]
    design = np.repeat(np.eye(3), [5, 4, 5], axis=0)
    values, contrast = np.concatenate(strata), np.full(3, 1 / 3)
    fitted, rest, *_ = np.linalg.lstsq(design, values)
    error = np.sqrt(rest[0] / 11 * contrast @ np.linalg.inv(design.T @ design) @ contrast)
    found = stratified_difference(strata)
    assert (found.mean, found.count) == (pytest.approx(contrast @ fitted), 14)
    assert found.high - found.mean == pytest.approx(student.ppf(0.975, 11) * error)
    assert found.p == pytest.approx(2 * student.sf(abs(found.mean) / error, 11))


def test_worlds_that_differ_do_not_widen_the_interval():
    """The question is whether an idea helps in these worlds, so only the seeds of a world vary."""
    seeds = np.array([-0.01, 0, 0.01])
    near, far = stratified_difference([seeds, seeds]), stratified_difference([seeds - 0.5, seeds + 0.5])
    assert (near.low, near.high) == pytest.approx((far.low, far.high))


def test_verdicts():
    assert (verdict(0.3, 0.01), verdict(-0.3, 0.01), verdict(0.3, 0.05)) == ("helps", "hurts", "undecided")
    assert verdict(0.3, math.nan) == "undecided"


def test_holm_adjusts_for_the_number_of_questions():
    # By hand: .01 * 4, .02 * 3, .03 * 2 (not below the one before), .5 * 1.
    assert holm([0.5, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_the_value_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all() and (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_one_seed_has_no_interval():
    result = paired_difference([0.9], [0.4])
    assert result.low == -math.inf and result.high == math.inf and result.p == 1
    assert str(result) == "+0.500 (one seed: no interval)"


@pytest.mark.parametrize("a, b", [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [1.0])])
def test_unfit_input(a, b):
    with pytest.raises(ValueError, match="scores"):
        paired_difference(a, b)


def test_seeds_needed_are_those_of_the_power_tables():
    """Cohen (1988): a paired t test at 5% with power .8 needs 34 pairs for half a standard deviation, 199 for a fifth."""
    five = np.array([-2, -1, 0, 1, 2]) / np.std([-2, -1, 0, 1, 2], ddof=1)
    assert seeds_needed(five + 1, np.zeros(5)) == 34
    assert seeds_needed(five + 0.2, np.zeros(5), share=1.0) == pytest.approx(199, abs=1)


def test_seeds_needed_for_nothing_and_for_certainty():
    assert seeds_needed([0.1, -0.1], [0, 0]) is None
    assert seeds_needed([0.5, 0.5], [0, 0]) == 2 and seeds_needed([0.5, 0.5], [0.5, 0.5]) is None
    with pytest.raises(ValueError, match="at least two seeds"):
        seeds_needed([0.5], [0])
