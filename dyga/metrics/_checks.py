"""Shared by all metrics: checks of arguments, sampling of rows, and grouping of rows by a factor's value."""

from dataclasses import dataclass

import numpy as np


def checked_units(values: np.ndarray, name: str, ndim: tuple[int, ...] = (2,)) -> np.ndarray:
    """Finite float64 array of shape (n, units[, dim]); ValueError naming the argument otherwise."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.ndim not in ndim or 0 in array.shape:
        shape = "(n, units)" if ndim == (2,) else "(n, units) or (n, units, dim)"
        raise ValueError(f"{name} must have shape {shape} with nothing empty, got {array.shape}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite values: all must be finite")
    return array.astype(np.float64, copy=False)


def checked_integers(values: np.ndarray, name: str, rows: int | None = None) -> np.ndarray:
    """int64 array (n, columns) with `rows` rows if given; ValueError naming the argument otherwise."""
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise ValueError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have two dimensions with nothing empty, got shape {array.shape}")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name} has {len(array)} rows, but {rows} are needed: one per row of the other input")
    return array.astype(np.int64, copy=False)


def checked_factors(factors: np.ndarray, rows: int) -> np.ndarray:
    """Labels (n, factors) renumbered 0, 1, ... in each factor; ValueError for a constant factor."""
    array = checked_integers(factors, "factors", rows)
    labels = np.stack([np.unique(column, return_inverse=True)[1] for column in array.T], axis=1)
    refuse_constant(labels, "")
    return labels


def refuse_constant(labels: np.ndarray, where: str) -> None:
    """ValueError that names the factors with a single value."""
    constant = np.flatnonzero((labels == labels[:1]).all(axis=0)).tolist()
    if constant:
        raise ValueError(f"factors has constant columns {constant}{where}: each must take two or more values")


def checked(codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, units) in float64 and labels (n, factors) renumbered from 0."""
    codes = checked_units(codes, "codes")
    return codes, checked_factors(factors, len(codes))


def checked_count(value: int, name: str, least: int = 1) -> None:
    """ValueError unless the named argument is an integer of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def checked_rows(rows: int, name: str, **sizes: int) -> None:
    """ValueError unless `rows` covers the sum of the named sample sizes."""
    for argument, size in sizes.items():
        checked_count(size, argument)
    if rows < sum(sizes.values()):
        needed = " + ".join(sizes)
        raise ValueError(f"{name} has {rows} rows: at least {sum(sizes.values())} are needed ({needed})")


def split_rows(labels: np.ndarray, seed: int, num_train: int, num_test: int) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint train and test row numbers, drawn without replacement."""
    checked_rows(len(labels), "codes", num_train=num_train, num_test=num_test)
    rows = np.random.default_rng(seed).choice(len(labels), num_train + num_test, replace=False)
    refuse_constant(labels[rows[:num_train]], " in the num_train rows drawn")
    return rows[:num_train], rows[num_train:]


def train_rows(labels: np.ndarray, seed: int, num_train: int, name: str = "codes") -> np.ndarray:
    """Row numbers drawn without replacement, for metrics without a test set."""
    checked_rows(len(labels), name, num_train=num_train)
    rows = np.random.default_rng(seed).choice(len(labels), num_train, replace=False)
    refuse_constant(labels[rows], " in the num_train rows drawn")
    return rows


@dataclass(frozen=True)
class FactorGroups:
    """Rows sorted by each factor's value once, so that rows sharing a value are found without a search."""

    labels: np.ndarray  # (n, factors)
    order: np.ndarray  # (factors, n): row numbers sorted by the factor's value
    starts: np.ndarray  # (factors, values + 1): where each value's rows begin in `order`

    @classmethod
    def of(cls, labels: np.ndarray) -> "FactorGroups":
        """Group the rows of labels (n, factors)."""
        values = np.arange(labels.max() + 2)
        order = np.argsort(labels, axis=0, kind="stable").T
        starts = [np.searchsorted(column[rows], values) for column, rows in zip(labels.T, order, strict=True)]
        return cls(labels, order, np.stack(starts))

    def sharing(self, factor: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each of `rows`, another row (with replacement) that has the same value of `factor`."""
        value = self.labels[rows, factor]
        start = self.starts[factor, value]
        return self.order[factor, rng.integers(start, self.starts[factor, value + 1])]
