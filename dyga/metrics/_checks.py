"""Code shared by the metrics: argument checks, row sampling, standardisation and grouping of rows by factor value."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from sklearn.exceptions import ConvergenceWarning

Estimator = Literal["sklearn", "lightgbm"]


def as_array(values: object) -> np.ndarray:
    """The values as an array. A torch tensor may be on any device and may require gradients."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def checked_units(values: np.ndarray, name: str, ndim: tuple[int, ...] = (2,)) -> np.ndarray:
    """The values as a finite float64 array (n, units[, dim]). ValueError that names the argument otherwise."""
    array = as_array(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.ndim not in ndim or 0 in array.shape:
        shape = "(n, units)" if ndim == (2,) else "(n, units) or (n, units, dim)"
        raise ValueError(f"{name} must have shape {shape} without an empty dimension, got {array.shape}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite values: all must be finite")
    return array.astype(np.float64, copy=False)


def checked_integers(values: np.ndarray, name: str, rows: int | None = None) -> np.ndarray:
    """The values as an int64 array (n, columns), where n must be `rows` if given. ValueError otherwise, naming the argument."""
    array = as_array(values)
    if array.dtype.kind not in "iub":
        raise ValueError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have two dimensions and no empty dimension, got shape {array.shape}")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name} has {len(array)} rows, but {rows} are needed: one per row of the other input")
    return array.astype(np.int64, copy=False)


def checked_factors(factors: np.ndarray, rows: int) -> np.ndarray:
    """Labels (n, factors), with each factor's values renumbered from 0. ValueError for a constant factor."""
    array = checked_integers(factors, "factors", rows)
    labels = np.stack([np.unique(column, return_inverse=True)[1] for column in array.T], axis=1)
    check_not_constant(labels)
    return labels


def checked(codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, units) as float64, and labels (n, factors) renumbered from 0. ValueError for invalid input."""
    codes = checked_units(codes, "codes")
    return codes, checked_factors(factors, len(codes))


def check_not_constant(labels: np.ndarray, where: str = "") -> None:
    """Raise a ValueError that lists the columns of labels (n, factors) with a single value."""
    constant = np.flatnonzero((labels == labels[:1]).all(axis=0)).tolist()
    if constant:
        raise ValueError(f"factors has constant columns {constant}{where}: each must take two or more values")


def check_count(value: int, name: str, least: int = 1) -> None:
    """Raise a ValueError unless the named argument is an integer of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_rows(rows: int, name: str, **sizes: int) -> None:
    """Raise a ValueError unless every named sample size is at least 1 and `rows` covers their sum."""
    for argument, size in sizes.items():
        check_count(size, argument)
    if rows < sum(sizes.values()):
        needed = " + ".join(sizes)
        raise ValueError(f"{name} has {rows} rows: at least {sum(sizes.values())} are needed ({needed})")


def check_estimator(estimator: str) -> None:
    """Raise a ValueError for an unknown estimator of gradient boosting."""
    if estimator not in get_args(Estimator):
        raise ValueError(f'estimator must be "sklearn" or "lightgbm", got {estimator!r}')


def varied_rows(factors: np.ndarray, rows: np.ndarray, num_train: int | None = None) -> np.ndarray:
    """Row numbers `rows` of factors (n, factors), changed so that no factor that varies is constant in the first `num_train` of
    them (default: in all). For each factor that would be constant, one row is replaced by a row with another value."""
    rows, train = rows.copy(), slice(num_train)
    differ = factors[rows[train]] != factors[rows[0]]
    needed = {0, *differ.argmax(axis=0).tolist()}
    free = [place for place in reversed(range(len(differ))) if place not in needed]
    for factor in np.flatnonzero(~differ.any(axis=0)):
        others = np.flatnonzero(factors[:, factor] != factors[rows[0], factor])
        if not len(others) or not free or np.isin(others, rows[train]).any():  # a row that came for another factor
            continue
        place = free.pop(0)
        rows[rows == others[0]] = rows[place]  # it was among the test rows
        rows[place] = others[0]
    return rows


def split_rows(labels: np.ndarray, seed: int, num_train: int, num_test: int) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint row numbers (num_train,) and (num_test,), drawn without replacement; no factor is constant in the first."""
    check_rows(len(labels), "codes", num_train=num_train, num_test=num_test)
    rows = np.random.default_rng(seed).choice(len(labels), num_train + num_test, replace=False)
    rows = varied_rows(labels, rows, num_train)
    check_not_constant(labels[rows[:num_train]], " in the num_train rows drawn")
    return rows[:num_train], rows[num_train:]


def train_rows(labels: np.ndarray, seed: int, num_train: int, name: str = "codes") -> np.ndarray:
    """Row numbers (num_train,) drawn without replacement, for metrics without a test set; no factor is constant in them."""
    check_rows(len(labels), name, num_train=num_train)
    rows = varied_rows(labels, np.random.default_rng(seed).choice(len(labels), num_train, replace=False))
    check_not_constant(labels[rows], " in the num_train rows drawn")
    return rows


def standardised(codes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Codes (n, units) minus the mean and divided by the standard deviation of `reference` (m, units).

    A unit that is constant in `reference` is only centred.
    """
    deviation = reference.std(axis=0)
    return (codes - reference.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def absolute_correlations(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Absolute Pearson correlation (units, columns) of codes (n, units) and values (n, columns), 0 for a constant unit."""
    constant = (codes == codes[:1]).all(axis=0)
    codes, values = codes - codes.mean(axis=0), values - values.mean(axis=0)
    codes[:, constant] = 0.0
    norm = np.linalg.norm(codes, axis=0)
    return np.abs((codes / np.where(norm > 0, norm, 1.0)).T @ (values / np.linalg.norm(values, axis=0))).clip(max=1.0)


def active_mask(codes: np.ndarray) -> np.ndarray:
    """Codes (n, units) -> (units,) bool: units with at least 5% of the largest standard deviation. A constant unit, such as a
    pruned one, is inactive, unless all are constant.

    Of units with several scalars, (n, units, scalars), the scalar that varies most counts.
    """
    spread = codes.std(axis=0).reshape(codes.shape[1], -1).max(axis=1)
    return spread >= 0.05 * spread.max()


@contextmanager
def convergence_warnings_ignored() -> Iterator[None]:
    """Ignore scikit-learn's ConvergenceWarning. The protocols stop at the default number of iterations, converged or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@dataclass(frozen=True)
class FactorGroups:
    """Rows sorted by the value of each factor. Rows that share a value are then found without a search."""

    labels: np.ndarray  # (n, factors)
    order: np.ndarray  # (factors, n): row numbers sorted by the factor's value
    starts: np.ndarray  # (factors, values + 1): start of each value's rows in `order`

    @classmethod
    def from_labels(cls, labels: np.ndarray) -> "FactorGroups":
        """Group the rows of labels (n, factors), whose values are numbered from 0."""
        values = np.arange(labels.max() + 2)
        order = np.argsort(labels, axis=0, kind="stable").T
        starts = [np.searchsorted(column[rows], values) for column, rows in zip(labels.T, order, strict=True)]
        return cls(labels, order, np.stack(starts))

    def sample_sharing(self, factor: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each of `rows`, a random row with the same value of `factor`, drawn with replacement."""
        value = self.labels[rows, factor]
        start = self.starts[factor, value]
        return self.order[factor, rng.integers(start, self.starts[factor, value + 1])]
