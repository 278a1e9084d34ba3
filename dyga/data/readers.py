"""Readers of the published file formats. Each yields batches (images (k, 64, 64, 3) uint8, factor values (k, factors) or None).

A reader takes the files, the number of images, and the index of the first image to yield, a multiple of `BATCH`. All batches but
the last have `BATCH` images. Size and digest of the files were checked before, so they are the published ones.
"""

from __future__ import annotations

import io
import math
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

Batches = Iterator[tuple[np.ndarray, np.ndarray | None]]
BATCH = 1_000
BLOCK = 2**26  # bytes that are read at a time, if images are large
SIDE = 64


def read_shapes3d(files: list[Path], count: int, start: int) -> Batches:
    """3dshapes.h5: `images` (n, 64, 64, 3) uint8 in the factors' order."""
    return _hdf5(files[0], "images", count, start)


def read_dsprites(files: list[Path], count: int, start: int) -> Batches:
    """dSprites' hdf5: `imgs` (n, 64, 64) uint8 of 0 and 1, converted to black and white RGB."""
    for masks, _ in _hdf5(files[0], "imgs", count, start):
        yield np.repeat(masks[..., None] * np.uint8(255), 3, axis=-1), None


def _hdf5(path: Path, key: str, count: int, start: int) -> Batches:
    import h5py

    with h5py.File(path, locking=False) as stored:  # another program may have it open
        for first in range(start, count, BATCH):
            yield stored[key][first : first + BATCH], None


def read_npz(files: list[Path], count: int, start: int) -> Batches:
    """mpi3d_*.npz: `images` (n, 64, 64, 3) uint8, streamed from the archive."""
    with zipfile.ZipFile(files[0]) as archive, archive.open("images.npy") as stream:
        npy_header(stream)
        for number, images in enumerate(npy_blocks(stream, (count, SIDE, SIDE, 3))):
            if number * BATCH >= start:
                yield images, None


def npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and type of an array in a stream, which is then at its first number."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return header(stream)


def npy_blocks(stream: BinaryIO, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The images of an array of this shape, uint8, in a stream after its header: `BATCH` at a time, fewer if they are large."""
    most = min(BATCH, max(BLOCK // math.prod(shape[1:]), 1))
    for first in range(0, shape[0], most):
        block = (min(most, shape[0] - first), *shape[1:])
        content = stream.read(math.prod(block))
        if len(content) < math.prod(block):
            raise ValueError(f"fewer than {shape[0]:,} images: the file is damaged")
        yield np.frombuffer(content, np.uint8).reshape(block)


def read_cars3d(files: list[Path], count: int, start: int) -> Batches:
    """nips2015-analogy-data.tar.gz: data/cars/*.mat in the order of list.txt, each `im` (128, 128, 3, azimuth, elevation) of one
    car, resized to 64. The object varies fastest with the index, so all cars are read before the first batch is yielded."""
    cars = {}
    with tarfile.open(files[0]) as archive:
        for member in archive:
            name = Path(member.name)
            if name.parts != ("data", "cars", name.name):
                continue
            if name.name == "list.txt":
                listed = archive.extractfile(member).read().decode().split()
            elif name.suffix == ".mat":
                cars[name.stem] = _car(archive.extractfile(member).read())
    images = np.stack([cars[Path(name).stem] for name in listed], axis=2).reshape(count, SIDE, SIDE, 3)
    for first in range(start, count, BATCH):
        yield images[first : first + BATCH], None


def _car(content: bytes) -> np.ndarray:
    """One car's MATLAB file -> (elevation 4, azimuth 24, 64, 64, 3) uint8."""
    from scipy.io import loadmat

    views = loadmat(io.BytesIO(content), variable_names=["im"])["im"].transpose(4, 3, 0, 1, 2)
    small = [Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for view in views.reshape(-1, 128, 128, 3)]
    return np.stack([np.asarray(view) for view in small]).reshape(4, 24, SIDE, SIDE, 3)


def read_celeba(files: list[Path], count: int, start: int) -> Batches:
    """img_align_celeba.zip, faces cropped to the central square and resized to 64, with the 40 attributes of
    list_attr_celeba.txt as 0 and 1."""
    rows = [line.split() for line in files[1].read_text().splitlines()[2:]]
    with zipfile.ZipFile(files[0]) as archive:
        for first in range(start, count, BATCH):
            batch = rows[first : first + BATCH]
            images = [_face(archive.read(f"img_align_celeba/{row[0]}")) for row in batch]
            yield np.stack(images), (np.array([row[1:] for row in batch]) == "1").astype(np.uint8)


def _face(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as face:
        return np.asarray(ImageOps.fit(face.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS))
