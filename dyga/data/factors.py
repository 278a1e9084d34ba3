"""Factors of variation: an exact, row-major map between an image's index and its factor values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Factors:
    """Names and sizes of a data set's factors; the last factor varies fastest with the index."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        """Number of images: one per combination of factor values."""
        return math.prod(self.sizes)

    def values(self, index: np.ndarray) -> np.ndarray:
        """Factor values (..., factors) int64 of integer indices (...). ValueError for an index outside 0..len-1."""
        return np.stack(np.unravel_index(index, self.sizes), axis=-1).astype(np.int64, copy=False)

    def index(self, values: np.ndarray) -> np.ndarray:
        """Indices (...) int64 of integer factor values (..., factors). ValueError for a value out of range."""
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(values, -1, 0)), self.sizes), dtype=np.int64)

    def table(self) -> np.ndarray:
        """All factor values (len, factors) int64, one row per image."""
        return self.values(np.arange(len(self)))


def rows_along(factors: np.ndarray, start: int, column: int, most: int = 15) -> np.ndarray:
    """Rows of a data set along one of its factors (n, factors): for each value, or `most` of them evenly spaced, the row that
    agrees with row `start` in the most other factors. Where every combination exists, it agrees in all."""
    values = np.unique(factors[:, column])
    values = values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]
    agreeing = np.delete(factors == factors[start], column, axis=1).sum(axis=1)
    return np.array([np.where(factors[:, column] == value, agreeing, -1).argmax() for value in values])
