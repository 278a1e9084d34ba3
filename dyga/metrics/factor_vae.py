"""Metrics from batches in which one factor is fixed: FactorVAE score and BetaVAE score."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from dyga.metrics._checks import FactorGroups, checked, checked_count, checked_rows

CHUNK = 256  # batches gathered at once: keeps the working set in the processor's cache
DEAD_STD = 0.05  # units with a smaller standard deviation do not vote


@dataclass(frozen=True)
class FactorVAEScore:
    """`score` in [0, 1]; `votes` (units, factors) of the training batches; `active` (units,) bool."""

    score: float
    votes: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class BetaVAEScore:
    """`score`: test accuracy of the linear classifier, chance is 1 / number of factors."""

    score: float


def factor_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 5_000,
    batch_size: int = 64,
    num_variance: int = 10_000,
    scale_codes: bool = False,
    seed: int = 0,
) -> FactorVAEScore:
    """FactorVAE score (Kim and Mnih 2018) of codes (n, units) for factors (n, factors).

    Each vote comes from `batch_size` rows that share the value of one factor: the unit with the least
    variance relative to its global variance (of `num_variance` rows, or all if there are fewer).
    `num_train` votes make the majority table, and the score is its accuracy on `num_test` more. Units with
    a global standard deviation below 0.05 are dropped, by the protocol whatever the codes' scale; with `scale_codes` below 0.05
    of the widest unit's. The score is 0.0 when none is left. A single active
    unit gets all votes, so its score is near 1 / number of factors. Raises ValueError for unfit input or
    fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    checked_rows(len(codes), "codes", num_train=num_train, num_test=num_test)
    checked_count(batch_size, "batch_size", least=2)
    checked_count(num_variance, "num_variance", least=2)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(codes), min(num_variance, len(codes)), replace=False)
    variance = codes[rows].var(axis=0, ddof=1)
    widest = max(variance.max(), np.finfo(float).tiny) if scale_codes else 1.0
    active = np.sqrt(variance / widest) >= DEAD_STD
    num_units, num_factors = codes.shape[1], labels.shape[1]
    if not active.any():
        return FactorVAEScore(0.0, np.zeros((num_units, num_factors), dtype=np.int64), active)

    standard = codes[:, active] / np.sqrt(variance[active])
    groups = FactorGroups.of(labels)
    factor = rng.integers(num_factors, size=num_train + num_test)
    vote = np.empty_like(factor)
    for at in range(0, len(factor), CHUNK):
        held = factor[at : at + CHUNK, None]
        # A random row sets the held value, so that values count as often as they occur in the data.
        example = np.broadcast_to(rng.integers(len(codes), size=held.shape), (len(held), batch_size))
        batch = standard[groups.sharing(held, example, rng)]
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

    A point is the mean absolute difference of `batch_size` pairs of rows that share factor k; logistic
    regression (scikit-learn's default) learns k from `num_train` points and is tested on `num_test`. A
    single factor scores 1.0 by definition, constant units score at chance. Raises ValueError for unfit
    input or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    checked_rows(len(codes), "codes", num_train=num_train, num_test=num_test)
    checked_count(batch_size, "batch_size")
    if labels.shape[1] == 1:
        return BetaVAEScore(1.0)
    rng = np.random.default_rng(seed)
    groups = FactorGroups.of(labels)
    factor = rng.integers(labels.shape[1], size=num_train + num_test)
    points = np.empty((len(factor), codes.shape[1]))
    for at in range(0, len(factor), CHUNK):
        held = factor[at : at + CHUNK, None]
        first = rng.integers(len(codes), size=(len(held), batch_size))
        second = groups.sharing(held, first, rng)
        points[at : at + CHUNK] = np.abs(codes[first] - codes[second]).mean(axis=1)
    with warnings.catch_warnings():
        # The protocol stops after the default number of iterations, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression().fit(points[:num_train], factor[:num_train])
    return BetaVAEScore(float(model.score(points[num_train:], factor[num_train:])))
