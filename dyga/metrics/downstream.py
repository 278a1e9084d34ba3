"""Sample efficiency of downstream probes: accuracy of gradient boosting by number of training rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from dyga.metrics._checks import Estimator, check_count, check_estimator, check_rows, checked
from dyga.metrics.dci import fitted_trees


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

    The estimators are those of `dci`: "sklearn" is the reference, "lightgbm" is faster. `n_jobs` fits run in parallel.

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
        delayed(_accuracy)(estimator, seed, codes[train[:size]], label[train[:size]], codes[test], label[test])
        for size in sizes
        for label in labels.T
    )
    accuracy = np.array(fits).reshape(len(sizes), -1)
    mean = accuracy.mean(axis=1)
    best = mean[np.argmax(sizes)]
    efficiency = mean / best if best > 0 else np.zeros_like(mean)
    return SampleEfficiency(tuple(int(size) for size in sizes), accuracy, efficiency)


def _accuracy(
    estimator: Estimator, seed: int, train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray
) -> float:
    if (train_label == train_label[0]).all():  # scikit-learn refuses a single class
        return float(np.mean(test_label == train_label[0]))
    return float(np.mean(fitted_trees(estimator)(train, train_label, test, seed)[1] == test_label))
