"""TAD: total AUROC difference, for data sets with binary attributes such as CelebA."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from dyga.metrics._checks import as_array, check_count, checked, train_rows
from dyga.metrics.mig import factor_entropy, gap_of_best_two, mutual_information

CAPTURED_AUROC = 0.75  # an attribute is captured if a unit reaches this AUROC
SHARED_INFORMATION = 0.2  # attributes that share more normalised mutual information with another are left out
COARSE_RANGE = 0.2  # in the released coarse version, units with a range up to this have chance level


@dataclass(frozen=True)
class TotalAUROCDifference:
    """Result of `total_auroc_difference`: `tad`, the number of attributes `captured`, and `auroc` (units, attributes)."""

    tad: float
    captured: int
    auroc: np.ndarray


def binary_columns(factors: np.ndarray) -> list[int]:
    """The columns of factors (n, factors) that have two values."""
    return [i for i, column in enumerate(as_array(factors).T) if len(np.unique(column)) == 2]


def total_auroc_difference(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    thresholds: int | None = None,
    num_train: int | None = None,
    seed: int = 0,
) -> TotalAUROCDifference:
    """TAD (Yeats et al. 2022) of codes (n, units) for binary attributes factors (n, attributes).

    Each unit is used as a score for each attribute, with the better sign. TAD is the best unit's AUROC minus the second best's,
    summed over the captured attributes. An attribute is captured if its best AUROC is at least 0.75 and its normalised mutual
    information with any other attribute is at most 0.2. A constant unit has AUROC 0.5. With a single unit, the second best AUROC
    counts as 0.5.

    AUROC is exact by default. `thresholds=11` reproduces the released coarse version, which is biased upward: a right Riemann sum
    over that many thresholds, equally spaced on a unit's range. There, units with a range of at most 0.2 have AUROC 0.5. All rows
    are used, or `num_train` rows drawn with `seed`. Raises ValueError for invalid input and attributes that are not binary.
    """
    codes, labels = checked(codes, factors)
    many = np.flatnonzero(labels.max(axis=0) > 1).tolist()
    if many:
        raise ValueError(f"factors has columns {many} of more than two values: TAD needs binary attributes")
    if thresholds is not None:
        check_count(thresholds, "thresholds", least=2)
    rows = train_rows(labels, seed, len(labels) if num_train is None else num_train)
    codes, labels = codes[rows], labels[rows]
    auroc = _exact_auroc(codes, labels) if thresholds is None else _coarse_auroc(codes, labels, thresholds)
    shared = mutual_information(labels, labels) / factor_entropy(labels)[:, None]
    np.fill_diagonal(shared, 0.0)
    captured = (auroc.max(axis=0) >= CAPTURED_AUROC) & (shared.max(axis=1) <= SHARED_INFORMATION)
    gap = gap_of_best_two(auroc, floor=0.5)
    return TotalAUROCDifference(float(gap[captured].sum()), int(captured.sum()), auroc)


def _exact_auroc(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Exact AUROC (units, attributes) of the better sign, from rank sums. Ties count half."""
    positives = labels.sum(axis=0)
    rank_sums = rankdata(codes, axis=0).T @ labels
    wins = rank_sums - positives * (positives + 1) / 2
    area = wins / (positives * (len(labels) - positives))
    return np.maximum(area, 1.0 - area)


def _coarse_auroc(codes: np.ndarray, labels: np.ndarray, thresholds: int) -> np.ndarray:
    """AUROC (units, attributes) of the better sign, as a right Riemann sum over equally spaced thresholds."""
    positives = labels.sum(axis=0)
    auroc = np.full((codes.shape[1], labels.shape[1]), 0.5)
    for unit, column in enumerate(codes.T):
        low, span = column.min(), np.ptp(column)
        if span <= COARSE_RANGE:
            continue
        above = (column - low) / span >= np.linspace(0.0, 1.0, thresholds)[:, None]  # (thresholds, n)
        areas = []
        for predicted in (above, ~above):
            true_rate = np.sort(predicted @ labels / positives, axis=0)
            false_rate = np.sort(predicted @ (1 - labels) / (len(labels) - positives), axis=0)
            areas.append((true_rate[1:] * np.diff(false_rate, axis=0)).sum(axis=0))
        auroc[unit] = np.maximum(*areas)
    return auroc
