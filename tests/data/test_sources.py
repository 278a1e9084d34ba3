"""Own pictures: every kind is read rightly or named, once, and whatever changes in the folder changes its identity."""

import errno
import io
import os
import shutil
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import dyga
from PIL import Image

from dyga.config import image_files
from dyga.data import load_dataset, read_image, sources


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """A wide image with red sides, a grey one in a subfolder, one with transparency, and a text file."""
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :, 2] = 200
    wide[:, :40] = wide[:, 80:] = [255, 0, 0]
    folder = tmp_path / "pictures"
    save(folder / "b.png", wide)
    save(folder / "a" / "grey.JPG", np.full((64, 64), 90, np.uint8), format="JPEG")
    save(folder / "c.png", np.dstack([np.full((9, 9, 3), 30, np.uint8), np.full((9, 9), 255, np.uint8)]))
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def load(tmp_path):
    return lambda folder: load_dataset(f"folder:{folder}", tmp_path / "data")


def paths(folder) -> list[Path]:
    return [Path(path) for path in image_files(folder)]


def prepared(tmp_path) -> list[str]:
    return sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*") if path.is_file())


def test_a_folders_images_come_in_order_of_paths_at_one_size(folder, load):
    data = load(folder)
    assert data.factors is None and data.factor_names == () and data.factor_sizes == ()
    assert data.images.shape == (3, 64, 64, 3) and data.images.dtype == np.uint8
    images = data.images[:]
    assert np.abs(images[0].astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(images[1, :, 4:-4], np.broadcast_to([0, 0, 200], (64, 56, 3)))
    assert (images[2] == 30).all()
    np.testing.assert_array_equal(data.images[-1], images[2])


def test_a_missing_or_empty_folder_is_named(tmp_path, load):
    with pytest.raises(ValueError, match=r"folder: .*absent is not a folder; need one with images in it"):
        load(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"holds no images; valid endings are \.bmp, .*\.webp$"):
        load(tmp_path)
    with pytest.raises(ValueError, match="data set 'folder:': valid is folder:PATH"):
        load("")
    assert not (tmp_path / "data").exists()


def test_pictures_are_read_once(folder, load, tmp_path, monkeypatch):
    first = load(folder)
    assert len(prepared(tmp_path)) == 2
    monkeypatch.setattr(sources, "read_image", lambda *_: pytest.fail("read again"))
    second = load(f"{folder.parent}/./{folder.name}/")
    assert second.identity == first.identity
    np.testing.assert_array_equal(second.images[:], first.images[:])
    assert first.identity.startswith(f"folder:{folder}, 3 images, digest ") and len(first.identity.split()[-1]) == 16


def replaced(path):
    """Another picture of the same size and time."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-30] ^= 1  # not a pixel of the picture that would be shown, but another file
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


CHANGES = {
    "a picture more": lambda f: save(f / "d.png", np.zeros((8, 8, 3), np.uint8)),
    "a picture less": lambda f: (f / "c.png").unlink(),
    "another name": lambda f: (f / "c.png").rename(f / "d.png"),
    "other content": lambda f: save(f / "c.png", np.full((9, 9, 4), 31, np.uint8)),
    "other content of the same size and time": lambda f: replaced(f / "a" / "grey.JPG"),
    "two names exchanged": lambda f: (
        (f / "b.png").rename(f / "x"), (f / "c.png").rename(f / "b.png"), (f / "x").rename(f / "c.png")
    ),
    "all replaced": lambda f: [save(path, np.zeros((8, 8, 3), np.uint8)) for path in f.rglob("*.*g")],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_folder_changes_its_identity_and_the_old_copy_goes(folder, load, tmp_path, change):
    before = load(folder)
    CHANGES[change](folder)
    after = load(folder)
    assert after.identity != before.identity and len(prepared(tmp_path)) == 2
    assert len(after.images) == len(list(folder.rglob("*.png"))) + 1
    for image, path in zip(after.images[:], paths(folder), strict=True):
        np.testing.assert_array_equal(image, read_image(path, "x"))


def test_what_changes_no_picture_changes_no_identity(folder, load, monkeypatch):
    before = load(folder).identity
    (folder / "more notes.txt").write_text("x")
    for path in folder.rglob("*.png"):
        path.touch()
    assert load(folder).identity == before
    monkeypatch.setattr(sources, "CODE", [Path(__file__)])  # another version of the code reads anew
    assert load(folder).identity == before


def test_two_folders_of_the_same_name_have_two_identities_and_two_copies(folder, load, tmp_path):
    shutil.copytree(folder, tmp_path / "b" / folder.name)
    first, second = load(folder), load(tmp_path / "b" / folder.name)
    assert first.identity != second.identity and len(prepared(tmp_path)) == 4
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert load(link).identity == first.identity


@pytest.mark.parametrize("damage", ["images.json", "*.npy"])
def test_a_damaged_copy_is_made_anew(folder, load, tmp_path, damage):
    identity, expected = load(folder).identity, load(folder).images[:]
    (path,) = (tmp_path / "data").rglob(damage)
    path.write_bytes(path.read_bytes()[:50])
    again = load(folder)
    assert again.identity == identity
    np.testing.assert_array_equal(again.images[:], expected)


def test_several_at_once_read_it_once(folder, load, tmp_path, monkeypatch):
    read, calls = sources._read, []
    monkeypatch.setattr(sources, "_read", lambda *arguments: calls.append(1) or read(*arguments))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load, [folder] * 8))
    assert len(calls) == 1
    assert len({data.identity for data in found}) == 1 and len(prepared(tmp_path)) == 2
    assert all((data.images[:] == found[0].images[:]).all() for data in found)


def test_what_a_killed_reading_left_is_deleted(folder, load, tmp_path):
    load(folder)
    (place,) = {path.parent for path in (tmp_path / "data").rglob("images.json")}
    save(place / "tmpkilled" / "half.png", np.zeros((9, 9, 3), np.uint8))
    save(folder / "d.png", np.zeros((9, 9, 3), np.uint8))
    assert len(load(folder).images) == 4 and len(prepared(tmp_path)) == 2


# What is read, and what is named.

RAMP = np.linspace(0, 65_535, 64 * 64).reshape(64, 64)
RED = Image.new("RGB", (64, 64), "red")


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


GREY = {
    "16 bits.png": encoded(Image.fromarray(RAMP.astype(np.uint16))),
    "16 bits.tif": encoded(Image.fromarray(RAMP.astype(np.uint16)), "tiff"),
    "32 bits.tif": encoded(Image.fromarray(RAMP.astype(np.int32)), "tiff"),
    "float of 0 to 1.tiff": encoded(Image.fromarray((RAMP / 65_535).astype(np.float32)), "tiff"),
    "float of 0 to 255.tif": encoded(Image.fromarray((RAMP / 257).astype(np.float32)), "tiff"),
    "float beyond 1.tif": encoded(Image.fromarray((RAMP / 65_535 + 0.001).astype(np.float32)), "tiff"),
    "float beyond 255.tif": encoded(Image.fromarray((RAMP / 257 + 0.3).astype(np.float32)), "tiff"),
    "8 bits.png": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8))),
    "grey with alpha.png": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("LA")),
    "palette.png": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("P")),
    "cmyk.tif": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("RGB").convert("CMYK"), "tiff"),
    "lossless.webp": encoded(Image.fromarray(np.rint(RAMP / 257).astype(np.uint8)).convert("RGB"), "webp", lossless=True),
}


@pytest.mark.parametrize("name", GREY)
def test_grey_levels_of_every_kind_become_eight_bits(name):
    image = read_image(io.BytesIO(GREY[name]), name)
    np.testing.assert_allclose(image, np.repeat(RAMP[..., None] / 257, 3, axis=2), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode):
    layer = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    options = {"transparency": 0} if mode == "P" else {}
    image = Image.new("P", (64, 64), 0) if mode == "P" else layer.convert(mode)
    assert (read_image(io.BytesIO(encoded(image, **options)), mode) == 255).all()


def test_black_and_white_pixels_stay():
    image = Image.fromarray(np.arange(64 * 64).reshape(64, 64) % 2 == 0)
    assert set(np.unique(read_image(io.BytesIO(encoded(image)), "1"))) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(orientation):
    """A picture with a white top left corner and a grey top right one, stored in each of the eight ways."""
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:32, :32], upright[:32, 32:] = 255, 128
    back = [None, None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270"]
    stored, exif = Image.fromarray(upright), Image.Exif()
    if back[orientation]:
        stored = stored.transpose(Image.Transpose[back[orientation]])
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(io.BytesIO(encoded(stored, exif=exif)), "x"), upright)


ODD = {
    "progressive.jpg": encoded(RED, "jpeg", progressive=True, quality=95),
    "cmyk.jpg": encoded(RED.convert("CMYK"), "jpeg", quality=100),
    "grey.jpeg": encoded(RED, "jpeg", quality=95),
    "animated.gif": encoded(RED, "gif", save_all=True, append_images=[Image.new("RGB", (64, 64), "blue")]),
    "animated.png": encoded(RED, save_all=True, append_images=[Image.new("RGB", (64, 64), "blue")]),
    "animated.webp": encoded(RED, "webp", save_all=True, lossless=True, append_images=[Image.new("RGB", (64, 64), "blue")]),
    "several pages.tif": encoded(RED, "tiff", save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")]),
    "palette with alpha.png": encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 255)).quantize()),
    "CAPITALS.PNG": encoded(RED),
    "a space, ünïcödé and 图.png": encoded(RED),
    "new\nline.png": encoded(RED),
    "a png named.jpg": encoded(RED),
    "one pixel.bmp": encoded(RED.resize((1, 1)), "bmp"),
    "long and thin.png": encoded(RED.resize((1, 5_000))),
}


def test_odd_pictures_are_read(tmp_path, load):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, content in ODD.items():
        (folder / name).write_bytes(content)
    (folder / "link.png").symlink_to(folder / "CAPITALS.PNG")
    images = load(folder).images
    assert sorted(path.name for path in paths(folder)) == sorted([*ODD, "link.png"])
    off = [np.abs(image - [255.0, 0, 0]).max() for image in images[:]]
    assert not [(path.name, much) for path, much in zip(paths(folder), off, strict=True) if much > 4]


def test_hidden_files_folders_and_other_things_are_no_pictures(tmp_path, load):
    folder = tmp_path / "pictures"
    hidden = ("._a.png", "__MACOSX/a.png", ".ipynb_checkpoints/a.png", ".hidden/deep/a.png")
    for name in ("a.png", *hidden, "deep/b.png", "c.png/d.png"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        RED.save(folder / name)
    (folder / "no suffix").write_bytes(encoded(RED))
    os.mkfifo(folder / "pipe.png")
    assert [path.relative_to(folder).as_posix() for path in paths(folder)] == ["a.png", "c.png/d.png", "deep/b.png"]
    assert len(load(folder).images) == 3


def test_linked_folders_are_read_once_and_loops_end(tmp_path, load):
    folder, other = tmp_path / "pictures", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
        RED.save(place / "a.png")
    (folder / "cats").symlink_to(other)
    (folder / "felines").symlink_to(other)
    (other / "up").symlink_to(folder)
    assert [path.relative_to(folder).as_posix() for path in paths(folder)] == ["a.png", "cats/a.png"]
    assert len(load(folder).images) == 2


WHOLE, JPEG = encoded(RED), encoded(RED, "jpeg")
BAD = {
    "empty.png": b"",
    "text.png": b"this is a text",
    "page.jpg": b"<!DOCTYPE html><html>not found</html>",
    "signature.png": WHOLE[:8],
    "header.png": WHOLE[:40],
    "truncated.png": WHOLE[:-30],
    "a flipped bit.png": WHOLE[:60] + bytes([WHOLE[60] ^ 4]) + WHOLE[61:],
    "start.jpg": b"\xff\xd8\xff",
    "truncated.jpg": JPEG[: len(JPEG) // 2],
    "truncated.gif": b"GIF89a",
    "truncated.bmp": encoded(RED, "bmp")[:-100],
    "truncated.webp": encoded(RED, "webp")[:-20],
    "truncated.tif": encoded(RED, "tiff")[:100],
    "nan.tif": encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "tiff"),
    "negative.tif": encoded(Image.fromarray(np.full((8, 8), -3, np.float32)), "tiff"),
    "of no range.tif": encoded(Image.fromarray(np.full((8, 8), 2, np.float32)), "tiff"),
    "too bright.tif": encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "tiff"),
    "infinite.tif": encoded(Image.fromarray(np.full((8, 8), np.inf, np.float32)), "tiff"),
    "no pixels.png": png_of_size(0, 0),
    "no height.png": png_of_size(64, 0),
    "bomb.png": png_of_size(60_000, 60_000),
    "wide bomb.png": png_of_size(2_000_000_000, 1),
    "too few pixels.png": png_of_size(64, 64),
    "zip.png": b"PK\x03\x04" + b"\0" * 60,
    "zeros.jpg": b"\0" * 5_000,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_before_anything_is_kept(folder, load, tmp_path, name):
    (folder / name).write_bytes(BAD[name])
    with pytest.raises(ValueError, match=r"^folder: [^;]* cannot be read as an image \([^<>]+\)$") as error:
        load(folder)
    assert str(folder / name) in str(error.value)
    assert not (tmp_path / "data").exists()


def test_links_without_a_target_and_unreadable_files_are_named(folder, load):
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    with pytest.raises(ValueError, match=r"dangling.png cannot be read as an image \(No such file") as error:
        load(folder)
    assert "loop.png cannot be read as an image (" in str(error.value)


@pytest.mark.parametrize(("name", "where"), [("b.png", (Path, "read_bytes")), ("a", (os, "scandir"))])
def test_what_may_not_be_read_is_named(folder, load, monkeypatch, name, where):
    """Simulated, since the superuser may read everything."""
    reads = getattr(*where)

    def denied(path):
        if os.fspath(path) == str(folder / name):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return reads(path)

    monkeypatch.setattr(*where, denied)
    with pytest.raises(ValueError, match=f"{name} cannot be read.*Permission denied"):
        load(folder)


def test_many_bad_files_are_one_line_on_the_command_line(folder, tmp_path):
    for number, (name, content) in enumerate(BAD.items()):
        (folder / f"{number:02d} {name}").write_bytes(content)
    out = tmp_path / "out"
    for command in ("reproduce", "train"):
        where = ["--out", str(out)] if command == "reproduce" else ["--folder", str(out / "run"), "--data-dir", str(tmp_path)]
        done = dyga(command, "--profile", "smoke", "--dataset", f"folder:{folder}", *where)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "00 empty.png cannot be read" in done.stderr and f"and {len(BAD) - 5} more" in done.stderr
        assert {path.name for path in tmp_path.iterdir()} == {"pictures"}


def test_damaged_exif_data_do_not_hide_the_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(Image.new("RGB", (8, 8), "red"), "jpeg", exif=exif)
    start = whole.index(b"Exif") + 6
    random = np.random.default_rng(0)
    places, values = random.integers(start, start + 26, size=(10_000, 3)), random.integers(256, size=(10_000, 3))
    damaged = np.repeat(np.frombuffer(whole, np.uint8)[None], len(places), axis=0)
    damaged[np.arange(len(places))[:, None], places] = values
    with warnings.catch_warnings(action="ignore"):
        images = np.stack([read_image(io.BytesIO(content), "x.jpg", 8) for content in damaged])
    assert np.abs(images.astype(int) - [254, 0, 0]).max() <= 2


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_damage_anywhere_is_a_value_error_or_nothing(kind):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)), kind)
    random = np.random.default_rng(1)
    warnings.simplefilter("ignore")  # pytest restores them
    for _ in range(1_000):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=3):
            damaged[place] = random.integers(256)
        try:
            assert read_image(io.BytesIO(bytes(damaged[: random.integers(len(whole) + 1)])), "x", 8).shape == (8, 8, 3)
        except ValueError as error:
            assert str(error).startswith("x cannot be read as an image (")
