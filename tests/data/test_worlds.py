"""What holds for every embedded world."""

import hashlib
import pickle

import numpy as np
import pytest

from dyga.config import DATASETS
from dyga.data import RENDERED, Dataset, Factors, arm3d, faces2d, faces2d_correlated, load_dataset, rooms3d, world
from dyga.data.store import load_arrays, save_arrays

SIZES = {
    "rooms3d": dict(floor_hue=10, wall_hue=10, object_hue=10, scale=8, shape=4, orientation=15),
    "arm3d": dict(object_color=6, object_shape=6, object_size=2, camera_height=3, background_color=3)
    | dict(horizontal_axis=20, vertical_axis=20),
    "faces2d": dict(background=6, skin_tone=5, hair_colour=5, hair_style=4, head_turn=5)
    | dict(glasses=2, smile=2, beard=2, hat=2, eyes_open=2, earrings=2, scarf=2),
}
SIZES["faces2d_correlated"] = SIZES["faces2d"]
MODULES = {"rooms3d": (rooms3d, "ray_cast"), "arm3d": (arm3d, "ray_cast"), "faces2d": (faces2d, "draw")}
# Mean colours of images by index. They change only if the scene changes.
GOLDEN = {
    "rooms3d": {0: (219.98, 21.67, 24.42), 81502: (142.47, 85.53, 107.31), 479999: (178.91, 19.64, 121.09)},
    "arm3d": {0: (128.22, 114.81, 140.45), 86400: (128.03, 112.91, 138.58), 259199: (173.31, 136.78, 119.41)},
    "faces2d": {0: (132.35, 150.79, 169.19), 128000: (181.0, 154.68, 105.48), 383999: (126.1, 138.7, 136.54)},
    "faces2d_correlated": {0: (92.6, 104.69, 119.78), 66666: (163.06, 124.14, 131.39), 199999: (119.46, 141.72, 146.92)},
}
# If these fail since a scene was changed, its version must be raised.
# SHA-256 of 300 random images, and of all factors.
# Of images and factors. OpenBLAS multiplies arm3d's small matrices in another order with AVX-512: eight of the 3.7 million values
# differ by one grey level then.
HASHES = {
    "rooms3d": ({"8b2e485bbfd298f7"}, "b215fbe10e631f92"),
    "arm3d": ({"942aa1198f00f59c", "8b3d05e33a2c2b95"}, "21bc6265c5069e84"),
    "faces2d": ({"9515e3d1c3d7efce"}, "0a9db191596a471e"),
    "faces2d_correlated": ({"d20c37c17f749550"}, "81c6d1b8fbda4d41"),
}


@pytest.fixture(scope="module", params=RENDERED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def data(name):
    return load_dataset(name)


@pytest.fixture(scope="module")
def images(data):
    return data.images


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_names_sizes_and_order_are_as_stated(name, data):
    assert isinstance(data, Dataset) and tuple(SIZES) == tuple(RENDERED)
    assert dict(zip(data.factor_names, data.factor_sizes, strict=True)) == SIZES[name]
    assert DATASETS[name] == (len(data.images), len(SIZES[name]))
    assert data.images.shape == (len(data.images), 64, 64, 3) and data.images.dtype == np.uint8 and data.images.ndim == 4
    assert data.factors.shape == (len(data.images), len(SIZES[name])) and data.factors.dtype == np.int64
    assert (data.factors.min(axis=0) == 0).all() and (data.factors.max(axis=0) == np.array(data.factor_sizes) - 1).all()
    assert data.identity == f"{name}, version 1"
    for factor, colours in data.colours.items():
        assert colours.shape == (SIZES[name][factor], 3) and 0 <= colours.min() <= colours.max() <= 1


def test_an_index_determines_the_factors_exactly(name, data):
    if name == "faces2d_correlated":
        factors = faces2d_correlated.values(np.arange(len(data.images)))
        assert np.array_equal(faces2d_correlated.values(np.array([3, 199_999])), factors[[3, 199_999]])
    else:
        factors = Factors(data.factor_names, data.factor_sizes).values(np.arange(len(data.images)))
    assert np.array_equal(data.factors, factors)


def test_equal_factors_make_equal_images_and_others_do_not(data):
    rows = np.random.default_rng(0).integers(len(data.images), size=3_000)
    pairs = {(image.tobytes(), values.tobytes()) for image, values in zip(data.images[rows], data.factors[rows], strict=True)}
    assert len(pairs) == len({image for image, _ in pairs}) == len({values for _, values in pairs})


# Not of faces2d_correlated, which has the same pictures as faces2d, but not every combination.
@pytest.mark.parametrize("name", ["rooms3d", "arm3d", "faces2d"], scope="module")
def test_every_factor_is_visible_alone(name, data):
    """In each of 500 random images, a change of one factor alone changes 20 pixels or more clearly."""
    factors, random = Factors(data.factor_names, data.factor_sizes), np.random.default_rng(0)
    values = factors.values(random.integers(len(factors), size=500))
    before = data.images[factors.index(values)].astype(int)
    for column, size in enumerate(factors.sizes):
        changed = values.copy()
        if size < 15:
            changed[:, column] = (values[:, column] + random.integers(1, size, size=len(values))) % size
        else:  # neighbouring positions
            changed[:, column] += np.where(values[:, column] < size - 1, 1, -1)
        different = np.abs(data.images[factors.index(changed)] - before).max(axis=-1) > 24
        assert different.sum(axis=(1, 2)).min() >= 20, factors.names[column]


def test_golden_colours(name, images):
    for index, mean in GOLDEN[name].items():
        np.testing.assert_allclose(images[index].mean(axis=(0, 1)), mean, atol=0.05)


def test_golden_hashes(name, data):
    rows = np.random.default_rng(0).integers(len(data.images), size=300)
    images, factors = HASHES[name]
    assert digest(data.images[rows]) in images and digest(data.factors) == factors


def test_every_way_of_indexing_gives_the_same_images(images):
    last = len(images) - 1
    picture = images[last]
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(images[-1], picture)
    np.testing.assert_array_equal(images[np.int32(last)], picture)
    np.testing.assert_array_equal(images[[7, last]], np.stack([images[7], picture]))
    np.testing.assert_array_equal(images[np.array([-1, 7 - len(images)])], np.stack([picture, images[7]]))
    np.testing.assert_array_equal(images[last - 4 :: 2], images[np.arange(last - 4, last + 1, 2)])
    np.testing.assert_array_equal(images[3:0:-1], images[[3, 2, 1]])
    np.testing.assert_array_equal(images[np.arange(6).reshape(2, 3)][1, 2], images[5])
    mask = np.zeros(len(images), bool)
    mask[[5, 90]] = True
    np.testing.assert_array_equal(images[mask], images[[5, 90]])
    assert images[[]].shape == images[5:5].shape == (0, 64, 64, 3)
    images[5][:] = 0  # what is handed out is the caller's own
    assert images[5].any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images))[[3, last]], images[[3, last]])


def test_an_index_out_of_range_is_refused(images):
    count = len(images)
    for index in (count, -count - 1, [0, count], np.array([-count - 1])):
        with pytest.raises(IndexError, match=rf"valid are -{count}\.\.{count - 1}"):
            images[index]


@pytest.mark.parametrize("index", [1.0, "1", None, (0, 1), [True, False], [[0], [0, 1]], (slice(8), [0, 1])])
def test_an_index_of_another_kind_is_refused(images, index):
    with pytest.raises(IndexError, match="valid are an integer, a slice, integers, or a mask of all images"):
        images[index]


@pytest.mark.parametrize("name", ["shapes", "", "ROOMS3D"])
def test_an_unknown_name_is_refused_with_the_valid_ones(name):
    with pytest.raises(ValueError, match=f"unknown data set '{name}': valid are rooms3d, arm3d, faces2d"):
        load_dataset(name)


@pytest.fixture(params=MODULES)
def kept(request, monkeypatch):
    """A world that keeps a cache of its own: its name, images, what was rendered for them, and how often it is rendered again."""
    name, (module, function) = request.param, MODULES[request.param]
    images = RENDERED[name]()
    with np.load(world.data_folder() / f"{name}.npz") as stored:
        arrays = {key: stored[key] for key in stored}
    calls = []
    made = arrays["shades"] if name == "rooms3d" else {key: array for key, array in arrays.items() if key != "key"}
    monkeypatch.setattr(module, function, lambda: calls.append(1) or made)
    return name, images, arrays, calls


def save(path, arrays, key=None):
    save_arrays(path, key or str(arrays["key"]), {name: array for name, array in arrays.items() if name != "key"})


def test_a_whole_cache_is_used_and_is_small(kept, tmp_path):
    name, images, arrays, calls = kept
    save(tmp_path / f"{name}.npz", arrays)
    assert (tmp_path / f"{name}.npz").stat().st_size < 10e6
    rows = np.random.default_rng(5).integers(len(images), size=50)
    np.testing.assert_array_equal(RENDERED[name](tmp_path)[rows], images[rows])
    assert not calls


def test_a_damaged_or_stale_cache_is_made_anew(kept, tmp_path):
    name, images, arrays, calls = kept
    path = tmp_path / f"{name}.npz"
    save(path, arrays)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for count, content in enumerate([whole[: len(whole) // 2], bytes(flipped), b"not an archive"], start=1):
        path.write_bytes(content)
        np.testing.assert_array_equal(RENDERED[name](tmp_path)[123], images[123])
        assert len(calls) == count and [file.name for file in tmp_path.iterdir()] == [path.name]
    assert load_arrays(path, str(arrays["key"])) is not None  # what was written instead is whole
    save(path, arrays, "another scene")
    RENDERED[name](tmp_path)
    assert len(calls) == 4


def test_without_a_folder_to_write_in_the_world_is_kept_in_memory(kept, tmp_path):
    name, images, _, calls = kept
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    np.testing.assert_array_equal(RENDERED[name](blocked)[9], images[9])
    assert blocked.read_text() == "not a folder" and calls


def test_a_change_of_the_scene_makes_the_cache_stale(tmp_path):
    source, calls = tmp_path / "scene.py", []
    for count, text in ((1, "first"), (1, "first"), (2, "second")):
        source.write_text(text)
        world.rendered("scene", str(source), tmp_path, lambda: calls.append(1) or {"array": np.arange(3)})
        assert len(calls) == count


@pytest.mark.parametrize(("module", "function"), [MODULES["rooms3d"], MODULES["faces2d"]])
def test_rendering_again_gives_the_same_bits(module, function):
    RENDERED[module.__name__.split(".")[-1]]()  # kept in the cache, if it is not there yet
    again = getattr(module, function)()
    with np.load(world.data_folder() / f"{module.__name__.split('.')[-1]}.npz") as stored:
        for name, array in ({"shades": again} if module is rooms3d else again).items():
            np.testing.assert_array_equal(array, stored[name])
