"""Total AUROC difference, for data sets with binary attributes such as CelebA."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from dyga.metrics._checks import checked, checked_count, train_rows
from dyga.metrics.mig import factor_entropy, gap_of_best_two, mutual_information

CAPTURED_AUROC = 0.75  # an attribute is captured if some unit reaches this
SHARED_INFORMATION = 0.2  # attributes with more mutual information with another one are left out
COARSE_RANGE = 0.2  # the released coarse version sets units of a smaller range to chance


@dataclass(frozen=True)
class TotalAUROCDifference:
    """`tad`, the sum over the attributes captured; `captured`, how many; `auroc` (units, attributes)."""

    tad: float
    captured: int
    auroc: np.ndarray


def total_auroc_difference(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    thresholds: int | None = None,
    num_train: int | None = None,
    seed: int = 0,
) -> TotalAUROCDifference:
    """TAD (Yeats et al. 2022) of codes (n, units) for binary attributes factors (n, attributes).

    Per attribute the AUROC of each unit as a score (the better sign); TAD sums the best unit's minus the
    second best's (chance, 0.5, if there is one unit) over attributes with a best of at least 0.75 and at
    most 0.2 normalised mutual information with any other attribute. A constant unit has 0.5. AUROC is
    exact; `thresholds=11` reproduces the released coarse one, which is biased upward: a right Riemann sum
    over that many thresholds equally spaced on a unit's range, units with a range up to 0.2 left at 0.5.
    All rows are used unless `num_train` says how many to draw with `seed`. Raises ValueError for unfit
    input and attributes that are not binary.
    """
    codes, labels = checked(codes, factors)
    many = np.flatnonzero(labels.max(axis=0) > 1).tolist()
    if many:
        raise ValueError(f"factors has columns {many} of more than two values: TAD needs binary attributes")
    if thresholds is not None:
        checked_count(thresholds, "thresholds", least=2)
    rows = train_rows(labels, seed, len(labels) if num_train is None else num_train)
    codes, labels = codes[rows], labels[rows]
    auroc = _exact_auroc(codes, labels) if thresholds is None else _coarse_auroc(codes, labels, thresholds)
    shared = mutual_information(labels, labels) / factor_entropy(labels)[:, None]
    np.fill_diagonal(shared, 0.0)
    captured = (auroc.max(axis=0) >= CAPTURED_AUROC) & (shared.max(axis=1) <= SHARED_INFORMATION)
    gap = gap_of_best_two(auroc, floor=0.5)
    return TotalAUROCDifference(float(gap[captured].sum()), int(captured.sum()), auroc)


def _exact_auroc(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """AUROC (units, attributes) from rank sums, ties counting half, of the better sign."""
    positives = labels.sum(axis=0)
    rank_sums = rankdata(codes, axis=0).T @ labels
    wins = rank_sums - positives * (positives + 1) / 2
    area = wins / (positives * (len(labels) - positives))
    return np.maximum(area, 1.0 - area)


def _coarse_auroc(codes: np.ndarray, labels: np.ndarray, thresholds: int) -> np.ndarray:
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
