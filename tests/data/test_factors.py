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
    assert SMALL.index(np.zeros((2, 5, 3), int)).shape == (2, 5)
    assert SMALL.index(np.zeros(3, np.uint8)).dtype == np.int64


def test_factors_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.sizes = (1, 1, 1)


@pytest.mark.parametrize("index", [24, [0, -1]])
def test_indices_out_of_range_are_refused(index):
    with pytest.raises(ValueError, match="out of bounds"):
        SMALL.values(index)


@pytest.mark.parametrize("values", [[0, 2, 0], [[0, 0, 0], [-1, 0, 0]], [0, 0]])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ValueError):
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
