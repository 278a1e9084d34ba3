"""Downstream probes: accuracy of boosted trees that predict the factors from the codes, by number of training samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from joblib import Parallel, delayed
from lightgbm import LGBMClassifier
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics._checks import checked


@dataclass(frozen=True)
class SampleEfficiency:
    """`accuracy` (sizes, factors) on the test rows, and `efficiency` (sizes,).

    Efficiency is the mean accuracy at a size divided by that at the largest size.
    """

    sizes: tuple[int, ...]
    accuracy: np.ndarray
    efficiency: np.ndarray


def sample_efficiency(
    codes: np.ndarray,
    factors: np.ndarray,
    sizes: Sequence[int] = (100, 1_000, 10_000),
    *,
    num_test: int = 5_000,
    estimator: Literal["sklearn", "lightgbm"] = "sklearn",
    n_jobs: int = 1,
    seed: int = 0,
) -> SampleEfficiency:
    """Accuracy of gradient boosting on `sizes` rows of codes (n, units), per column of factors (n, factors).

    Protocol of Locatello et al. 2019: one classifier per factor and size, tested on the same
    `num_test` rows; a smaller training set is the start of the larger one. "sklearn" is the reference, with
    `n_jobs` fits at a time; "lightgbm" is much faster, with `n_jobs` threads. A factor with one
    value among the training rows is predicted to have that value. Raises ValueError for unfit input or
    fewer than max(sizes) + num_test rows.
    """
    codes, factors = checked(codes, factors)
    sizes = tuple(int(size) for size in sizes)
    if not sizes or min(sizes) < 1 or num_test < 1:
        raise ValueError(f"sizes and num_test must be at least 1, got sizes {sizes} and num_test {num_test}")
    if estimator not in ("sklearn", "lightgbm"):
        raise ValueError(f'estimator must be "sklearn" or "lightgbm", got {estimator!r}')
    needed = max(sizes) + num_test
    if len(codes) < needed:
        raise ValueError(f"codes has {len(codes)} rows: at least {needed} are needed (max(sizes) + num_test)")
    rows = np.random.default_rng(seed).choice(len(codes), needed, replace=False)
    test, train = rows[:num_test], rows[num_test:]
    jobs = [(train[:size], factor) for size in sizes for factor in factors.T]
    fits = Parallel(n_jobs=n_jobs if estimator == "sklearn" else 1)(
        delayed(_accuracy)(_classifier(estimator, n_jobs, seed), codes[some], factor[some], codes[test], factor[test])
        for some, factor in jobs
    )
    accuracy = np.array(fits).reshape(len(sizes), -1)
    mean = accuracy.mean(axis=1)
    best = mean[np.argmax(sizes)]
    return SampleEfficiency(sizes, accuracy, mean / best if best > 0 else np.zeros_like(mean))


def _classifier(estimator: str, n_jobs: int, seed: int) -> GradientBoostingClassifier | LGBMClassifier:
    if estimator == "sklearn":
        return GradientBoostingClassifier(random_state=seed)
    # Depth, trees, learning rate and leaves of one row (which 100 codes need) as in scikit-learn's default.
    return LGBMClassifier(
        max_depth=3,
        num_leaves=8,
        min_child_samples=1,
        n_estimators=100,
        learning_rate=0.1,
        deterministic=True,
        force_row_wise=True,
        random_state=seed,
        n_jobs=n_jobs,
        verbose=-1,
    )


def _accuracy(
    model: GradientBoostingClassifier | LGBMClassifier,
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
) -> float:
    if (train_label == train_label[0]).all():  # a rare value can be missing from a small training set
        return float(np.mean(test_label == train_label[0]))
    return float(np.mean(model.fit(train, train_label).predict(test) == test_label))
