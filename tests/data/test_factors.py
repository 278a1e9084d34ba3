import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyga.data.factors import Factors, rows_along

SMALL = Factors(names=("hue", "shape", "turn"), sizes=(3, 2, 4))
sizes = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


def factors_of(sizes):
    return Factors(names=tuple(f"factor{i}" for i in range(len(sizes))), sizes=sizes)


@given(sizes)
def test_index_and_values_are_inverse_and_cover_every_combination_once(sizes):
    factors = factors_of(sizes)
    table = factors.table()
    assert table.shape == (len(factors), len(sizes)) and table.dtype == np.int64
    assert len(np.unique(table, axis=0)) == len(factors) == np.prod(sizes)
    np.testing.assert_array_equal(factors.index(table), np.arange(len(factors)))


@given(sizes, st.data())
def test_the_last_factor_varies_fastest(sizes, data):
    factors = factors_of(sizes)
    values = [data.draw(st.integers(0, size - 1)) for size in sizes]
    index = 0
    for value, size in zip(values, sizes, strict=True):
        index = index * size + value
    assert factors.index(np.array(values)) == index
    assert factors.values(index).tolist() == values


def test_shapes_follow_the_input():
    assert SMALL.values(23).tolist() == [2, 1, 3]
    assert SMALL.values(np.zeros((2, 5), int)).shape == (2, 5, 3)
    assert SMALL.values([]).shape == (0, 3)
    assert SMALL.index(np.zeros((2, 5, 3), int)).shape == (2, 5)
    assert SMALL.index(np.zeros(3, np.uint8)).dtype == np.int64


def test_factors_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.sizes = (1, 1, 1)


@pytest.mark.parametrize(
    ("names", "sizes", "message"),
    [
        (("a",), (2, 3), "sizes: 2 given for 1 names; need one per name"),
        ((), (), "names: empty; need at least one factor"),
        (("a", "a"), (2, 3), r"names: \('a', 'a'\) repeat; names must be unique"),
        (("a", "b"), (2, 0), "sizes: b has size 0; valid are integers from 1"),
        (("a",), (2.5,), "sizes: a has size 2.5; valid are integers from 1"),
        (("a",), (True,), "sizes: a has size True; valid are integers from 1"),
    ],
)
def test_bad_definitions_are_named(names, sizes, message):
    with pytest.raises(ValueError, match=message):
        Factors(names, sizes)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (24, r"index: 24\.\.24 given; valid are 0\.\.23"),
        ([0, -1], r"index: -1\.\.0 given; valid are 0\.\.23"),
        (1.0, "index: float64 given; valid are integers"),
        (True, "index: bool given; valid are integers"),
    ],
)
def test_bad_indices_are_named(index, message):
    with pytest.raises(ValueError, match=message):
        SMALL.values(index)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 2, 0], r"values: shape is 2\.\.2; valid are 0\.\.1"),
        ([[0, 0, 0], [-1, 0, 0]], r"values: hue is -1\.\.0; valid are 0\.\.2"),
        ([0, 0], r"values: shape \(2,\) given; the last axis must be 3 long"),
        (0, r"values: shape \(\) given; the last axis must be 3 long"),
        ([0.0, 0.0, 0.0], "values: float64 given; valid are integers"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        SMALL.index(values)


def test_rows_along_a_factor_hold_the_others_where_every_combination_exists():
    table = SMALL.table()
    for column, size in enumerate(SMALL.sizes):
        found = table[rows_along(table, 13, column)]
        assert found[:, column].tolist() == list(range(size))
        assert (np.delete(found, column, axis=1) == np.delete(table[13], column)).all()
    assert table[rows_along(table, 0, 2, most=2), 2].tolist() == [0, 3]


def test_rows_along_a_factor_are_the_nearest_where_combinations_are_missing():
    table = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [5, 1, 1]])
    assert rows_along(table, 0, 0).tolist() == [0, 1, 4]
