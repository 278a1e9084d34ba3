import io

import numpy as np
import pytest
from PIL import Image

from dyga.data import load_dataset, read_image


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """A wide image with red sides, a grey one in a subfolder, one with transparency, and a text file."""
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :, 2] = 200
    wide[:, :40] = wide[:, 80:] = [255, 0, 0]
    save(tmp_path / "b.png", wide)
    save(tmp_path / "a" / "grey.JPG", np.full((64, 64), 90, np.uint8), format="JPEG")
    save(tmp_path / "c.png", np.dstack([np.full((9, 9, 3), 30, np.uint8), np.full((9, 9), 255, np.uint8)]))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folders_images_come_in_order_of_paths_at_one_size(folder):
    data = load_dataset(f"folder:{folder}")
    assert data.factors is None and data.factor_names == () and data.factor_sizes == ()
    assert data.images.shape == (3, 64, 64, 3) and data.images.dtype == np.uint8
    images = data.images[:]
    assert np.abs(images[0].astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(images[1, :, 4:-4], np.broadcast_to([0, 0, 200], (64, 56, 3)))
    assert (images[2] == 30).all()
    np.testing.assert_array_equal(data.images[-1], images[2])


def test_an_image_stored_on_its_side_is_turned_upright(tmp_path):
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: the stored left side is at the top
    save(tmp_path / "turned.png", half, exif=exif)
    image = load_dataset(f"folder:{tmp_path}").images[0]
    assert (image[:32] == 255).all() and (image[32:] == 0).all()


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"folder: .*absent is not a folder; need one with images in it"):
        load_dataset(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(ValueError, match=r"holds no images; valid endings are \.bmp, .*\.webp$"):
        load_dataset(f"folder:{tmp_path}")


def test_a_broken_image_is_named_when_it_is_read(folder):
    (folder / "d.png").write_bytes((folder / "b.png").read_bytes()[:60])
    images = load_dataset(f"folder:{folder}").images
    assert images[:3].shape == (3, 64, 64, 3)
    with pytest.raises(ValueError, match=r"folder: .*d\.png cannot be read as an image"):
        images[3]


RAMP = np.linspace(0, 65_535, 64 * 64).reshape(64, 64)


def encoded(image: Image.Image, kind: str = "png", **options) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


GREY = {
    "16 bits, png": encoded(Image.fromarray(RAMP.astype(np.uint16))),
    "16 bits, tiff": encoded(Image.fromarray(RAMP.astype(np.uint16)), "tiff"),
    "32 bits, tiff": encoded(Image.fromarray(RAMP.astype(np.int32)), "tiff"),
    "float of 0 to 1, tiff": encoded(Image.fromarray((RAMP / 65_535).astype(np.float32)), "tiff"),
    "float of 0 to 255, tiff": encoded(Image.fromarray((RAMP / 257).astype(np.float32)), "tiff"),
    "8 bits": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8))),
    "grey with alpha": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("LA")),
    "palette": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("P")),
    "cmyk": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("RGB").convert("CMYK"), "tiff"),
    "webp": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("RGB"), "webp", lossless=True),
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_levels_of_every_kind_become_eight_bits(kind):
    GREY[kind].seek(0)
    image = read_image(GREY[kind], kind)
    np.testing.assert_allclose(image, np.repeat(RAMP[..., None] / 257, 3, axis=2), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode):
    layer = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    options = {"transparency": 0} if mode == "P" else {}
    image = Image.new("P", (64, 64), 0) if mode == "P" else layer.convert(mode)
    assert (read_image(encoded(image, **options), mode) == 255).all()


def test_black_and_white_pixels_stay():
    image = Image.fromarray(np.arange(64 * 64).reshape(64, 64) % 2 == 0)
    assert set(np.unique(read_image(encoded(image), "1"))) == {0, 255}


def test_damaged_exif_data_do_not_hide_the_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(Image.new("RGB", (64, 64), "red"), "jpeg", exif=exif).getvalue()
    start = whole.index(b"Exif") + 6
    random = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole)
        for place in random.integers(start, start + 26, size=3):
            damaged[place] = random.integers(256)
        try:
            image = read_image(io.BytesIO(bytes(damaged)), "x.jpg")
        except ValueError as error:
            assert str(error).startswith("x.jpg cannot be read as an image")
        else:
            assert np.abs(image.astype(int) - [254, 0, 0]).max() <= 2


def test_what_is_no_image_is_named(tmp_path):
    whole = encoded(Image.new("RGB", (64, 64), "red")).getvalue()
    nan = encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "tiff").getvalue()
    for content in (b"", b"text", whole[:40], whole[:-30], nan, b"GIF89a", b"\xff\xd8\xff"):
        with pytest.raises(ValueError, match=r"^here cannot be read as an image"):
            read_image(io.BytesIO(content), "here")


def test_hidden_files_are_no_images(tmp_path):
    for name in ("a.png", "._a.png", "__MACOSX/a.png", ".ipynb_checkpoints/a.png", "deep/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    images = load_dataset(f"folder:{tmp_path}").images
    assert [path.relative_to(tmp_path).as_posix() for path in images.paths] == ["a.png", "deep/b.png"]
