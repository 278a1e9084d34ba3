"""Label purity of each unit's nearest neighbours and of its anchors, which quantifies Figure 1 of the paper."""

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from dyga.metrics._checks import check_count, checked_factors, checked_integers, checked_units, train_rows


@dataclass(frozen=True)
class Purity:
    """Result of `knn_purity`: `score` in [0, 1] is the mean of `per_unit` (units,).

    `matrix` (units, factors) has the purity of each unit and factor. `per_unit` is the purity for the unit's `best_factor`
    (units,). `chance` (factors,) is the purity of an uninformative unit.
    """

    score: float
    per_unit: np.ndarray
    best_factor: np.ndarray
    matrix: np.ndarray
    chance: np.ndarray


@dataclass(frozen=True)
class AnchorPurity(Purity):
    """Result of `anchor_purity`: as `Purity`, with `per_anchor` (units, anchors) for the best factor. Unused anchors have NaN."""

    per_anchor: np.ndarray


def knn_purity(
    features: np.ndarray,
    factors: np.ndarray,
    *,
    neighbours: int = 10,
    num_train: int = 10_000,
    seed: int = 0,
) -> Purity:
    """k-nearest-neighbour label purity of features (n, units, dim) or (n, units) for factors (n, factors).

    Purity is the share of a row's `neighbours` nearest other rows that have its label, averaged over `num_train` rows. Distances
    are Euclidean, within one unit. The score takes each unit's best factor. A factor with few values has a high purity by chance,
    so compare with `chance`: the sum of squared label frequencies, which is the expected purity of a constant unit. Among rows at
    equal distance, neighbours are drawn at random. Raises ValueError for invalid input or fewer than num_train rows.
    """
    features = checked_units(features, "features", ndim=(2, 3))
    labels = checked_factors(factors, len(features))
    check_count(neighbours, "neighbours")
    check_count(num_train, "num_train", least=neighbours + 1)
    rows = train_rows(labels, seed, num_train, name="features")
    labels = labels[rows]
    matrix, rng = np.empty((features.shape[1], labels.shape[1])), np.random.default_rng(seed)
    for unit in range(features.shape[1]):
        points = features[rows, unit].reshape(num_train, -1)
        if len(np.unique(points, axis=0)) < num_train:  # the tree would give equal rows the same few neighbours
            points = points + 1e-9 * (points.std() or 1.0) * rng.standard_normal(points.shape)
        # A unit's features lie near a curve, so a tree is faster than brute force even in 32 dimensions.
        tree = NearestNeighbors(n_neighbors=neighbours, algorithm="kd_tree").fit(points)
        nearest = tree.kneighbors(return_distance=False)
        matrix[unit] = (labels[nearest] == labels[:, None]).mean(axis=(0, 1))
    chance = np.array([np.square(np.bincount(label) / num_train).sum() for label in labels.T])
    best = matrix.argmax(axis=1)
    per_unit = matrix.max(axis=1)
    return Purity(float(per_unit.mean()), per_unit, best, matrix, chance)


def anchor_purity(assignments: np.ndarray, factors: np.ndarray) -> AnchorPurity:
    """Anchor purity of assignments (n, units), the anchor number of each row, for factors (n, factors).

    The purity of an anchor is the share of the majority label among its members. A unit's purity is the mean over its anchors,
    weighted by their numbers of members. The score takes each unit's best factor. `chance` is the frequency of a factor's most
    common label, which is the purity of a unit with one anchor. Purity increases with the number of anchors, so compare at equal
    numbers. Raises ValueError for invalid input.
    """
    assignments = checked_integers(assignments, "assignments")
    if assignments.min() < 0:
        raise ValueError(f"assignments must be anchor numbers of at least 0, got {assignments.min()}")
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
