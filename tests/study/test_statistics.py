import math
from itertools import combinations

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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(p):
    """A question's adjusted p is the largest Bonferroni p of all sets of questions that contain it."""
    sets = [each for size in range(1, len(p) + 1) for each in combinations(range(len(p)), size)]
    closed = [max(min(1, len(each) * min(p[i] for i in each)) for each in sets if question in each) for question in range(len(p))]
    assert holm(p) == pytest.approx(closed)


def test_one_seed_has_no_interval():
    result = paired_difference([0.9], [0.4])
    assert result.low == -math.inf and result.high == math.inf and result.p == 1
    assert str(result) == "+0.500 (one seed: no interval)"


@pytest.mark.parametrize("a, b", [([], []), ([1.0], [1.0, 2.0])])
def test_sides_of_different_length(a, b):
    with pytest.raises(ValueError, match=r"scores has shape .*: valid are equal ones, \(seeds,\)"):
        paired_difference(a, b)


@pytest.mark.parametrize("strata", [[], [np.array([])], [np.array([0.1]), np.array([])], [np.array([np.nan])]])
def test_strata_without_a_finite_difference(strata):
    with pytest.raises(ValueError, match="must be finite, with at least one difference in each stratum"):
        stratified_difference(strata)


differences = st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=5).map(np.array), min_size=1, max_size=4)


@given(differences, st.randoms(use_true_random=False), st.floats(-1, 1), st.floats(0.1, 10))
def test_order_place_and_scale_of_differences(strata, random, shift, scale):
    found = stratified_difference(strata)
    shuffled = [np.array(random.sample(each.tolist(), len(each))) for each in random.sample(strata, len(strata))]
    again = stratified_difference(shuffled)
    assert (again.mean, again.low, again.high) == pytest.approx((found.mean, found.low, found.high), abs=1e-9)
    moved = stratified_difference([each + shift for each in strata])
    assert (moved.mean, moved.low, moved.high) == pytest.approx(
        (found.mean + shift, found.low + shift, found.high + shift), abs=1e-6
    )
    larger = stratified_difference([scale * each for each in strata])
    assert (larger.mean, larger.low) == pytest.approx((scale * found.mean, scale * found.low), abs=1e-6)


@given(differences)
def test_p_is_below_5_percent_where_the_interval_excludes_0(strata):
    found = stratified_difference(strata)
    nearest = min(abs(found.low), abs(found.high))
    if nearest > 1e-9:  # not on the border
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_differences_without_spread():
    assert paired_difference([0.5, 0.5], [0.5, 0.5]).p == 1
    certain = paired_difference([0.5, 0.5], [0.25, 0.25])
    assert (certain.p, certain.low, certain.high) == (0, 0.25, 0.25) and str(certain) == "+0.250 [+0.250, +0.250]"


def test_seeds_needed_are_those_of_the_power_tables():
    """Cohen (1988): a paired t test at 5% with power .8 needs 34 pairs for half a standard deviation, 199 for a fifth."""
    five = np.array([-2, -1, 0, 1, 2]) / np.std([-2, -1, 0, 1, 2], ddof=1)
    assert seeds_needed(five + 1, np.zeros(5)) == 34
    assert seeds_needed(five + 0.4, np.zeros(5)) == pytest.approx(199, abs=1)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6), st.floats(0.1, 10))
def test_seeds_needed_do_not_depend_on_scale_and_sign(scores, scale):
    scores = np.round(np.array(scores), 3)
    needed = seeds_needed(scores, 0 * scores)
    if np.ptp(scores) and needed:
        assert needed == seeds_needed(0 * scores, scores) and needed == pytest.approx(
            seeds_needed(scale * scores, 0 * scores), abs=1
        )


def test_seeds_needed_for_nothing_and_for_certainty():
    assert seeds_needed([0.1, -0.1], [0, 0]) is None
    assert seeds_needed([0.5, 0.5], [0, 0]) == 2 and seeds_needed([0.5, 0.5], [0.5, 0.5]) is None
    with pytest.raises(ValueError, match="at least two seeds"):
        seeds_needed([0.5], [0])
