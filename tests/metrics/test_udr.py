import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import Lasso

from dyga import metrics


def given_matrix(matrix):
    """A similarity function that returns a fixed matrix for the first model and the second, and its transpose the other way."""
    return lambda one, other: matrix if np.shape(one)[1:] == matrix.shape[:1] else matrix.T


def independent(n=4_000, units=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, units))


def test_the_paper_s_formula_by_hand():
    """Two units of one model and three of the other."""
    matrix = np.array([[0.9, 0.1, 0.0], [0.3, 0.4, 0.8]])
    rows = [0.81 / 1.0, 0.64 / 1.5]
    columns = [0.81 / 1.2, 0.16 / 0.5, 0.64 / 0.8]
    codes = [independent(units=2), independent(units=3)]
    found = metrics.udr(codes, similarity=given_matrix(matrix))
    assert found.pairwise[0, 1] == pytest.approx(sum(rows + columns) / 5)
    assert found.pairwise[1, 0] == found.pairwise[0, 1] and np.isnan(np.diag(found.pairwise)).all()
    assert found.match[0][:, 1].tolist() == [0, 2] and found.match[1][:, 0].tolist() == [0, -1, 1]
    assert found.similarity[1][:, 0].tolist() == [0.9, 0.0, 0.8]
    assert found.recurrence[0].tolist() == [1.0, 1.0] and found.recurrence[1].tolist() == [1.0, 0.0, 1.0]
    high = metrics.udr(codes, similarity=given_matrix(matrix), threshold=0.85)
    assert high.recurrence[0].tolist() == [1.0, 0.0]


def test_units_are_assigned_one_to_one():
    """Both units of the first model resemble the same unit most; the sum decides which one gets it."""
    matrix = np.array([[0.9, 0.8], [0.85, 0.1]])
    found = metrics.udr([independent(units=2), independent(units=2)], similarity=lambda one, other: matrix)
    assert found.match[0][:, 1].tolist() == [1, 0]


def test_a_model_s_score_is_the_median_over_the_others_and_recurrence_a_share():
    codes = independent()
    models = [codes, -codes[:, ::-1], np.exp(codes), independent(seed=1)]
    found = metrics.udr(models)
    assert found.score == pytest.approx(np.nanmedian(found.pairwise, axis=1))
    assert found.score[:3].min() > 0.9 and found.score[3] < 0.1
    assert found.recurrence[0].tolist() == pytest.approx([2 / 3] * 3) and found.recurrence[3].tolist() == [0, 0, 0]
    assert found.match[0][:, 1].tolist() == [2, 1, 0]


def test_similarities_are_those_of_scipy_and_scikit_learn():
    codes = independent()
    other = codes @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.2, 0.0, 1.0]])
    expected = np.array([[abs(spearmanr(a, b).statistic) for b in other.T] for a in codes.T])
    assert metrics.udr([codes, other]).similarity[0][:, 1] == pytest.approx(np.diag(expected), abs=1e-9)

    def standard(x):
        return (x - x.mean(axis=0)) / x.std(axis=0)

    weights = [Lasso(alpha=0.1).fit(standard(codes), column).coef_ for column in standard(other).T]
    lasso = metrics.udr([codes, other], similarity="lasso")
    assert lasso.similarity[0][:, 1] == pytest.approx(np.abs(np.diag(weights)), abs=1e-6)


@settings(max_examples=20)
@given(st.permutations(range(4)), st.lists(st.sampled_from([-2.0, -1.0, 1.0, 3.0]), min_size=4, max_size=4), st.integers(0, 9))
def test_order_sign_and_scale_of_units_do_not_matter(order, scale, seed):
    codes = independent(500, 4, seed)
    mixed = codes @ np.random.default_rng(seed).normal(size=(4, 4))
    everything = [np.ones(4, bool)] * 2
    first, second = (metrics.udr([codes, other], active=everything) for other in (mixed, mixed[:, order] * scale))
    assert first.pairwise[0, 1] == pytest.approx(second.pairwise[0, 1])
    assert np.array(order)[second.match[0][:, 1]].tolist() == first.match[0][:, 1].tolist()
    assert second.similarity[0][:, 1] == pytest.approx(first.similarity[0][:, 1])


@settings(max_examples=10)
@given(st.integers(1, 6), st.integers(0, 9))
def test_identical_models_recur_and_independent_ones_do_not(units, seed):
    codes = independent(3_000, units, seed)
    same, different = metrics.udr([codes, codes]), metrics.udr([codes, independent(3_000, units, seed + 100)])
    assert same.score == pytest.approx(1.0, abs=0.15) and same.recurrence[0].tolist() == [1.0] * units
    assert same.match[0][:, 1].tolist() == list(range(units))
    assert different.score.max() < 0.1 and different.recurrence[0].max() == 0
    # A lattice: its units are exactly uncorrelated.
    lattice = np.stack(np.meshgrid(*[range(3)] * units), axis=-1).reshape(-1, units)
    assert metrics.udr([lattice, lattice]).score == pytest.approx(1.0)


def test_inactive_and_constant_units_are_left_out():
    codes = independent(units=4)
    codes[:, 1] = 7.0
    codes[:, 3] *= 0.01
    found = metrics.udr([codes, codes])
    assert np.isnan(found.recurrence[0]).tolist() == [False, True, False, True]
    assert np.isnan(found.similarity[0][1]).all() and found.match[0][1].tolist() == [-1, -1]
    assert found.pairwise[0, 1] == pytest.approx(1.0, abs=0.1)
    chosen = metrics.udr([codes, codes], active=[np.array([0, 0, 1, 1], bool)] * 2)
    assert np.isnan(chosen.recurrence[0]).tolist() == [True, True, False, False]
    nothing = metrics.udr([codes, np.ones((len(codes), 2))])
    assert nothing.score.tolist() == [0.0, 0.0] and nothing.recurrence[0][0] == 0


def test_bad_input():
    codes = independent(50)
    with pytest.raises(ValueError, match="two or more models for the same images, got arrays of 50 rows"):
        metrics.udr([codes])
    with pytest.raises(ValueError, match="got arrays of 50, 49 rows"):
        metrics.udr([codes, codes[1:]])
    with pytest.raises(ValueError, match="similarity must be spearman, lasso or a function, got 'kendall'"):
        metrics.udr([codes, codes], similarity="kendall")
    with pytest.raises(ValueError, match="one mask"):
        metrics.udr([codes, codes], active=[np.ones(3, bool)])
    with pytest.raises(ValueError, match=r"codes\[1\] must have shape \(n, units\)"):
        metrics.udr([codes, codes[..., None]])
