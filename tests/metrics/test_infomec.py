import numpy as np
import pytest

from dyga.metrics import infomec

SIZE = {"num_train": 800}


def world(columns: int = 3, n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Binary factors, and codes that each encode one factor with little noise compared with the gap between its values."""
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(n, columns))
    return factors + 0.02 * rng.normal(size=factors.shape), factors


def test_perfect_codes():
    codes, factors = world()
    result = infomec(codes, factors, **SIZE)
    np.testing.assert_allclose(result.nmi, np.eye(3), atol=0.06)
    assert result.modularity > 0.9
    assert result.compactness > 0.9
    assert result.explicitness == pytest.approx(1.0, abs=0.01)


def test_duplicated_units_are_modular_but_not_compact():
    codes, factors = world(2, 4_000)
    result = infomec(np.hstack([codes, codes]), factors, num_train=4_000)
    assert result.modularity > 0.9
    # The largest of four shares is 1/2: (1/2 - 1/4) / (1 - 1/4).
    assert result.compactness == pytest.approx(1 / 3, abs=0.03)


def test_scores_follow_from_the_matrix_of_active_units():
    codes, factors = world()
    rng = np.random.default_rng(1)
    codes = np.hstack([codes @ rng.normal(size=(3, 3)), 0.01 * rng.normal(size=(900, 1))])
    result = infomec(codes, factors, **SIZE)
    assert result.active.tolist() == [True, True, True, False]
    assert result.nmi.shape == (4, 3)
    rows = result.nmi[:3]
    shares = np.mean([max(row) / sum(row) for row in rows])
    assert result.modularity == pytest.approx((shares - 1 / 3) / (2 / 3))
    shares = np.mean([max(column) / sum(column) for column in rows.T])
    assert result.compactness == pytest.approx((shares - 1 / 3) / (2 / 3))


def test_an_even_mixture_of_two_factors_is_not_modular():
    codes, factors = world(2, 4_000)
    both = codes[:, :1] + 2 * codes[:, 1:]
    result = infomec(both, factors, num_train=4_000)
    assert result.modularity == pytest.approx(0.0, abs=0.02)
    assert result.compactness == 1.0  # a single active unit
    assert result.explicitness > 0.4


def test_explicitness_of_a_symmetric_gaussian_shift():
    # The log-odds are linear, so the regression reaches the true conditional entropy, computed here by quadrature.
    rng = np.random.default_rng(4)
    factors = rng.permutation(np.repeat([0, 1], 5_000))[:, None]
    codes = 2.0 * factors - 1.0 + rng.normal(size=(10_000, 1))
    x = np.linspace(-9, 9, 20_001)
    density = np.exp(-((x - 1) ** 2) / 2) / np.sqrt(2 * np.pi)
    loss = np.trapezoid(density * np.log1p(np.exp(-2 * x)), x)
    assert infomec(codes, factors).explicitness == pytest.approx(1 - loss / np.log(2), abs=0.03)


def test_scores_are_defined_without_information():
    _, factors = world()
    result = infomec(np.ones((900, 2)), factors, **SIZE)
    assert (result.modularity, result.compactness) == (0.0, 0.0)
    assert result.explicitness == pytest.approx(0.0, abs=1e-6)
    assert not result.active.any()
    noise = infomec(np.random.default_rng(0).normal(size=(900, 4)), factors, **SIZE)
    assert noise.explicitness < 0.03
    assert noise.nmi.max() < 0.1


def test_single_factor():
    codes, factors = world()
    assert infomec(codes[:, :1], factors[:, :1], **SIZE).modularity == 1.0


def test_a_factor_of_which_each_row_has_its_own_value_has_no_information():
    codes, factors = world(n=60)
    factors[:, 0] = np.arange(60)
    assert infomec(codes, factors, num_train=60).nmi[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_order_sign_and_scale_of_one_common_factor_do_not_matter():
    codes, factors = world()
    codes = codes @ np.random.default_rng(1).normal(size=(3, 3))
    plain = infomec(codes, factors, **SIZE)
    changed = infomec(codes[:, [2, 0, 1]] * -8.0, factors, **SIZE)
    # The estimator adds a small noise that differs by unit, so the match is close but not exact.
    np.testing.assert_allclose(changed.nmi, plain.nmi[[2, 0, 1]], atol=0.01)
    assert changed.explicitness == pytest.approx(plain.explicitness, abs=1e-3)


def test_explicitness_on_held_out_rows_is_not_raised_by_overfitting():
    rng = np.random.default_rng(2)
    codes, factors = rng.normal(size=(400, 40)), rng.integers(2, size=(400, 2))
    on_train = infomec(codes, factors, num_train=200).explicitness
    held_out = infomec(codes, factors, num_train=200, num_test=200).explicitness
    assert on_train > 0.05 > 0 > held_out  # uninformative units: the overfitted model is worse than the null model
    clean, known = world()
    assert infomec(clean, known, num_train=500, num_test=400).explicitness == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match=r"num_train \+ num_test"):
        infomec(codes, factors, num_train=300, num_test=200)
