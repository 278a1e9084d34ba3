"""SAP: separated attribute predictability."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from dyga.metrics._checks import checked, split_rows
from dyga.metrics.mig import gap_of_best_two


@dataclass(frozen=True)
class SAP:
    """`score` in [0, 1]; `accuracy` (units, factors) of each unit alone."""

    score: float
    accuracy: np.ndarray


def sap(codes: np.ndarray, factors: np.ndarray, *, num_train: int = 10_000, num_test: int = 5_000, seed: int = 0) -> SAP:
    """SAP (Kumar et al. 2018) of codes (n, units) for factors (n, factors).

    Test accuracy of a linear SVM (C 0.01, balanced classes) on each unit alone; the score is the mean over
    factors of the best unit's accuracy minus the second best's, which counts as 0 if there is none. A
    constant unit predicts one value. Raises ValueError for unfit input or fewer than num_train + num_test
    rows.
    """
    codes, labels = checked(codes, factors)
    train, test = split_rows(labels, seed, num_train, num_test)
    accuracy = np.empty((codes.shape[1], labels.shape[1]))
    for unit, factor in np.ndindex(accuracy.shape):
        one = codes[:, [unit]]
        model = LinearSVC(C=0.01, class_weight="balanced", dual="auto", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(one[train], labels[train, factor])
        accuracy[unit, factor] = model.score(one[test], labels[test, factor])
    return SAP(float(gap_of_best_two(accuracy).mean()), accuracy)
