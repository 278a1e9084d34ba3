"""Factors of own data: columns of integers, strings or numbers become classes."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

FEW = 40  # a column of floats with more distinct values is continuous
BINS = 10
MISSING = ("", "nan", "na", "n/a", "null")


class Labels(NamedTuple):
    """Classes (n, factors) int64 from 0 on, the factors' names and sizes, and a line for each column that was changed."""

    values: np.ndarray
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    notes: tuple[str, ...]


def make_labels(columns: Mapping[str, np.ndarray], where: str = "", skip: bool = False) -> Labels:
    """Columns (n,) of integers, strings or floats by name -> labels.

    Sorted values are the classes. A continuous column has ten classes of equal count, and its name says so. ValueError for a
    column that cannot be a factor; with `skip` it is left out, and a note says so.
    """
    values, names, notes = [], [], []
    for name, column in columns.items():
        try:
            classes, binned = as_classes(column)
        except ValueError as error:
            if not skip:
                raise ValueError(f"{where}factor '{name}' {error}") from None
            notes.append(f"{where}column '{name}' is left out: it {error}")
            continue
        if binned:
            bins = f"{classes.max() + 1} bins"
            notes.append(f"{where}factor '{name}' is continuous: {bins} of equal count are its classes")
            name = f"{name} ({bins})"
        names.append(name)
        values.append(classes)
    sizes = tuple(int(classes.max()) + 1 for classes in values)
    return Labels(np.stack(values, axis=1) if values else np.empty((0, 0), np.int64), tuple(names), sizes, tuple(notes))


def as_classes(column: np.ndarray) -> tuple[np.ndarray, bool]:
    """A column (n,) -> classes (n,) int64, and whether they are bins. ValueError says what is wrong with the column."""
    number = column.dtype.kind == "f"
    if column.dtype.kind == "O" or (number and not np.isfinite(column).all()):
        raise ValueError("has missing, NaN or infinite values")
    distinct, classes, counts = np.unique(column, return_inverse=True, return_counts=True)
    if len(distinct) < 2:
        raise ValueError("is constant: it needs two or more values")
    if number and len(distinct) > FEW:
        # Equal values share a bin: that of the middle of their ranks.
        bins = ((np.cumsum(counts) - counts / 2) * BINS / len(column)).astype(int)
        return np.unique(bins, return_inverse=True)[1][classes].astype(np.int64), True
    if len(distinct) > max(FEW, len(column) / 2):
        raise ValueError(f"has {len(distinct):,} values in {len(column):,} rows: too many for classes")
    return classes.astype(np.int64), False


def read_factors(path: Path, pictures: Sequence[str]) -> dict[str, np.ndarray]:
    """factors.csv -> columns by name, a row for each of `pictures`, the files' paths relative to its folder. ValueError if the
    file and the folder do not fit together."""
    header, rows = _read_csv(path)
    doubled = [name for name, count in Counter(header).items() if count > 1 or not name]
    if "file" not in header:
        raise ValueError(f"{path}: no column 'file'; its columns are {some(header)}")
    if doubled:
        raise ValueError(f"{path}: the column names {some(map(repr, doubled))} are empty or occur twice")
    if len(header) == 1:
        raise ValueError(f"{path}: no factor column beside 'file'")
    ragged = [line for line, row in rows if len(row) != len(header)]
    if ragged:
        raise ValueError(f"{path}: line {ragged[0]} does not have the {len(header)} cells of the first line")
    place = header.index("file")
    files = [Path(row[place]).as_posix() for _, row in rows]
    known, counted = set(pictures), Counter(files)
    for problem, names in {
        "pictures with two rows": [name for name, count in counted.items() if count > 1],
        "no such picture in the folder": [name for name in counted if name not in known],
        "pictures without a row": [name for name in pictures if name not in counted],
    }.items():
        if names:
            raise ValueError(f"{path}: {problem}: {some(names)}")
    if len(rows) < 2:
        raise ValueError(f"{path}: {len(rows)} picture; factors need two or more")
    for line, row in rows:
        empty = [name for name, cell in zip(header, row, strict=True) if cell.lower() in MISSING and name != "file"]
        if empty:
            raise ValueError(f"{path}: line {line} has no value for {some(empty)}")
    line_of = dict(zip(files, range(len(rows)), strict=True))
    order = [rows[line_of[name]][1] for name in pictures]
    return {name: _typed([row[i] for row in order]) for i, name in enumerate(header) if i != place}


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The column names, and the rows with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except UnicodeDecodeError:
        raise ValueError(f"{path} cannot be read as CSV (it is not UTF-8)") from None
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from None
    if not rows:
        raise ValueError(f"{path} is empty: it needs a column 'file' and one column per factor")
    return rows[0][1], rows[1:]


def _typed(cells: list[str]) -> np.ndarray:
    """Integers if all cells are, else floats if all cells are numbers, else strings."""
    if all(re.fullmatch(r"[+-]?\d{1,18}", cell) for cell in cells):
        return np.array(cells, dtype=np.int64)
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return np.array(cells)


def some(names) -> str:
    """The first three names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
