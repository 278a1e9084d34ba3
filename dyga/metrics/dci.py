"""Disentanglement, completeness and informativeness from the importances of boosted trees."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics._checks import checked, split_rows
from dyga.metrics.fast_trees import boosted_trees

Estimator = Literal["sklearn", "lightgbm"]


@dataclass(frozen=True)
class DCI:
    """Three numbers in [0, 1]; `importance` (units, factors), whose columns sum to 1 or are 0; test `accuracy` (factors,)."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    accuracy: np.ndarray


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 5_000,
    estimator: Estimator = "sklearn",
    n_jobs: int = 1,
    seed: int = 0,
) -> DCI:
    """DCI (Eastwood and Williams 2018) of codes (n, units) for factors (n, factors).

    One gradient-boosted classifier per factor on `num_train` rows; informativeness is the mean accuracy on
    `num_test` others. "sklearn" is the reference (scikit-learn's defaults, `n_jobs` factors at a time);
    "lightgbm" is the same algorithm with trees grown far faster (`n_jobs` threads). A unit without
    importance weighs nothing; if no unit has any, disentanglement and completeness are 0.0. With a single
    factor disentanglement is 1.0, with a single unit completeness is 1.0. Raises ValueError for unfit input
    or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    if estimator not in ("sklearn", "lightgbm"):
        raise ValueError(f'estimator must be "sklearn" or "lightgbm", got {estimator!r}')
    train, test = split_rows(labels, seed, num_train, num_test)
    if estimator == "lightgbm":
        fits = [boosted_trees(codes[train], label[train], codes[test], n_jobs, seed) for label in labels.T]
    else:
        fits = Parallel(n_jobs=n_jobs)(delayed(_reference)(codes[train], label[train], codes[test], seed) for label in labels.T)
    importance = np.stack([gain for gain, _ in fits], axis=1)
    predicted = np.stack([guess for _, guess in fits], axis=1)
    accuracy = (predicted == labels[test]).mean(axis=0)
    return DCI(_concentration(importance), _concentration(importance.T), float(accuracy.mean()), importance, accuracy)


def _reference(train: np.ndarray, label: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As `boosted_trees`, by scikit-learn."""
    model = GradientBoostingClassifier(random_state=seed).fit(train, label)
    # Rounding can leave a share of -1e-17, of which no entropy could be taken.
    return model.feature_importances_.clip(0), model.predict(test)


def _concentration(importance: np.ndarray) -> float:
    """Mean of 1 - entropy over the rows, with log base the number of columns, weighted by the rows' sums."""
    weight = importance.sum(axis=1)
    rows = importance[weight > 0]
    if not len(rows):
        return 0.0
    if importance.shape[1] == 1:
        return 1.0
    spread = entropy(rows, axis=1, base=importance.shape[1])
    return float(np.average(1.0 - spread, weights=weight[weight > 0]))
