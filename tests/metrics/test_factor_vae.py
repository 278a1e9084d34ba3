import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyga.metrics import beta_vae_score, factor_vae_score

SIZES = {"num_train": 1_000, "num_test": 1_000}


def labels(n: int = 3_000, sizes: tuple[int, ...] = (4, 6, 5), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=n) for size in sizes], axis=1)


def test_perfect_codes_score_one_and_each_unit_votes_for_its_factor():
    factors = labels()
    result = factor_vae_score(factors[:, [2, 0, 1]] * [1.0, -30.0, 0.5], factors, **SIZES)
    assert result.score == 1.0
    assert result.votes.sum() == 1_000
    assert result.votes.argmax(axis=1).tolist() == [2, 0, 1]


def test_a_rotation_by_45_degrees_leaves_two_factors_indistinguishable():
    factors = labels(sizes=(5, 5))
    turned = np.stack([factors[:, 0] + factors[:, 1], factors[:, 0] - factors[:, 1]], axis=1).astype(float)
    assert factor_vae_score(turned, factors, **SIZES).score == pytest.approx(0.5, abs=0.06)


def test_values_are_fixed_as_often_as_they_occur():
    # Unit 0 is constant for the common value of factor 0 (90%). For the other value its variance is large: unit 1 gets the vote.
    rng = np.random.default_rng(0)
    factors = np.stack([rng.random(4_000) < 0.1, rng.random(4_000) < 0.5], axis=1).astype(int)
    codes = np.stack([factors[:, 0] * rng.choice([-3.0, 3.0], 4_000), factors[:, 1]], axis=1)
    # Half of the batches fix factor 1 and are all correct. Of the other half, 90% are correct.
    assert factor_vae_score(codes, factors, **SIZES).score == pytest.approx(0.95, abs=0.03)


def test_noise_scores_at_chance():
    factors = labels()
    noise = np.random.default_rng(5).normal(size=(len(factors), 6))
    assert factor_vae_score(noise, factors, **SIZES).score == pytest.approx(1 / 3, abs=0.08)


def test_duplicated_units_do_not_lower_the_score():
    factors = labels()
    assert factor_vae_score(np.hstack([factors, factors]).astype(float), factors, **SIZES).score == 1.0


def test_dropped_units_get_no_votes_and_the_score_without_units_is_zero():
    factors = labels()
    dead = np.full((len(factors), 1), 2.0)
    nearly = 0.02 * np.sign(np.random.default_rng(0).normal(size=(len(factors), 1)))
    result = factor_vae_score(np.hstack([dead, factors, nearly]), factors, **SIZES)
    assert result.active.tolist() == [False, True, True, True, False]
    assert result.score == 1.0
    assert result.votes[[0, 4]].sum() == 0
    nothing = factor_vae_score(np.hstack([dead, nearly]), factors, **SIZES)
    assert nothing.score == 0.0
    assert nothing.votes.shape == (2, 3)


def test_a_single_unit_gets_all_votes():
    factors = labels()
    result = factor_vae_score(factors[:, :1].astype(float), factors, **SIZES)
    assert result.votes.sum() == 1_000
    assert result.score == pytest.approx(1 / 3, abs=0.06)


@settings(max_examples=15)
@given(st.permutations(range(4)), st.lists(st.sampled_from([-4.0, -1.0, 0.5, 8.0]), min_size=4, max_size=4))
def test_factor_vae_ignores_order_sign_and_scale_of_units(order, scale):
    rng = np.random.default_rng(2)
    factors = labels(n=600)
    codes = factors @ rng.normal(size=(3, 4)) + rng.normal(size=(600, 4))
    sizes = {"num_train": 300, "num_test": 200, "batch_size": 8}
    plain = factor_vae_score(codes, factors, **sizes)
    changed = factor_vae_score((codes * scale)[:, order], factors, **sizes)
    assert changed.score == plain.score
    np.testing.assert_array_equal(changed.votes, plain.votes[order])


def test_beta_vae_of_perfect_codes_and_of_noise():
    factors = labels()
    assert beta_vae_score(factors.astype(float), factors, **SIZES).score == 1.0
    noise = np.random.default_rng(5).normal(size=(len(factors), 6))
    assert beta_vae_score(noise, factors, **SIZES).score == pytest.approx(1 / 3, abs=0.08)


def test_beta_vae_separates_factors_even_after_a_general_rotation():
    # A linear classifier suffices, which is a known weakness of this metric.
    factors = labels()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = (factors - factors.mean(axis=0)) / factors.std(axis=0) @ turn
    assert beta_vae_score(turned, factors, **SIZES).score > 0.95


def test_beta_vae_of_constant_codes_and_of_a_single_factor():
    factors = labels()
    assert beta_vae_score(np.zeros((len(factors), 2)), factors, **SIZES).score == pytest.approx(1 / 3, abs=0.06)
    assert beta_vae_score(np.zeros((len(factors), 2)), factors[:, :1], **SIZES).score == 1.0


def test_units_with_a_small_scale_are_dropped():
    factors = labels()
    result = factor_vae_score(factors * [0.001, 1, 1], factors, **SIZES)
    assert not result.active[0] and not result.votes[0].any() and result.active[1:].all()
    assert factor_vae_score(factors * 0.001, factors, **SIZES).score == 0.0
