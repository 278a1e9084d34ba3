"""DCI: disentanglement, completeness and informativeness from the feature importances of gradient boosting."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier

from dyga.metrics._checks import Estimator, check_estimator, checked, split_rows
from dyga.metrics.fast_trees import boosted_trees


@dataclass(frozen=True)
class DCI:
    """Result of `dci`. The three scores lie in [0, 1].

    `importance` (units, factors) has columns that sum to 1, or to 0 if no unit has importance. `accuracy` (factors,) is the
    accuracy on the test rows.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    accuracy: np.ndarray

    @property
    def size(self) -> float:
        """The size score of DCI-ES (Eastwood et al. 2023): number of factors / number of units, at most 1."""
        units, factors = self.importance.shape
        return min(factors / units, 1.0)


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

    One gradient boosting classifier per factor is fitted on `num_train` rows. Informativeness is the mean accuracy on
    `num_test` other rows. Disentanglement is 1 minus the entropy of a unit's importances, averaged over units with the sums of
    their importances as weights. Completeness is the same over factors.

    The estimator "sklearn" is the reference: scikit-learn's defaults. "lightgbm" is a faster implementation of the same
    algorithm. `n_jobs` factors are fitted in parallel.

    Disentanglement and completeness are 0.0 if no unit has importance. Disentanglement is otherwise 1.0 for a single factor, and
    completeness 1.0 for a single unit. Raises ValueError for invalid input or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    check_estimator(estimator)
    train, test = split_rows(labels, seed, num_train, num_test)
    fits = Parallel(n_jobs=n_jobs)(
        delayed(fitted_trees(estimator))(codes[train], label[train], codes[test], seed) for label in labels.T
    )
    importance = np.stack([column for column, _ in fits], axis=1)
    predicted = np.stack([column for _, column in fits], axis=1)
    accuracy = (predicted == labels[test]).mean(axis=0)
    return DCI(_concentration(importance), _concentration(importance.T), float(accuracy.mean()), importance, accuracy)


def fitted_trees(estimator: Estimator) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The function that fits gradient boosting as `boosted_trees` does, by an estimator."""
    return boosted_trees if estimator == "lightgbm" else _reference


def _reference(train: np.ndarray, label: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Importances and predictions as in `boosted_trees`, by scikit-learn."""
    model = GradientBoostingClassifier(random_state=seed).fit(train, label)
    # Rounding can make an importance slightly negative (-1e-17), and the entropy would then be undefined.
    return model.feature_importances_.clip(0), model.predict(test)


def _concentration(importance: np.ndarray) -> float:
    """Mean over rows of 1 - entropy, weighted by the row sums. The base of the logarithm is the number of columns."""
    weight = importance.sum(axis=1)
    rows = importance[weight > 0]
    if not len(rows):
        return 0.0
    if importance.shape[1] == 1:
        return 1.0
    row_entropy = entropy(rows, axis=1, base=importance.shape[1])
    return float(np.average(1.0 - row_entropy, weights=weight[weight > 0]))
