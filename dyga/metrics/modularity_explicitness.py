"""Modularity and explicitness."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dyga.metrics._checks import checked, checked_count, split_rows
from dyga.metrics.mig import discretise, mutual_information


@dataclass(frozen=True)
class ModularityExplicitness:
    """`modularity` in [0, 1]; `explicitness`, a mean ROC AUC, whose chance level is 0.5."""

    modularity: float
    explicitness: float


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

    Modularity of a unit: 1 minus the squared mutual information (`num_bins` bins) with all but its best factor, divided by that
    with the best factor times (factors - 1); the score is the mean over units. A constant unit counts 0. With a single factor
    every other unit counts 1. Explicitness: ROC AUC on the test rows of a one-vs-rest logistic regression on all standardised
    units, averaged over a factor's values (those in both splits) and then over factors. ValueError for unfit input or fewer
    than num_train + num_test rows.
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
