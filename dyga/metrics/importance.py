"""Disentanglement, completeness and informativeness from the importances of boosted trees."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from joblib import Parallel, delayed
from lightgbm import LGBMClassifier
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics._checks import checked, split_rows
from dyga.metrics.fast_trees import fast_classifier, impurity_importance

Estimator = Literal["sklearn", "lightgbm"]


@dataclass(frozen=True)
class DCI:
    """Three numbers in [0, 1], and `importance` (units, factors), whose columns sum to 1 (or are 0)."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


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
    "lightgbm" grows as many trees of the same depth far faster (`n_jobs` threads); against the reference,
    disentanglement was within 0.01 on clean codes and up to 0.04 higher on noisy ones. A unit without
    importance weighs nothing; if no unit has any, disentanglement and completeness are 0.0. With a single
    factor disentanglement is 1.0, with a single unit completeness is 1.0. Raises ValueError for unfit input
    or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    if estimator not in ("sklearn", "lightgbm"):
        raise ValueError(f'estimator must be "sklearn" or "lightgbm", got {estimator!r}')
    train, test = split_rows(labels, seed, num_train, num_test)
    if estimator == "sklearn":
        model, at_once = GradientBoostingClassifier(random_state=seed), n_jobs
    else:
        model, at_once = fast_classifier(n_jobs, seed), 1
    fits = Parallel(n_jobs=at_once)(
        delayed(_fit)(clone(model), codes[train], label[train], codes[test], label[test]) for label in labels.T
    )
    importance = np.stack([gain for gain, _ in fits], axis=1)
    accuracy = float(np.mean([correct for _, correct in fits]))
    return DCI(_concentration(importance), _concentration(importance.T), accuracy, importance)


def _fit(
    model: GradientBoostingClassifier | LGBMClassifier,
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Importance of each unit (units,), summing to 1 unless all are 0, and the test accuracy."""
    model.fit(train, train_label)
    if isinstance(model, LGBMClassifier):
        gain = impurity_importance(model, train, train_label)
    else:
        gain = model.feature_importances_
    return gain / (gain.sum() or 1.0), float(np.mean(model.predict(test) == test_label))


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
