"""Metrics from linear classifiers: SAP, and modularity with explicitness."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from dyga.metrics._checks import checked, checked_count, split_rows
from dyga.metrics.mutual_information import discretise, gap_of_best_two, mutual_information


@dataclass(frozen=True)
class SAP:
    """`score` in [0, 1]; `accuracy` (units, factors) of each unit alone."""

    score: float
    accuracy: np.ndarray


@dataclass(frozen=True)
class ModularityExplicitness:
    """`modularity` in [0, 1]; `explicitness`, a mean ROC AUC, whose chance level is 0.5."""

    modularity: float
    explicitness: float


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


def modularity_explicitness(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_bins: int = 20,
    seed: int = 0,
) -> ModularityExplicitness:
    """Modularity and explicitness (Ridgeway and Mozer 2018): codes (n, units), factors (n, factors).

    Modularity: per unit, 1 minus the squared mutual information (`num_bins` bins) with all but its best
    factor, relative to the best one's times (factors - 1); the mean over units. A unit that knows nothing
    (a constant one) counts 0; with a single factor every other unit counts 1. Explicitness: ROC AUC on the
    test rows of a one-vs-rest logistic regression on all standardised units, the mean over a factor's
    values (those that occur in both splits) and then over factors. Raises ValueError for unfit input or
    fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    checked_count(num_bins, "num_bins", least=2)
    train, test = split_rows(labels, seed, num_train, num_test)
    squared = np.square(mutual_information(discretise(codes[train], num_bins), labels[train]))
    best = squared.max(axis=1)
    others = (squared.sum(axis=1) - best) / (np.where(best > 0, best, 1.0) * max(labels.shape[1] - 1, 1))
    modularity = np.where(best > 0, 1.0 - others, 0.0)

    deviation = codes[train].std(axis=0)
    standard = (codes - codes[train].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    explicitness = [_one_vs_rest_auc(standard, label, train, test) for label in labels.T]
    return ModularityExplicitness(float(modularity.mean()), float(np.mean(explicitness)))


def _one_vs_rest_auc(codes: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Mean test AUC over the values; 0.5 if no value can be tested."""
    values = np.intersect1d(label[train], label[test])
    areas = []
    for value in values:
        is_value = label == value
        if is_value[test].all():
            continue
        model = LogisticRegression().fit(codes[train], is_value[train])
        areas.append(roc_auc_score(is_value[test], model.decision_function(codes[test])))
    return float(np.mean(areas)) if areas else 0.5
