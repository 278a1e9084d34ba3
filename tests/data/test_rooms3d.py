import colorsys
import pickle

import numpy as np
import pytest

from dyga.data import DATASETS, Dataset, load_dataset, rooms3d
from dyga.data.rooms3d import FACTORS, FLOOR, FULL, OBJECT, SIZE, SKY, SKY_COLOUR, WALL, Rooms3D, ray_cast

GEOMETRIES = 8 * 4 * 15


@pytest.fixture(scope="module")
def shades():
    return ray_cast()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, shades):
    """A folder whose cache was written by Rooms3D itself."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms3d, "ray_cast", lambda: shades)
        Rooms3D(folder)
    return folder


@pytest.fixture(scope="module")
def rooms(data_dir):
    return Rooms3D(data_dir)


def image(rooms, *values):
    return rooms[int(FACTORS.index(np.array(values)))].astype(int)


def geometries(rooms, floor=0, wall=3, thing=7):
    """All geometries in three hues, (scale, shape, orientation, height, width, 3)."""
    first = int(FACTORS.index(np.array([floor, wall, thing, 0, 0, 0])))
    return rooms[first : first + GEOMETRIES].astype(int).reshape(8, 4, 15, SIZE, SIZE, 3)


def visible(first, second):
    """Number of pixels in which two images differ clearly."""
    return (np.abs(first - second).max(axis=-1) > 16).sum(axis=(-2, -1))


def test_the_data_set_has_the_stated_names_sizes_and_order(data_dir):
    data = load_dataset("rooms3d", data_dir=data_dir)
    assert isinstance(data, Dataset) and "rooms3d" in DATASETS
    assert data.factor_names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert data.factor_sizes == (10, 10, 10, 8, 4, 15)
    assert data.images.shape == (480_000, 64, 64, 3) and len(data.images) == 480_000
    assert data.images.dtype == np.uint8 and data.images.ndim == 4
    assert data.factors.shape == (480_000, 6) and data.factors.dtype == np.int64
    assert data.factors[[0, 15, 479_999]].tolist() == [[0] * 6, [0, 0, 0, 0, 1, 0], [9, 9, 9, 7, 3, 14]]
    assert data.identity == "rooms3d, version 1"
    assert rooms3d.SHAPES == ("cube", "cylinder", "sphere", "capsule")


@pytest.mark.parametrize("name", ["shapes", "", "ROOMS3D"])
def test_an_unknown_name_is_refused_with_the_valid_ones(name):
    with pytest.raises(ValueError, match=f"unknown data set '{name}': valid are rooms3d"):
        load_dataset(name)


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


def test_golden_colours(rooms):
    """If this fails since the scene was changed, its version must be raised: it tells models of the old scene from new ones."""
    assert rooms.version == 1
    means = {
        (0, 0, 0, 0, 0, 0): [219.98, 21.67, 24.42],
        (1, 6, 9, 7, 1, 7): [145.87, 79.69, 107.11],
        (5, 3, 2, 4, 2, 14): [50.12, 186.02, 110.20],
        (9, 8, 4, 3, 3, 5): [167.09, 46.60, 157.85],
    }
    for values, mean in means.items():
        np.testing.assert_allclose(image(rooms, *values).mean(axis=(0, 1)), mean, atol=0.05)
    picture = image(rooms, 1, 6, 9, 7, 1, 7)
    np.testing.assert_allclose(picture[2, 32], [155, 217, 245], atol=1)
    np.testing.assert_allclose(picture[60, 32], [216, 130, 0], atol=1)
    np.testing.assert_allclose(picture[34, 32], [190, 0, 114], atol=1)
    np.testing.assert_allclose(picture[20, 4], [0, 59, 147], atol=1)


def test_every_way_of_indexing_gives_the_same_images(rooms):
    last = len(rooms) - 1
    picture = rooms[last]
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(rooms[-1], picture)
    np.testing.assert_array_equal(rooms[np.int32(last)], picture)
    np.testing.assert_array_equal(rooms[[7, last]], np.stack([rooms[7], picture]))
    np.testing.assert_array_equal(rooms[np.array([-1, 7 - len(rooms)])], np.stack([picture, rooms[7]]))
    np.testing.assert_array_equal(rooms[last - 4 :: 2], rooms[np.arange(last - 4, last + 1, 2)])
    np.testing.assert_array_equal(rooms[3:0:-1], rooms[[3, 2, 1]])
    np.testing.assert_array_equal(rooms[np.arange(6).reshape(2, 3)][1, 2], rooms[5])
    mask = np.zeros(len(rooms), bool)
    mask[[5, 90]] = True
    np.testing.assert_array_equal(rooms[mask], rooms[[5, 90]])
    assert rooms[[]].shape == rooms[5:5].shape == (0, 64, 64, 3)
    rooms[5][:] = 0  # what is handed out is the caller's own
    assert rooms[5].any()


@pytest.mark.parametrize("index", [480_000, -480_001, [0, 480_000], np.array([-480_001])])
def test_an_index_out_of_range_is_refused(rooms, index):
    with pytest.raises(IndexError, match=r"valid are -480000\.\.479999"):
        rooms[index]


@pytest.mark.parametrize("index", [1.0, "1", None, (0, 1), [True, False]])
def test_an_index_of_another_kind_is_refused(rooms, index):
    with pytest.raises(IndexError, match="valid are an integer, a slice, integers, or a mask of all images"):
        rooms[index]


def test_ray_casting_again_gives_the_same_bits(shades):
    np.testing.assert_array_equal(ray_cast(), shades)


def test_the_cache_gives_the_same_bits_without_ray_casting(data_dir, shades, rooms, monkeypatch, tmp_path):
    monkeypatch.setattr(rooms3d, "ray_cast", lambda: shades)
    indices = np.random.default_rng(5).integers(len(rooms), size=50)
    fresh = Rooms3D(tmp_path)[indices]
    monkeypatch.setattr(rooms3d, "ray_cast", lambda: pytest.fail("the cache was not used"))
    np.testing.assert_array_equal(Rooms3D(data_dir)[indices], fresh)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rooms))[indices], fresh)


def test_a_damaged_or_stale_cache_is_rebuilt(data_dir, shades, rooms, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(rooms3d, "ray_cast", lambda: calls.append(1) or shades)
    path = tmp_path / "rooms3d.npz"
    whole = (data_dir / "rooms3d.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    stale = tmp_path / "stale"
    for count, content in enumerate([whole[: len(whole) // 2], bytes(flipped), b"", b"not an archive"], start=1):
        path.write_bytes(content)
        np.testing.assert_array_equal(Rooms3D(tmp_path)[123], rooms[123])
        assert len(calls) == count
        assert [file.name for file in tmp_path.iterdir()] == ["rooms3d.npz"]
        Rooms3D(tmp_path)
        assert len(calls) == count  # what was written instead is whole
    rooms3d.save_array(stale / "rooms3d.npz", "another scene", shades)
    Rooms3D(stale)
    assert len(calls) == 5


def test_without_a_folder_to_write_in_the_room_is_kept_in_memory(shades, rooms, monkeypatch, tmp_path):
    monkeypatch.setattr(rooms3d, "ray_cast", lambda: shades)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    np.testing.assert_array_equal(Rooms3D(blocked)[9], rooms[9])
    assert blocked.read_text() == "not a folder"
