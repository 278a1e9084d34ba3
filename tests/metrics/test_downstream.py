import numpy as np
import pytest
from joblib import parallel_config
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics import sample_efficiency


def world(n: int = 900, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(3, size=n), rng.integers(4, size=n)], axis=1)
    return factors + noise * rng.normal(size=(n, 2)), factors


@pytest.mark.parametrize("estimator", ["sklearn", "lightgbm"])
def test_perfect_codes_have_perfect_accuracy_at_every_size(estimator):
    codes, factors = world(noise=0.0)
    result = sample_efficiency(codes, factors, (60, 200), num_test=300, estimator=estimator)
    np.testing.assert_array_equal(result.accuracy, 1.0)
    np.testing.assert_array_equal(result.efficiency, 1.0)


def test_efficiency_is_relative_to_the_largest_size_in_any_order():
    codes, factors = world()
    result = sample_efficiency(codes, factors, (400, 15, 60), num_test=400, estimator="lightgbm")
    assert result.sizes == (400, 15, 60)
    assert result.accuracy.shape == (3, 2)
    mean = result.accuracy.mean(axis=1)
    np.testing.assert_allclose(result.efficiency, mean / mean[0])
    assert mean[1] < mean[2] < mean[0]


def test_reference_is_scikit_learns_default_fitted_on_rows_outside_the_test_set():
    codes, factors = world()
    result = sample_efficiency(codes, factors, (200, 100), num_test=700, seed=5)
    rows = np.random.default_rng(5).choice(900, 900, replace=False)
    test, train = rows[:700], rows[700:800]
    model = GradientBoostingClassifier(random_state=5).fit(codes[train], factors[train, 1])
    assert result.accuracy[1, 1] == model.score(codes[test], factors[test, 1])


def test_lightgbm_agrees_with_the_reference():
    codes, factors = world(1_500)
    keywords = {"sizes": (100, 500), "num_test": 1_000}
    reference = sample_efficiency(codes, factors, **keywords)
    fast = sample_efficiency(codes, factors, estimator="lightgbm", **keywords)
    np.testing.assert_allclose(fast.accuracy, reference.accuracy, atol=0.05)


def test_noise_has_chance_accuracy():
    _, factors = world()
    noise = np.random.default_rng(1).normal(size=(900, 3))
    result = sample_efficiency(noise, factors, (200,), num_test=600, estimator="lightgbm")
    np.testing.assert_allclose(result.accuracy[0], [1 / 3, 1 / 4], atol=0.06)


def test_a_value_missing_from_a_small_training_set():
    factors = np.zeros((500, 1), dtype=int)
    factors[::50] = 1  # ten of 500
    codes = factors.astype(float)
    result = sample_efficiency(codes, factors, (2, 250), num_test=250, estimator="lightgbm", seed=0)
    rows = np.random.default_rng(0).choice(500, 500, replace=False)
    assert factors[rows[250:252]].max() == 0
    assert result.accuracy[0, 0] == 1 - factors[rows[:250]].mean()
    assert result.accuracy[1, 0] > result.accuracy[0, 0] - 1e-12


def test_same_seed_same_bits_for_any_number_of_jobs():
    codes, factors = world(300)
    for estimator in ("sklearn", "lightgbm"):
        keywords = {"sizes": (50,), "num_test": 200, "estimator": estimator, "seed": 1}
        with parallel_config("threading"):  # starting processes takes seconds
            runs = [sample_efficiency(codes, factors, n_jobs=jobs, **keywords) for jobs in (1, 2)]
        np.testing.assert_array_equal(runs[0].accuracy, runs[1].accuracy)
    other = sample_efficiency(codes, factors, (50,), num_test=200, estimator="lightgbm", seed=2)
    assert (other.accuracy != runs[0].accuracy).any()


def test_too_few_rows():
    codes, factors = world(249)
    with pytest.raises(ValueError, match=r"codes has 249 rows: at least 250 are needed \(max\(sizes\) \+ num_test\)"):
        sample_efficiency(codes, factors, (50, 10), num_test=200)


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        ({"sizes": ()}, r"max\(sizes\)"),
        ({"sizes": (0, 10)}, "each of sizes"),
        ({"sizes": (2.5, 10)}, "each of sizes"),
        ({"num_test": 0}, "num_test"),
    ],
)
def test_sizes_out_of_range(keywords, name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got"):
        sample_efficiency(*world(), **keywords)


def test_unknown_estimator():
    with pytest.raises(ValueError, match='estimator must be "sklearn" or "lightgbm", got \'tree\''):
        sample_efficiency(*world(), (10,), num_test=10, estimator="tree")
