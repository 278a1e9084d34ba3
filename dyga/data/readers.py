"""Readers of the published file formats. Each yields batches (images (k, 64, 64, 3) uint8, factor values (k, factors) or None).

A reader takes the files, the expected number of images, and the index of the first image to yield. It never unpickles, never
unpacks an archive to disk, and checks sizes before it reads. A damaged or hostile file raises a ValueError that names the file,
what was expected and what was found.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

Batches = Iterator[tuple[np.ndarray, np.ndarray | None]]
BATCH = 1_000
SIDE = 64
MAX_MEMBER = 64 << 20  # bytes: upper limit for an archive member that is read at once


def wrong(path: Path, expected: str, found: object) -> ValueError:
    """The error for a file that is not the expected one."""
    return ValueError(f"{path}: expected {expected}, found {found}; the file is damaged or a different one")


def read_shapes3d(files: list[Path], count: int, start: int) -> Batches:
    """3dshapes.h5: `images` (n, 64, 64, 3) uint8 in the factors' order. The index determines the factors."""
    return _hdf5(files[0], "images", (count, SIDE, SIDE, 3), start)


def read_dsprites(files: list[Path], count: int, start: int) -> Batches:
    """dSprites' hdf5: `imgs` (n, 64, 64) uint8 of 0 and 1, converted to black and white RGB."""
    for masks, _ in _hdf5(files[0], "imgs", (count, SIDE, SIDE), start):
        yield np.repeat(masks[..., None] * np.uint8(255), 3, axis=-1), None


def _hdf5(path: Path, key: str, shape: tuple[int, ...], start: int) -> Batches:
    import h5py

    try:
        stored = h5py.File(path, locking=False)  # another program may have it open; its digest is checked
    except OSError as error:
        raise wrong(path, "an HDF5 file", f"none ({error})") from None
    with stored:
        if key not in stored or not isinstance(stored[key], h5py.Dataset):
            raise wrong(path, f"a key '{key}'", f"the keys {', '.join(stored) or 'none'}")
        data = stored[key]
        if data.shape != shape or data.dtype != np.uint8:
            raise wrong(path, f"{key} {shape} uint8", f"{data.shape} {data.dtype}")
        for first in range(start, shape[0], BATCH):
            try:
                yield data[first : first + BATCH], None
            except OSError as error:
                raise wrong(path, f"readable data at image {first}", error) from None


def npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and type of an array in a stream, which is then at its first number."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return header(stream)


def read_npz(files: list[Path], count: int, start: int) -> Batches:
    """mpi3d_*.npz: `images` (n, 64, 64, 3) uint8, streamed from the archive in batches."""
    path, row = files[0], SIDE * SIDE * 3
    try:
        with zipfile.ZipFile(path) as archive:
            if "images.npy" not in archive.namelist():
                raise wrong(path, "a key 'images'", f"the members {', '.join(archive.namelist()[:5]) or 'none'}")
            size = archive.getinfo("images.npy").file_size
            if not 0 <= size - count * row <= 4_096:
                raise wrong(path, f"images of {count * row:,} bytes", f"{size:,}")
            with archive.open("images.npy") as stream:
                shape, fortran, dtype = npy_header(stream)
                if shape != (count, SIDE, SIDE, 3) or fortran or dtype != np.uint8:
                    raise wrong(path, f"images {(count, SIDE, SIDE, 3)} uint8", f"{shape} {dtype}")
                for first in range(0, count, BATCH):
                    content = stream.read(min(BATCH, count - first) * row)
                    images = np.frombuffer(content, np.uint8)[: len(content) // row * row].reshape(-1, SIDE, SIDE, 3)
                    if len(images) < min(BATCH, count - first):
                        raise wrong(path, f"{count:,} images", f"an end after {first + len(images):,}")
                    if first + len(images) > start:
                        yield images[max(start - first, 0) :], None
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise wrong(path, "a whole npz archive", error) from None
    except ValueError as error:  # from the array's header
        raise error if str(error).startswith(str(path)) else wrong(path, "an array of images", error) from None


def read_cars3d(files: list[Path], count: int, start: int) -> Batches:
    """nips2015-analogy-data.tar.gz: data/cars/*.mat in the order of list.txt, each `im` (128, 128, 3, azimuth, elevation) of one
    car, resized to 64. The object varies fastest with the index, so all cars are read before the first batch is yielded."""
    path = files[0]
    listed, cars = None, {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isfile() or not name.startswith("data/cars/") or not name.endswith((".mat", "list.txt")):
                    continue
                if member.size > MAX_MEMBER:
                    raise wrong(path, f"members of at most {MAX_MEMBER:,} bytes", f"{name} of {member.size:,}")
                content = archive.extractfile(member).read()
                if name.endswith("list.txt"):
                    listed = content.decode("utf-8", "replace").split()
                else:
                    cars[Path(name).stem] = _car(path, name, content)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise wrong(path, "a whole tar archive", error) from None
    names = [Path(name).stem for name in listed or []]
    missing = [name for name in names if name not in cars]
    if not names or missing or len(names) * 96 != count:
        raise wrong(path, f"data/cars/list.txt and {count // 96} cars", f"{len(cars)} cars, {len(missing)} of the listed missing")
    images = np.stack([cars[name] for name in names], axis=2).reshape(count, SIDE, SIDE, 3)
    for first in range(start, count, BATCH):
        yield images[first : first + BATCH], None


def _car(path: Path, name: str, content: bytes) -> np.ndarray:
    """One car's file -> (elevation 4, azimuth 24, 64, 64, 3) uint8."""
    from scipy.io import loadmat

    try:
        stored = loadmat(io.BytesIO(content), variable_names=["im"])
    except Exception as error:  # scipy raises many types for a damaged file
        raise wrong(path, f"{name} to be a MATLAB file", error) from None
    if "im" not in stored or stored["im"].shape != (128, 128, 3, 24, 4) or stored["im"].dtype != np.uint8:
        found = f"{stored['im'].shape} {stored['im'].dtype}" if "im" in stored else "no such key"
        raise wrong(path, f"{name} with im (128, 128, 3, 24, 4) uint8", found)
    views = stored["im"].transpose(4, 3, 0, 1, 2)
    small = [Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for view in views.reshape(-1, 128, 128, 3)]
    return np.stack([np.asarray(view) for view in small]).reshape(4, 24, SIDE, SIDE, 3)


def read_celeba(files: list[Path], count: int, start: int) -> Batches:
    """img_align_celeba.zip, faces cropped to the central square and resized to 64, with the 40 attributes of
    list_attr_celeba.txt as 0 and 1."""
    path, listed = files
    names, values = _attributes(listed, count)
    try:
        with zipfile.ZipFile(path) as archive:
            for first in range(start, count, BATCH):
                images = [_face(path, archive, f"img_align_celeba/{name}") for name in names[first : first + BATCH]]
                yield np.stack(images), values[first : first + BATCH]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise wrong(path, "a whole zip archive", error) from None


def _face(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise wrong(path, f"a member {name}", "none") from None
    if info.file_size > 1 << 20:
        raise wrong(path, f"{name} of at most a megabyte", f"{info.file_size:,} bytes")
    try:
        with Image.open(io.BytesIO(archive.read(info)), formats=["JPEG"]) as face:
            if max(face.size) > 1_024:
                raise OSError(f"{face.size[0]}x{face.size[1]} pixels")
            return np.asarray(ImageOps.fit(face.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS))
    except (OSError, SyntaxError) as error:
        raise wrong(path, f"{name} to be a small JPEG image", error) from None


def _attributes(path: Path, count: int) -> tuple[list[str], np.ndarray]:
    lines = path.read_text("utf-8", "replace").splitlines()
    if len(lines) != count + 2 or len(lines[1].split()) != 40:
        raise wrong(path, f"{count} rows of 40 attributes", f"{max(len(lines) - 2, 0)} rows")
    rows = [line.split() for line in lines[2:]]
    bad = next((row for row in rows if len(row) != 41 or not set(row[1:]) <= {"1", "-1"} or "/" in row[0]), None)
    if bad:
        raise wrong(path, "a file name and 40 times 1 or -1 in each row", " ".join(bad[:3]) + " ...")
    return [row[0] for row in rows], np.array([[value == "1" for value in row[1:]] for row in rows], np.uint8)
