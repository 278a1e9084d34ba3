import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dyga.metrics import modularity_explicitness

SIZES = {"num_train": 1_200, "num_test": 600}


def bits(columns: int = 3, n: int = 2_000) -> np.ndarray:
    return np.random.default_rng(0).integers(2, size=(n, columns))


def test_perfect_codes_are_modular_and_explicit():
    factors = bits()
    result = modularity_explicitness(factors * -3.0, factors, **SIZES)
    assert result.modularity == pytest.approx(1.0, abs=0.001)
    assert result.explicitness == 1.0


@pytest.mark.parametrize(("columns", "expected"), [(2, 0.0), (3, 0.5), (5, 0.75)])
def test_modularity_of_a_unit_that_encodes_two_factors(columns, expected):
    # Two equal squared terms give 1 - 1 / (factors - 1).
    factors = bits(columns)
    codes = (factors[:, :1] + 2 * factors[:, 1:2]).astype(float)
    assert modularity_explicitness(codes, factors, **SIZES).modularity == pytest.approx(expected, abs=0.01)


def test_modularity_of_constant_units_and_of_a_single_factor():
    factors = bits()
    codes = np.hstack([np.zeros((2_000, 1)), factors])
    assert modularity_explicitness(codes, factors, **SIZES).modularity == pytest.approx(0.75, abs=0.001)
    nothing = modularity_explicitness(np.zeros((2_000, 2)), factors, **SIZES)
    assert nothing.modularity == 0.0
    assert nothing.explicitness == 0.5
    assert modularity_explicitness(codes[:, 1:], factors[:, :1], **SIZES).modularity == 1.0


def test_explicitness_of_noise_is_chance_and_of_a_gaussian_shift_is_known():
    factors = bits(1)
    noise = np.random.default_rng(2).normal(size=(2_000, 1))
    assert modularity_explicitness(noise, factors, **SIZES).explicitness == pytest.approx(0.5, abs=0.06)
    # Two Gaussians with unit variance and means 1 apart have AUC = Phi(1 / sqrt 2), for both values.
    shifted = modularity_explicitness(noise + factors, factors, **SIZES).explicitness
    assert shifted == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.05)


def test_values_missing_from_a_split_are_left_out():
    factors = bits()
    factors[:3, 0] = [7, 8, 9]
    result = modularity_explicitness(factors.astype(float), factors, **SIZES)
    assert 0.9 < result.explicitness <= 1.0


def test_multinomial_explicitness_is_the_mean_auc_of_each_value():
    rng = np.random.default_rng(4)
    factors = rng.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(3_000, 2))
    codes = np.stack([factors[:, 0] % 2, factors[:, 0] // 2, factors[:, 1]], axis=1) + 0.8 * rng.normal(size=(3_000, 3))
    own = []
    train, test = np.arange(2_000), np.arange(2_000, 3_000)
    for label in factors.T:
        probability = LogisticRegression(max_iter=1_000).fit(codes[train], label[train]).predict_proba(codes[test])
        own.append(roc_auc_score(label[test], probability, multi_class="ovr", average="macro"))
    sizes = {"num_train": 2_000, "num_test": 1_000}
    found = [modularity_explicitness(codes, factors, classifier="multinomial", seed=seed, **sizes) for seed in range(3)]
    assert np.mean([result.explicitness for result in found]) == pytest.approx(np.mean(own), abs=0.01)
    other = modularity_explicitness(codes, factors, **sizes)
    assert other.modularity == found[0].modularity and other.explicitness < found[0].explicitness
    with pytest.raises(ValueError, match='classifier must be "one_vs_rest" or "multinomial", got \'svm\''):
        modularity_explicitness(codes, factors, classifier="svm", **sizes)
