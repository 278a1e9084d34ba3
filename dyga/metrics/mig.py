"""Mutual information of histogrammed codes with factors: MIG and the normalised matrix behind it."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy

from dyga.metrics._checks import checked, checked_count, train_rows


@dataclass(frozen=True)
class MutualInformationGap:
    """`score` in [0, 1], the mean of `per_factor` (factors,)."""

    score: float
    per_factor: np.ndarray


@dataclass(frozen=True)
class NormalisedMutualInformation:
    """`matrix` (units, factors) in [0, 1]: I(unit; factor) / H(factor)."""

    matrix: np.ndarray


def discretise(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """Bin numbers (n, units) of `num_bins` equal bins over each unit's range; a constant unit has one."""
    low, span = codes.min(axis=0), np.ptp(codes, axis=0)
    share = (codes - low) / np.where(span > 0, span, 1.0)
    return np.minimum((share * num_bins).astype(np.int64), num_bins - 1)


def mutual_information(bins: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """I(unit; factor) in nats (units, factors) of bin numbers (n, units) and labels (n, factors)."""
    information = np.empty((bins.shape[1], labels.shape[1]))
    for f, label in enumerate(labels.T):
        values = label.max() + 1
        for u, column in enumerate(bins.T):
            joint = np.bincount(column * values + label).astype(float)
            joint = np.pad(joint, (0, -len(joint) % values)).reshape(-1, values)
            separate = entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1))
            information[u, f] = max(separate - entropy(joint.ravel()), 0.0)
    return information


def factor_entropy(labels: np.ndarray) -> np.ndarray:
    """H(factor) in nats (factors,) of labels (n, factors)."""
    return np.array([entropy(np.bincount(label)) for label in labels.T])


def nmi(
    codes: np.ndarray, factors: np.ndarray, *, num_train: int = 10_000, num_bins: int = 20, seed: int = 0
) -> NormalisedMutualInformation:
    """Normalised mutual information of codes (n, units) and factors (n, factors), from `num_train` rows.

    Codes are put in `num_bins` equally wide bins. A constant unit has a row of zeros. Raises ValueError for
    unfit input or fewer than `num_train` rows.
    """
    codes, labels = checked(codes, factors)
    checked_count(num_bins, "num_bins", least=2)
    rows = train_rows(labels, seed, num_train)
    information = mutual_information(discretise(codes[rows], num_bins), labels[rows])
    return NormalisedMutualInformation(information / factor_entropy(labels[rows]))


def mig(
    codes: np.ndarray, factors: np.ndarray, *, num_train: int = 10_000, num_bins: int = 20, seed: int = 0
) -> MutualInformationGap:
    """Mutual information gap (Chen et al. 2018): best minus second-best unit of `nmi`, per factor.

    With a single unit the second best is 0. Constant units count as 0. Raises ValueError as `nmi` does.
    """
    matrix = nmi(codes, factors, num_train=num_train, num_bins=num_bins, seed=seed).matrix
    gaps = gap_of_best_two(matrix)
    return MutualInformationGap(float(gaps.mean()), gaps)


def gap_of_best_two(matrix: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Per column of (units, columns), the largest minus the second largest (`floor` if there is none)."""
    ranked = np.sort(np.vstack([np.full((1, matrix.shape[1]), floor), matrix]), axis=0)
    return ranked[-1] - ranked[-2]


def unit_order(values: np.ndarray) -> np.ndarray:
    """Order of the rows of (units, factors): first each factor's unit under the best one-to-one assignment,
    in the factors' order, then the other units, strongest first."""
    factors, units = linear_sum_assignment(-np.asarray(values).T)
    best = units[np.argsort(factors)]
    rest = [unit for unit in np.argsort(-values.max(1), kind="stable") if unit not in best]
    return np.concatenate([best, np.array(rest, int)])
