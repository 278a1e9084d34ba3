"""Every metric refuses invalid input with a message that names the argument."""

import numpy as np
import pytest

from dyga import metrics

SMALL = {"num_train": 60, "num_test": 30}
TRAIN = {"num_train": 60}
BOTH_SPLITS = [
    (metrics.factor_vae_score, SMALL),
    (metrics.beta_vae_score, SMALL),
    (metrics.dci, {**SMALL, "estimator": "lightgbm"}),
    (metrics.sap, SMALL),
    (metrics.modularity_explicitness, SMALL),
]
TRAIN_ONLY = [
    (metrics.mig, TRAIN),
    (metrics.nmi, TRAIN),
    (metrics.infomec, TRAIN),
    (metrics.total_auroc_difference, TRAIN),
    (metrics.diagnose, TRAIN),
]
FEW_LABELS = (metrics.sample_efficiency, {"sizes": [50], "num_test": 30, "estimator": "lightgbm"})


def named(*metrics_with_keywords) -> list:
    return [pytest.param(function, keywords, id=function.__name__) for function, keywords in metrics_with_keywords]


ALL = named(*BOTH_SPLITS, *TRAIN_ONLY, FEW_LABELS)
REFUSING = ALL + named((metrics.mcc, TRAIN), (metrics.r_squared, SMALL))  # these two take labels as numbers


def world(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Binary factors and noisy copies of them."""
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(n, 3))
    return factors + 0.3 * rng.normal(size=(n, 3)), factors


@pytest.mark.parametrize(("metric", "keywords"), REFUSING)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_codes_that_are_not_finite(metric, keywords, bad):
    codes, factors = world()
    codes[7, 1] = bad
    with pytest.raises(ValueError, match="codes has 1 NaN or infinite values"):
        metric(codes, factors, **keywords)


@pytest.mark.parametrize(("metric", "keywords"), REFUSING)
def test_shapes_and_types(metric, keywords):
    codes, factors = world()
    with pytest.raises(ValueError, match=r"codes must have shape \(n, units\) .* got \(120,\)"):
        metric(codes[:, 0], factors, **keywords)
    with pytest.raises(ValueError, match=r"codes must have shape .* got \(120, 0\)"):
        metric(codes[:, :0], factors, **keywords)
    with pytest.raises(ValueError, match="codes must be numbers, got dtype"):
        metric(codes.astype(str), factors, **keywords)
    with pytest.raises(ValueError, match="factors must be integers, got dtype float64"):
        metric(codes, factors.astype(float), **keywords)
    with pytest.raises(ValueError, match=r"factors must have two dimensions .* got shape \(120,\)"):
        metric(codes, factors[:, 0], **keywords)
    with pytest.raises(ValueError, match="factors has 119 rows, but 120 are needed"):
        metric(codes, factors[:-1], **keywords)


@pytest.mark.parametrize(("metric", "keywords"), REFUSING)
def test_constant_factors(metric, keywords):
    codes, factors = world()
    factors[:, [0, 2]] = 5
    with pytest.raises(ValueError, match=r"factors has constant columns \[0, 2\]: each must take two"):
        metric(codes, factors, **keywords)


@pytest.mark.parametrize(("metric", "keywords"), BOTH_SPLITS[:2])
def test_votes_are_drawn_with_replacement_from_any_number_of_rows(metric, keywords):
    codes, factors = world(20)
    assert metric(codes, factors, num_train=500, num_test=200).score > 0.6
    with pytest.raises(ValueError, match="num_test must be an integer of at least 1, got 0"):
        metric(codes, factors, **{**keywords, "num_test": 0})


@pytest.mark.parametrize(("metric", "keywords"), BOTH_SPLITS[2:])
def test_too_few_rows_for_both_splits(metric, keywords):
    codes, factors = world(89)
    with pytest.raises(ValueError, match=r"codes has 89 rows: at least 90 are needed \(num_train \+ num_test\)"):
        metric(codes, factors, **keywords)
    with pytest.raises(ValueError, match="at least 15000 are needed"):
        metric(codes, factors)
    with pytest.raises(ValueError, match="num_test must be an integer of at least 1, got 0"):
        metric(codes, factors, **{**keywords, "num_test": 0})


@pytest.mark.parametrize(("metric", "keywords"), TRAIN_ONLY)
def test_too_few_rows(metric, keywords):
    codes, factors = world(59)
    with pytest.raises(ValueError, match=r"codes has 59 rows: at least 60 are needed \(num_train\)"):
        metric(codes, factors, **keywords)
    with pytest.raises(ValueError, match=r"num_train must be an integer of at least \d+, got 2\.5"):
        metric(codes, factors, num_train=2.5)


@pytest.mark.parametrize(("metric", "keywords"), ALL)
def test_rare_values_are_among_the_rows_drawn(metric, keywords):
    codes, factors = world(400)
    factors[:, 1:] = 0
    factors[7, 1] = factors[9, 2] = 1
    metric(codes, factors, **keywords)


@pytest.mark.parametrize("num_train", [6, 11, None])
def test_varied_rows_change_as_few_as_needed(num_train):
    random = np.random.default_rng(0)
    for _ in range(200):
        factors = (random.random((50, 3)) < 0.05).astype(int)
        factors[random.integers(50, size=2)] = [[0, 0, 0], [1, 1, 1]]
        rows = random.permutation(50)[:20]
        found = metrics.varied_rows(factors, rows, num_train)
        varies = np.ptp(factors[found[:num_train]], axis=0) > 0
        assert (varies == (np.ptp(factors, axis=0) > 0)).all() and len(set(found)) == 20
        before = np.ptp(factors[rows[:num_train]], axis=0) > 0
        assert (found[:num_train] != rows[:num_train]).sum() <= (~before).sum()


def test_a_factor_that_is_constant_in_too_few_rows_drawn():
    codes, factors = world()
    factors[:, 1:] = 0
    factors[0, 1] = factors[1, 2] = 1
    with pytest.raises(ValueError, match=r"constant columns \[.*2\] in the num_train rows drawn"):
        metrics.mig(codes, factors, num_train=2, seed=1)


@pytest.mark.parametrize(
    ("metric", "argument", "value"),
    [
        (metrics.factor_vae_score, "batch_size", 1),
        (metrics.factor_vae_score, "num_variance", 1),
        (metrics.beta_vae_score, "batch_size", 0),
        (metrics.mig, "num_bins", 1),
        (metrics.modularity_explicitness, "num_bins", True),
        (metrics.infomec, "neighbours", 0),
        (metrics.total_auroc_difference, "thresholds", 1),
    ],
)
def test_counts_out_of_range(metric, argument, value):
    codes, factors = world()
    keywords = dict(BOTH_SPLITS + TRAIN_ONLY)[metric]
    with pytest.raises(ValueError, match=f"{argument} must be an integer of at least"):
        metric(codes, factors, **{**keywords, argument: value})


def test_unknown_estimator():
    codes, factors = world()
    with pytest.raises(ValueError, match='estimator must be "sklearn" or "lightgbm", got \'forest\''):
        metrics.dci(codes, factors, estimator="forest", **SMALL)


@pytest.mark.parametrize(("metric", "keywords"), ALL)
def test_same_seed_same_bits_and_labels_may_be_any_integers(metric, keywords):
    codes, factors = world()
    first = metric(codes, factors, seed=3, **keywords)
    again = metric(codes.copy(), factors * 7 - 2, seed=3, **keywords)
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, name), err_msg=name)


@pytest.mark.parametrize("metric", [metrics.mig, metrics.beta_vae_score, metrics.sap, metrics.factor_vae_score])
def test_another_seed_draws_other_rows(metric):
    rng = np.random.default_rng(1)
    factors = rng.integers(3, size=(400, 2))
    codes = factors @ rng.normal(size=(2, 4)) + 5 * rng.normal(size=(400, 4))
    keywords = TRAIN if metric is metrics.mig else SMALL
    assert len({metric(codes, factors, seed=seed, **keywords).score for seed in range(4)}) > 1
