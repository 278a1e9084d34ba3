"""UDR: unsupervised disentanglement ranking. It needs several models of the same images, and no factors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from sklearn.linear_model import Lasso

from dyga.metrics._checks import absolute_correlations, active_mask, as_array, checked_units, standardised

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class UDR:
    """Result of `udr`: `score` (models,) and `pairwise` (models, models), in [0, 1]; the diagonal of `pairwise` is NaN.

    The other attributes are tuples with an array per model. `match` (units, models) is the unit of each other model to which a
    unit is assigned, -1 if there is none, and `similarity` (units, models) is the similarity to it, 0 if there is none.
    `recurrence` (units,) is the share of the other models in which the unit recurs. Both are NaN for inactive units, and
    `similarity` is NaN in the model's own column.
    """

    score: np.ndarray
    pairwise: np.ndarray
    match: tuple[np.ndarray, ...]
    similarity: tuple[np.ndarray, ...]
    recurrence: tuple[np.ndarray, ...]


def udr(
    codes: Sequence[np.ndarray],
    *,
    active: Sequence[np.ndarray] | None = None,
    similarity: str | Similarity = "spearman",
    threshold: float = 0.75,
) -> UDR:
    """Unsupervised disentanglement ranking (Duan et al. 2020) of models by their `codes` of the same images, each (n, units).

    R (units of one model, units of the other) is the similarity matrix of a pair. A unit's relative strength is the square of
    the largest entry of its row or column, divided by the sum of that row or column. The pairwise score is the mean relative
    strength of the units of both models; a model's score is the median over the other models. It is high if each unit resembles
    one unit of the other model and no second one.

    The paper has two forms of R, both available: the absolute rank correlation ("spearman"), and absolute weights of a linear
    regression with an L1 penalty of .1 ("lasso", the default of the released code). `similarity` may also be a function of two
    arrays of codes, which may then be (n, units, scalars). Departure: the paper leaves out units whose KL divergence is below
    .01. Here inactive units are left out: those not in the masks `active`, each (units,) bool, by default `active_mask`.

    Beyond the paper, the units of each pair are assigned one to one, with the largest sum of R. A unit recurs in the other model
    if its similarity to the assigned unit is at least `threshold`. Raises ValueError for invalid input.
    """
    compare = _SIMILARITIES.get(similarity) if isinstance(similarity, str) else similarity
    if compare is None:
        raise ValueError(f"similarity must be {', '.join(_SIMILARITIES)} or a function, got {similarity!r}")
    dimensions = (2,) if isinstance(similarity, str) else (2, 3)
    codes = [checked_units(each, f"codes[{i}]", dimensions) for i, each in enumerate(codes)]
    if len(codes) < 2 or len({len(each) for each in codes}) > 1:
        rows = ", ".join(str(len(each)) for each in codes) or "none"
        raise ValueError(f"codes must be those of two or more models for the same images, got arrays of {rows} rows")
    masks = [active_mask(each) for each in codes] if active is None else [as_array(mask).astype(bool) for mask in active]
    if [mask.shape for mask in masks] != [(each.shape[1],) for each in codes]:
        raise ValueError("active must have one mask (units,) for each array of codes")
    varying = [np.ptp(each, axis=0).reshape(each.shape[1], -1).any(axis=1) for each in codes]
    units = [np.flatnonzero(mask & varies) for mask, varies in zip(masks, varying, strict=True)]
    pairwise = np.full((len(codes), len(codes)), np.nan)
    match = tuple(np.full((each.shape[1], len(codes)), -1) for each in codes)
    similar = tuple(np.full(each.shape, np.nan) for each in match)
    for i, j in permutations(range(len(codes)), 2):
        matrix = compare(codes[i][:, units[i]], codes[j][:, units[j]]) if len(units[i]) and len(units[j]) else np.zeros((0, 0))
        pairwise[i, j] = _relative_strength(matrix)
        one, other = linear_sum_assignment(-matrix)
        similar[i][units[i], j] = 0.0
        match[i][units[i][one], j], similar[i][units[i][one], j] = units[j][other], matrix[one, other]
    recurrence = []
    for i, each in enumerate(similar):
        others = np.delete(each, i, axis=1)
        recurrence.append(np.where(np.isnan(others[:, 0]), np.nan, (others >= threshold).mean(axis=1)))
    return UDR(np.nanmedian(pairwise, axis=1), pairwise, match, similar, tuple(recurrence))


def _relative_strength(matrix: np.ndarray) -> float:
    """The pairwise score of a similarity matrix (units, units): a mean over rows and columns. 0 for an empty matrix."""
    if not matrix.size:
        return 0.0
    sums = [matrix.sum(axis=axis) for axis in (0, 1)]
    strengths = [matrix.max(axis=axis) ** 2 / np.where(total > 0, total, 1.0) for axis, total in enumerate(sums)]
    return float(np.concatenate(strengths).mean())


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return absolute_correlations(rankdata(one, axis=0), rankdata(other, axis=0))


def _lasso(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    weights = Lasso(alpha=0.1).fit(standardised(one, one), standardised(other, other)).coef_
    return np.abs(np.atleast_2d(weights)).T


_SIMILARITIES: dict[str, Similarity] = {"spearman": _spearman, "lasso": _lasso}
