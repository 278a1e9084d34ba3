"""Factors of variation: an exact, row-major map between an image's index and its factor values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Factors:
    """Names and sizes of a data set's factors; the last factor varies fastest with the index. ValueError for invalid ones."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes):
            raise ValueError(f"sizes: {len(self.sizes)} given for {len(self.names)} names; need one per name")
        if not self.names:
            raise ValueError("names: empty; need at least one factor")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names: {self.names} repeat; names must be unique")
        for name, size in zip(self.names, self.sizes, strict=True):
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"sizes: {name} has size {size!r}; valid are integers from 1")

    def __len__(self) -> int:
        """Number of images: one per combination of factor values."""
        return math.prod(self.sizes)

    def values(self, index: int | np.ndarray) -> np.ndarray:
        """Factor values (..., factors) int64 of indices (...); ValueError for an index outside 0..len-1."""
        index = _integers("index", index)
        if index.size and not (index.min() >= 0 and index.max() < len(self)):
            raise ValueError(f"index: {index.min()}..{index.max()} given; valid are 0..{len(self) - 1}")
        return np.stack(np.unravel_index(index, self.sizes), axis=-1).astype(np.int64, copy=False)

    def index(self, values: np.ndarray) -> np.ndarray:
        """Indices (...) int64 of factor values (..., factors); ValueError for a value out of range."""
        values = _integers("values", values)
        if values.ndim == 0 or values.shape[-1] != len(self.names):
            raise ValueError(f"values: shape {values.shape} given; the last axis must be {len(self.names)} long")
        for position, (name, size) in enumerate(zip(self.names, self.sizes, strict=True)):
            column = values[..., position]
            if column.size and not (column.min() >= 0 and column.max() < size):
                raise ValueError(f"values: {name} is {column.min()}..{column.max()}; valid are 0..{size - 1}")
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(values, -1, 0)), self.sizes), dtype=np.int64)

    def table(self) -> np.ndarray:
        """All factor values (len, factors) int64, one row per image."""
        return self.values(np.arange(len(self)))


def _integers(name: str, array: object) -> np.ndarray:
    array = np.asarray(array)
    if array.size == 0 and array.dtype == np.float64:  # numpy converts an empty list to float64
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: {array.dtype} given; valid are integers")
    return array.astype(np.int64)


def rows_along(factors: np.ndarray, start: int, column: int, most: int = 15) -> np.ndarray:
    """Rows of a data set along one of its factors (n, factors): for each value, or `most` of them evenly spaced, the row that
    agrees with row `start` in the most other factors. Where every combination exists, it agrees in all."""
    values = np.unique(factors[:, column])
    values = values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]
    agreeing = np.delete(factors == factors[start], column, axis=1).sum(axis=1)
    return np.array([np.where(factors[:, column] == value, agreeing, -1).argmax() for value in values])
