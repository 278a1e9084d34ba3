import colorsys

import numpy as np
import pytest

from dyga.data import rooms3d
from dyga.data.rooms3d import FACTORS, FLOOR, FULL, OBJECT, SKY, SKY_COLOUR, WALL, Rooms3D, ray_cast
from dyga.data.world import SIZE

GEOMETRIES = 8 * 4 * 15


@pytest.fixture(scope="module")
def shades():
    return ray_cast()


@pytest.fixture(scope="module")
def rooms(tmp_path_factory, shades):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms3d, "ray_cast", lambda: shades)
        return Rooms3D(tmp_path_factory.mktemp("data"))


def image(rooms, *values):
    return rooms[int(FACTORS.index(np.array(values)))].astype(int)


def geometries(rooms, floor=0, wall=3, thing=7):
    """All geometries in three hues, (scale, shape, orientation, height, width, 3)."""
    first = int(FACTORS.index(np.array([floor, wall, thing, 0, 0, 0])))
    return rooms[first : first + GEOMETRIES].astype(int).reshape(8, 4, 15, SIZE, SIZE, 3)


def visible(first, second):
    """Number of pixels in which two images differ clearly."""
    return (np.abs(first - second).max(axis=-1) > 16).sum(axis=(-2, -1))


def test_an_image_is_the_rounded_sum_of_shade_times_colour(rooms, shades):
    indices = np.random.default_rng(0).integers(len(rooms), size=64)
    for index in indices:
        *hues, scale, shape, turn = FACTORS.values(int(index)).tolist()
        colours = np.array([SKY_COLOUR, *(colorsys.hsv_to_rgb(hue / 10, 1, 1) for hue in hues)])
        shade = shades[(scale * 4 + shape) * 15 + turn] / FULL
        expected = 255 * np.einsum("shw,sc->hwc", shade, colours)
        assert np.abs(rooms[int(index)] - expected).max() <= 0.51


def test_shades_fill_every_pixel_and_never_overflow(shades):
    assert shades.shape == (GEOMETRIES, 4, SIZE, SIZE) and shades.dtype == np.uint16
    total = shades.sum(axis=1, dtype=np.int64)
    assert total.min() > 0.08 * FULL and total.max() <= FULL + 3
    pure = (shades > 0).sum(axis=1) == 1
    assert 0.9 < pure.mean() < 0.99  # the rest are edges, which blend two surfaces or more


@pytest.mark.parametrize(("factor", "surface"), [(0, FLOOR), (1, WALL), (2, OBJECT)])
def test_a_hue_colours_its_own_surface_and_nothing_else(rooms, shades, factor, surface):
    values = np.random.default_rng(factor).integers(0, FACTORS.sizes, size=(20, 6))
    for row in values:
        other = row.copy()
        other[factor] = (row[factor] + 5) % 10
        changed = (image(rooms, *row) != image(rooms, *other)).any(axis=-1)
        share = shades[(row[3] * 4 + row[4]) * 15 + row[5], surface] / FULL
        assert changed[share > 0.01].all() and not changed[share == 0].any()
        assert changed.any()


def test_the_sky_never_changes_with_hue(rooms, shades):
    values = np.random.default_rng(3).integers(0, FACTORS.sizes, size=(20, 6))
    for row in values:
        sky = (shades[(row[3] * 4 + row[4]) * 15 + row[5]] > 0).sum(axis=0) == 1
        sky &= shades[(row[3] * 4 + row[4]) * 15 + row[5], SKY] > 0
        assert sky.sum() > 300
        np.testing.assert_array_equal(image(rooms, *row)[sky], image(rooms, 0, 0, 0, *row[3:])[sky])


def test_ten_hues_are_far_apart(rooms):
    for factor in range(3):
        values = np.tile([3, 5, 0, 5, 0, 7], (10, 1))
        values[:, factor] = np.arange(10)
        pictures = rooms[FACTORS.index(values)].astype(int)
        for first in range(10):
            for second in range(first):
                change = np.abs(pictures[first] - pictures[second]).max(axis=-1)
                assert np.median(change[change > 0]) > 40


def test_all_geometries_are_distinct(rooms):
    for hues in [(0, 3, 7), (4, 4, 4)]:
        assert len(np.unique(geometries(rooms, *hues).reshape(GEOMETRIES, -1), axis=0)) == GEOMETRIES


@pytest.mark.parametrize("hues", [(0, 3, 7), (0, 0, 0), (7, 7, 7)])
def test_neighbouring_values_differ_visibly_even_in_one_hue(rooms, hues):
    pictures = geometries(rooms, *hues)
    assert visible(pictures[:, :, 1:], pictures[:, :, :-1]).min() > 150  # orientation
    assert visible(pictures[1:], pictures[:-1]).min() > 40  # scale
    for first in range(4):
        for second in range(first):
            assert visible(pictures[:, first], pictures[:, second]).min() > 50  # shape


def test_the_walls_corner_crosses_the_picture(shades):
    """The brighter wall begins right of the corner, so its left border is where the corner is."""
    row = shades.reshape(8, 4, 15, 4, SIZE, SIZE)[0, 0, :, WALL, 15].astype(int)
    corner = np.abs(np.diff(row, axis=-1)).argmax(axis=-1)
    assert (np.diff(corner) >= 1).all()
    assert corner[0] < 16 and corner[-1] > 47 and abs(corner[7] - 31.5) <= 1


def test_objects_grow_stand_on_one_spot_and_keep_their_proportions(shades):
    covered = shades.reshape(8, 4, 15, 4, SIZE, SIZE)[:, :, :, OBJECT] > 0
    width, height = covered.any(axis=-2).sum(axis=-1), covered.any(axis=-1).sum(axis=-1)
    assert (np.diff(covered.sum(axis=(-2, -1)), axis=0) > 20).all()
    assert width[0].min() >= 10 and width[-1].max() <= 48
    assert not covered[..., :1, :].any() and not covered[..., -2:, :].any()
    sphere, capsule = height[:, 2] / width[:, 2], height[:, 3] / width[:, 3]
    assert sphere.max() < 1.15 and capsule.min() > 1.45


def test_the_object_darkens_the_floor_beside_it_and_not_far_away(shades):
    floor = shades.reshape(8, 4, 15, 4, SIZE, SIZE)[:, :, :, FLOOR] / FULL
    small, large = floor[0], floor[-1]
    pure = (large > 0.2) & (small > 0.2)
    assert (np.where(pure, small - large, 0).max(axis=(-2, -1)) > 0.3).all()
    # No seam where the shadow's reach ends: along the last row of floor the shade changes only at tiles.
    assert np.abs(np.diff(floor[..., -1, :], axis=-1)).max() < 0.08
