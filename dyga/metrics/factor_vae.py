"""FactorVAE score and BetaVAE score: metrics from batches of rows that share the value of one factor."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from dyga.metrics._checks import FactorGroups, check_count, checked, convergence_warnings_ignored

CHUNK = 256  # number of batches processed at once, small enough for the processor's cache
MIN_STD = 0.05  # units with a smaller standard deviation are dropped


@dataclass(frozen=True)
class FactorVAEScore:
    """Result of `factor_vae_score`: `score` in [0, 1], training `votes` (units, factors), and `active` (units,) bool."""

    score: float
    votes: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class BetaVAEScore:
    """Result of `beta_vae_score`: `score` is the test accuracy of the linear classifier. Chance is 1 / number of factors."""

    score: float


def factor_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 5_000,
    batch_size: int = 64,
    num_variance: int = 10_000,
    seed: int = 0,
) -> FactorVAEScore:
    """FactorVAE score (Kim and Mnih 2018) of codes (n, units) for factors (n, factors).

    Each vote is a batch of `batch_size` rows that share the value of one factor. It goes to the unit with the least variance in
    the batch, relative to its global variance over `num_variance` rows (all rows if there are fewer). `num_train` votes give the
    majority factor of each unit. The score is the accuracy of this table on `num_test` more votes.

    Units with a global standard deviation below 0.05 are dropped, as in the protocol, whatever the scale of the codes. The
    score is 0.0 if no unit is left. A single active unit gets all votes, so its score is near 1 / number of factors. Batches are
    drawn with replacement, so any number of rows will do. Raises ValueError for invalid input.
    """
    codes, labels = checked(codes, factors)
    check_count(num_train, "num_train")
    check_count(num_test, "num_test")
    check_count(batch_size, "batch_size", least=2)
    check_count(num_variance, "num_variance", least=2)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(codes), min(num_variance, len(codes)), replace=False)
    variance = codes[rows].var(axis=0, ddof=1)
    active = np.sqrt(variance) >= MIN_STD
    num_units, num_factors = codes.shape[1], labels.shape[1]
    if not active.any():
        return FactorVAEScore(0.0, np.zeros((num_units, num_factors), dtype=np.int64), active)

    standard = codes[:, active] / np.sqrt(variance[active])
    groups = FactorGroups.from_labels(labels)
    factor = rng.integers(num_factors, size=num_train + num_test)
    vote = np.empty_like(factor)
    for at in range(0, len(factor), CHUNK):
        fixed = factor[at : at + CHUNK, None]
        # A random row gives the fixed value, so values are drawn as often as they occur in the data.
        example = np.broadcast_to(rng.integers(len(codes), size=fixed.shape), (len(fixed), batch_size))
        batch = standard[groups.sample_sharing(fixed, example, rng)]
        vote[at : at + CHUNK] = batch.var(axis=1, ddof=1).argmin(axis=1)

    vote = np.flatnonzero(active)[vote]
    votes = np.zeros((num_units, num_factors), dtype=np.int64)
    np.add.at(votes, (vote[:num_train], factor[:num_train]), 1)
    correct = votes.argmax(axis=1)[vote[num_train:]] == factor[num_train:]
    return FactorVAEScore(float(correct.mean()), votes, active)


def beta_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 5_000,
    batch_size: int = 64,
    seed: int = 0,
) -> BetaVAEScore:
    """BetaVAE score (Higgins et al. 2017) of codes (n, units) for factors (n, factors).

    A point is the mean absolute difference of `batch_size` pairs of rows that share the value of factor k. Logistic regression
    (scikit-learn's defaults) predicts k. It is fitted on `num_train` points and tested on `num_test`. A single factor scores 1.0
    by definition. Constant units score at chance level. Pairs are drawn with replacement, so any number of rows will do. Raises
    ValueError for invalid input.
    """
    codes, labels = checked(codes, factors)
    check_count(num_train, "num_train")
    check_count(num_test, "num_test")
    check_count(batch_size, "batch_size")
    if labels.shape[1] == 1:
        return BetaVAEScore(1.0)
    rng = np.random.default_rng(seed)
    groups = FactorGroups.from_labels(labels)
    factor = rng.integers(labels.shape[1], size=num_train + num_test)
    points = np.empty((len(factor), codes.shape[1]))
    for at in range(0, len(factor), CHUNK):
        fixed = factor[at : at + CHUNK, None]
        first = rng.integers(len(codes), size=(len(fixed), batch_size))
        second = groups.sample_sharing(fixed, first, rng)
        points[at : at + CHUNK] = np.abs(codes[first] - codes[second]).mean(axis=1)
    with convergence_warnings_ignored():
        model = LogisticRegression().fit(points[:num_train], factor[:num_train])
    return BetaVAEScore(float(model.score(points[num_train:], factor[num_train:])))
