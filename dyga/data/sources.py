"""Own data: read, checked and resized once, then memory-mapped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from dyga.config import absolute_dataset, folder_name
from dyga.data.own import KINDS, Opened
from dyga.data.store import LazyImages, data_folder
from dyga.provenance import locked, write_json

SIDE = 64
OVERSHOOT = 1.05  # floating-point grey levels may exceed their range by this factor, as resizing leaves them
LEAST_BRIGHT = 8  # largest floating-point grey level from which on the range can be 0 to 255
CODE = [Path(__file__).with_name(name) for name in ("labels.py", "own.py", "readers.py", "sources.py")]


class OwnImages(LazyImages):
    """Own data, `folder:PATH`, `npz:FILE` or `hf:NAME`: RGB images, resized and centre-cropped to `side` pixels per side, and
    their factors.

    They are read once, and kept in <data_dir>/<kind>-.../ as arrays. They are read again when a file was added or removed, or
    when its size or one of its times (of modification, and of change of its entry) is another. `identity` tells the name, the
    number of images, and a digest of all names, contents and labels. `factors` is None if there are no labels. ValueError names
    what cannot be read.
    """

    def __init__(self, name: str, data_dir: Path | str | None = None, side: int = SIDE) -> None:
        self.name = absolute_dataset(name)
        kind, _, where = self.name.partition(":")
        source = KINDS[kind](where)
        size = "" if side == SIDE else f"{side}px"
        prepared = data_folder(data_dir) / "-".join(filter(None, [folder_name(self.name), size]))
        state = _state(source.paths)
        self._images, self.factors, record = _open(prepared, state) or self._prepare(source, prepared, state, side)
        super().__init__(len(self._images), side, side)
        self.factor_names, self.factor_sizes = tuple(record["factor_names"]), tuple(record["factor_sizes"])
        self.identity = f"{self.name}, {len(self):,} images{size and f' of {size}'}, digest {record['digest']}"

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        return self._images[indices]

    def _prepare(self, source, prepared: Path, state: str, side: int) -> tuple[np.ndarray, np.ndarray | None, dict]:
        """Reads the data once, whichever process comes first, and opens what was kept."""
        made = [folder for folder in (prepared, *prepared.parents) if not folder.exists()]
        try:
            with locked(prepared.parent, patience=86_400, name=f".{prepared.name}.lock", temporary=True):
                if (found := _open(prepared, state)) is None:
                    self._keep(source, prepared, state, side)
                    found = _open(prepared, state)
        finally:
            for folder in made:
                with suppress(OSError):  # only empty ones
                    folder.rmdir()
        if found is None:
            raise ValueError(f"{prepared}, which was just written, cannot be read: run the same command again")
        return found

    def _keep(self, source, prepared: Path, state: str, side: int) -> None:
        """Writes images, factors and record of the source to the folder `prepared`. The arrays' names are their digest."""
        prepared.mkdir(parents=True, exist_ok=True)
        for killed in prepared.glob("tmp*"):
            shutil.rmtree(killed, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=prepared, ignore_cleanup_errors=True) as scratch:
            images, factors = Path(scratch, "images.npy"), Path(scratch, "factors.npy")
            opened = source.open(scratch)
            labels, digest = opened.labels, self._write(opened, images, side)
            if labels.names:
                np.save(factors, labels.values)
                os.replace(factors, prepared / f"{digest}.factors.npy")
            os.replace(images, prepared / f"{digest}.npy")
        record = {"source": self.name, "digest": digest, "state": state}
        write_json(prepared / "images.json", record | {"factor_names": labels.names, "factor_sizes": labels.sizes})
        for older in prepared.glob("*.npy"):
            if older.name.partition(".")[0] != digest:
                older.unlink(missing_ok=True)
        for note in labels.notes:
            print(note)

    def _write(self, opened: Opened, path: Path, side: int) -> str:
        """Writes all images and returns the digest of names, contents and labels."""
        digest, bad = hashlib.blake2b(digest_size=8), []
        title = f"reading {Path(self.name).name}"
        bar = tqdm(_read(opened.contents, side), title, opened.count, unit="image", mininterval=5, delay=2, ascii=True)
        with path.open("wb") as stream, warnings.catch_warnings(action="ignore"):  # Pillow's about EXIF data
            header = {"descr": "|u1", "fortran_order": False, "shape": (opened.count, side, side, 3)}
            np.lib.format.write_array_header_1_0(stream, header)
            for name, content, image in bar:
                if isinstance(image, ValueError):
                    bad.append(image)
                    continue
                digest.update(os.fsencode(name) + b"\0" + content)
                stream.write(image.tobytes())
        if bad:
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise ValueError("; ".join(map(str, bad[:5])) + more)
        if opened.labels.names:
            digest.update(repr(opened.labels.names).encode() + opened.labels.values.tobytes())
        return digest.hexdigest()


def _open(prepared: Path, state: str) -> tuple[np.ndarray, np.ndarray | None, dict] | None:
    """Images, factors and record of what was prepared in this state. None if there is nothing, or it is damaged."""
    try:
        record = json.loads((prepared / "images.json").read_text())
        if record["state"] != state:
            return None
        images = np.load(prepared / f"{record['digest']}.npy", mmap_mode="r")
        return images, np.load(prepared / f"{record['digest']}.factors.npy") if record["factor_names"] else None, record
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _state(paths: Iterable[str]) -> str:
    """A digest of all files' names, sizes and times, and of the code that reads them. It opens no file."""
    state = hashlib.blake2b(digest_size=16)
    for path in CODE if paths else ():  # a data set of the hub is asked for once
        state.update(path.read_bytes())
    for path in paths:
        with suppress(OSError):  # a link without a target is named when it is read
            stat = os.stat(path)
            state.update(os.fsencode(f"{path}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n"))
    return state.hexdigest()


def _read(
    contents: Iterable[tuple[str, str, Path | bytes | np.ndarray]], side: int
) -> Iterator[tuple[str, bytes, np.ndarray | ValueError]]:
    """Each image's name and digest, and the image or the error; a file is read once. Pillow decodes in several threads."""

    def read(item: tuple[str, str, Path | bytes | np.ndarray]) -> tuple[str, bytes, np.ndarray | ValueError]:
        name, title, content = item
        try:
            content = content.read_bytes() if isinstance(content, Path) else content
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if isinstance(content, bytes):
                return name, digest, read_image(io.BytesIO(content), title, side)
            return name, digest, content if content.shape == (side, side, 3) else read_image(content, title, side)
        except OSError as error:
            return name, b"", ValueError(f"{title} cannot be read as an image ({error.strerror})")
        except ValueError as error:
            return name, b"", error

    contents = iter(contents)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while block := list(islice(contents, 64)):  # images may be large
            yield from pool.map(read, block)


def read_image(source: Path | BinaryIO | np.ndarray, name: str, size: int = SIDE) -> np.ndarray:
    """An image file, or pixels (h, w[, 3]) uint8 -> (size, size, 3) uint8: upright, on white where it is transparent, resized and
    centre-cropped.

    Grey levels of 16 bits are scaled to 8 bits. For 32 bits and floating point the largest value tells the range: 0 to 1, 255 or
    65,535. ValueError with `name` if the file is no image, or if its grey levels fit no range.
    """
    try:
        with Image.fromarray(source) if isinstance(source, np.ndarray) else Image.open(source) as stored:
            stored.load()
            image = _rgb(_upright(stored))
        return np.array(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
    except UnidentifiedImageError:
        raise ValueError(f"{name} cannot be read as an image (of no known format)") from None
    except Exception as error:  # Pillow reports damage by many kinds of error
        raise ValueError(f"{name} cannot be read as an image ({error or type(error).__name__})") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; as it is if they are damaged, which Pillow reports by many kinds of error."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB."""
    if image.mode.startswith(("I", "F")):
        levels = np.asarray(image, dtype=np.float64)
        low, high = levels.min(), levels.max()
        tops = (65_535,) if image.mode.startswith("I;16") else (1, 255, 65_535) if image.mode == "F" else (255, 65_535)
        top = next((top for top in tops if high <= OVERSHOOT * top), 0)
        if not (top and low >= (1 - OVERSHOOT) * top) or (image.mode == "F" and OVERSHOOT < high < LEAST_BRIGHT):
            raise ValueError(f"grey levels from {low:g} to {high:g}: valid are 0 to 1, 255 or 65,535")
        return Image.fromarray(np.rint(levels.clip(0, top) * (255 / top)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
