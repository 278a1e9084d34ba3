"""Sample efficiency of downstream probes: accuracy of gradient boosting by number of training rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from lightgbm import LGBMClassifier
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics._checks import Estimator, check_count, check_estimator, check_rows, checked


@dataclass(frozen=True)
class SampleEfficiency:
    """Result of `sample_efficiency`: `accuracy` (sizes, factors) on the test rows, and `efficiency` (sizes,).

    Efficiency is the mean accuracy at a size divided by the mean accuracy at the largest size.
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
    estimator: Estimator = "sklearn",
    n_jobs: int = 1,
    seed: int = 0,
) -> SampleEfficiency:
    """Sample efficiency (Locatello et al. 2019) of codes (n, units) for factors (n, factors).

    One gradient boosting classifier per factor and per training size in `sizes`. All are tested on the same `num_test` rows. A
    smaller training set is the start of a larger one. If a factor has one value in the training rows, that value is predicted.

    The estimator "sklearn" is the reference: scikit-learn's defaults. "lightgbm" is much faster. It is LightGBM's own boosting,
    and not the implementation that `dci` uses. `n_jobs` fits run in parallel.

    Raises ValueError for invalid input or fewer than max(sizes) + num_test rows.
    """
    codes, labels = checked(codes, factors)
    check_estimator(estimator)
    for size in sizes:
        check_count(size, "each of sizes")
    check_rows(len(codes), "codes", **{"max(sizes)": max(sizes, default=0), "num_test": num_test})
    rows = np.random.default_rng(seed).choice(len(codes), max(sizes) + num_test, replace=False)
    test, train = rows[:num_test], rows[num_test:]
    fits = Parallel(n_jobs=n_jobs)(
        delayed(_accuracy)(_classifier(estimator, seed), codes[train[:size]], label[train[:size]], codes[test], label[test])
        for size in sizes
        for label in labels.T
    )
    accuracy = np.array(fits).reshape(len(sizes), -1)
    mean = accuracy.mean(axis=1)
    best = mean[np.argmax(sizes)]
    efficiency = mean / best if best > 0 else np.zeros_like(mean)
    return SampleEfficiency(tuple(int(size) for size in sizes), accuracy, efficiency)


def _classifier(estimator: Estimator, seed: int) -> GradientBoostingClassifier | LGBMClassifier:
    if estimator == "sklearn":
        return GradientBoostingClassifier(random_state=seed)
    # Depth, number of trees, learning rate and leaf size are scikit-learn's defaults. Small training sets need leaves of one row.
    return LGBMClassifier(
        max_depth=3,
        num_leaves=8,
        min_child_samples=1,
        n_estimators=100,
        learning_rate=0.1,
        deterministic=True,
        force_row_wise=True,
        random_state=seed,
        n_jobs=1,
        verbose=-1,
    )


def _accuracy(
    model: GradientBoostingClassifier | LGBMClassifier,
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
) -> float:
    if (train_label == train_label[0]).all():  # scikit-learn refuses a single class
        return float(np.mean(test_label == train_label[0]))
    return float(np.mean(model.fit(train, train_label).predict(test) == test_label))
