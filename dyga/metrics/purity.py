"""Label purity of a unit's neighbourhoods and of its anchors: numbers for what Figure 1 shows."""

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from dyga.metrics._checks import (
    checked_count,
    checked_factors,
    checked_integers,
    checked_units,
    train_rows,
)


@dataclass(frozen=True)
class Purity:
    """`score` in [0, 1] is the mean of `per_unit` (units,), each unit's value for its `best_factor`
    (units,).

    `matrix` (units, factors) has all of them, and `chance` (factors,) is the value of an uninformative unit.
    """

    score: float
    per_unit: np.ndarray
    best_factor: np.ndarray
    matrix: np.ndarray
    chance: np.ndarray


@dataclass(frozen=True)
class AnchorPurity(Purity):
    """A `Purity` and its `per_anchor` (units, anchors) for the best factor, NaN where unused."""

    per_anchor: np.ndarray


def knn_purity(
    features: np.ndarray,
    factors: np.ndarray,
    *,
    neighbours: int = 10,
    num_train: int = 10_000,
    seed: int = 0,
) -> Purity:
    """k-nearest-neighbour label purity: features (n, units, dim) or (n, units), factors (n, factors).

    Per unit and factor: the share of a row's `neighbours` nearest rows (Euclidean, in that unit alone,
    itself left out) that carry its label, averaged over `num_train` rows; then each unit's best factor. A
    factor of few values is pure by chance: compare with `chance`, the sum of squared label shares, which is
    where a constant unit lands. Raises ValueError for unfit input or fewer than `num_train` rows.
    """
    features = checked_units(features, "features", ndim=(2, 3))
    labels = checked_factors(factors, len(features))
    checked_count(neighbours, "neighbours")
    checked_count(num_train, "num_train", least=neighbours + 1)
    rows = train_rows(labels, seed, num_train, name="features")
    labels = labels[rows]
    matrix = np.empty((features.shape[1], labels.shape[1]))
    for unit in range(features.shape[1]):
        points = features[rows, unit].reshape(num_train, -1)
        # A unit's features lie near a curve, where a tree beats brute force even in 32 dimensions.
        tree = NearestNeighbors(n_neighbors=neighbours, algorithm="kd_tree").fit(points)
        near = tree.kneighbors(return_distance=False)
        matrix[unit] = (labels[near] == labels[:, None]).mean(axis=(0, 1))
    chance = np.array([np.square(np.bincount(label) / num_train).sum() for label in labels.T])
    best = matrix.argmax(axis=1)
    per_unit = matrix.max(axis=1)
    return Purity(float(per_unit.mean()), per_unit, best, matrix, chance)


def anchor_purity(assignments: np.ndarray, factors: np.ndarray) -> AnchorPurity:
    """Share of the majority label in each anchor: assignments (n, units), factors (n, factors).

    Averaged over a unit's anchors by their number of members; then each unit's best factor. `chance` is the
    share of a factor's commonest label, what a unit with a single anchor has. More anchors are purer by
    construction, so compare at equal counts. Raises ValueError for unfit input.
    """
    assignments = checked_integers(assignments, "assignments")
    if assignments.min() < 0:
        raise ValueError(f"assignments must be anchor numbers from 0 on, got {assignments.min()}")
    labels = checked_factors(factors, len(assignments))
    num_rows, num_units = assignments.shape
    anchors = assignments.max() + 1
    majority = np.zeros((num_units, labels.shape[1], anchors))
    members = np.stack([np.bincount(column, minlength=anchors) for column in assignments.T])
    for f, label in enumerate(labels.T):
        values = label.max() + 1
        for unit, column in enumerate(assignments.T):
            joint = np.bincount(column * values + label, minlength=anchors * values)
            majority[unit, f] = joint.reshape(anchors, values).max(axis=1)
    matrix = majority.sum(axis=2) / num_rows
    best = matrix.argmax(axis=1)
    per_unit = matrix.max(axis=1)
    per_anchor = np.full((num_units, anchors), np.nan)
    used = members > 0
    per_anchor[used] = majority[np.arange(num_units), best][used] / members[used]
    chance = np.array([np.bincount(label).max() / num_rows for label in labels.T])
    return AnchorPurity(float(per_unit.mean()), per_unit, best, matrix, chance, per_anchor)
