"""Modularity and explicitness."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dyga.metrics._checks import check_count, checked, split_rows, standardised
from dyga.metrics.mig import discretise, mutual_information


@dataclass(frozen=True)
class ModularityExplicitness:
    """Result of `modularity_explicitness`: `modularity` in [0, 1], and `explicitness`, a mean ROC AUC with chance level 0.5."""

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
    """Modularity and explicitness (Ridgeway and Mozer 2018) of codes (n, units) for factors (n, factors).

    Modularity uses the mutual information of each unit and factor, from histograms of `num_bins` bins. A unit's modularity is 1
    minus a ratio: the sum of its squared mutual information with all but its best factor, divided by (factors - 1) times the
    square for the best factor. The score is the mean over units. A constant unit has modularity 0. With a single factor every
    other unit has modularity 1.

    Explicitness is the ROC AUC of a one-vs-rest logistic regression on all units, standardised. It is fitted on `num_train` rows
    and tested on `num_test` others. The AUC is averaged over the values of a factor that occur in both splits, then over factors.

    Raises ValueError for invalid input or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    check_count(num_bins, "num_bins", least=2)
    train, test = split_rows(labels, seed, num_train, num_test)
    squared = np.square(mutual_information(discretise(codes[train], num_bins), labels[train]))
    best = squared.max(axis=1)
    others = (squared.sum(axis=1) - best) / (np.where(best > 0, best, 1.0) * max(labels.shape[1] - 1, 1))
    modularity = np.where(best > 0, 1.0 - others, 0.0)

    standard = standardised(codes, reference=codes[train])
    explicitness = [_mean_auc(standard, label, train, test) for label in labels.T]
    return ModularityExplicitness(float(modularity.mean()), float(np.mean(explicitness)))


def _mean_auc(codes: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Mean test AUC over the values of one factor, or 0.5 if no value can be tested."""
    aucs = []
    for value in np.intersect1d(label[train], label[test]):
        is_value = label == value
        if is_value[test].all():
            continue
        score = LogisticRegression().fit(codes[train], is_value[train]).decision_function(codes[test])
        aucs.append(roc_auc_score(is_value[test], score))
    return float(np.mean(aucs)) if aucs else 0.5
