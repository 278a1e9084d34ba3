"""MCC: mean correlation coefficient after a one-to-one assignment of units to factors."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from dyga.metrics._checks import absolute_correlations, checked, checked_integers, train_rows


@dataclass(frozen=True)
class MeanCorrelation:
    """Result of `mcc`: the scores `pearson` and `spearman` in [0, 1].

    `pearson_matrix` and `spearman_matrix` (units, factors) are the absolute correlations from which the assignment is made.
    """

    pearson: float
    spearman: float
    pearson_matrix: np.ndarray
    spearman_matrix: np.ndarray


def mcc(codes: np.ndarray, factors: np.ndarray, *, num_train: int = 10_000, seed: int = 0) -> MeanCorrelation:
    """Mean correlation coefficient (Hyvärinen and Morioka 2016) of codes (n, units) for ordered factors (n, factors).

    The absolute correlation of each unit and factor is computed on `num_train` rows: Pearson's, and Spearman's, which is that of
    the ranks. Units are assigned to factors one to one, with the largest sum. The score is the sum divided by the number of
    factors, so a factor without a unit counts as 0. A constant unit has correlation 0. The factors' values are taken as numbers:
    the score means nothing for factors without an order. Raises ValueError for invalid input or fewer than num_train rows.
    """
    codes, labels = checked(codes, factors)
    rows = train_rows(labels, seed, num_train)
    codes, values = codes[rows], checked_integers(factors, "factors")[rows].astype(float)
    pearson = absolute_correlations(codes, values)
    spearman = absolute_correlations(rankdata(codes, axis=0), rankdata(values, axis=0))
    return MeanCorrelation(_assigned_mean(pearson), _assigned_mean(spearman), pearson, spearman)


def _assigned_mean(matrix: np.ndarray) -> float:
    return float(matrix[linear_sum_assignment(-matrix)].sum() / matrix.shape[1])
