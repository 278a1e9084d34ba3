"""SAP: separated attribute predictability."""

from dataclasses import dataclass

import numpy as np
from sklearn.svm import LinearSVC

from dyga.metrics._checks import checked, convergence_warnings_ignored, split_rows
from dyga.metrics.mig import gap_of_best_two


@dataclass(frozen=True)
class SAP:
    """Result of `sap`: `score` in [0, 1], and the test `accuracy` (units, factors) of each unit alone."""

    score: float
    accuracy: np.ndarray


def sap(codes: np.ndarray, factors: np.ndarray, *, num_train: int = 10_000, num_test: int = 5_000, seed: int = 0) -> SAP:
    """SAP (Kumar et al. 2018) of codes (n, units) for factors (n, factors).

    A linear SVM (C 0.01, balanced classes) predicts each factor from each unit alone. It is fitted on `num_train` rows and tested
    on `num_test` others. The score is the best unit's accuracy minus the second best's, averaged over factors. With a single unit
    the second best counts as 0. A constant unit always predicts the same value. Raises ValueError for invalid input or fewer than
    num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    train, test = split_rows(labels, seed, num_train, num_test)
    accuracy = np.empty((codes.shape[1], labels.shape[1]))
    for unit, factor in np.ndindex(accuracy.shape):
        column = codes[:, [unit]]
        model = LinearSVC(C=0.01, class_weight="balanced", dual="auto", random_state=seed)
        with convergence_warnings_ignored():
            model.fit(column[train], labels[train, factor])
        accuracy[unit, factor] = model.score(column[test], labels[test, factor])
    return SAP(float(gap_of_best_two(accuracy).mean()), accuracy)
