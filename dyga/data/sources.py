"""Images from outside the package: read, checked and resized once, then memory-mapped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from dyga.config import IMAGE_SUFFIXES, absolute_dataset, folder_name, image_files
from dyga.data.store import LazyImages, default_data_dir
from dyga.provenance import write_json

SIDE = 64


class FolderImages(LazyImages):
    """All images under a folder, in order of their paths, resized and centre-cropped to 64x64 RGB.

    They are read once, and kept in <data_dir>/folder-.../ as one array. They are read again when a file was added or removed, or
    when its size or one of its times (of modification, and of change of its entry) is another. `identity` tells the path, the
    number of images, and a digest of all names and contents. ValueError names the files that cannot be read as images.
    """

    def __init__(self, folder: Path | str, data_dir: Path | str | None = None) -> None:
        dataset = absolute_dataset(f"folder:{folder}")
        self.folder = Path(dataset.removeprefix("folder:"))
        if not self.folder.is_dir():
            raise ValueError(f"folder: {self.folder} is not a folder; need one with images in it")
        files = image_files(self.folder)
        self.paths = [Path(file.path) for file in files]
        if not files:
            raise ValueError(f"folder: {self.folder} holds no images; valid endings are {', '.join(IMAGE_SUFFIXES)}")
        super().__init__(len(files), SIDE, SIDE)
        prepared, state = Path(data_dir or default_data_dir()) / folder_name(dataset), self._state(files)
        opened = self._open(prepared, state) or self._prepare(prepared, state)
        self._images, digest = opened
        self.identity = f"{dataset}, {len(files):,} images, digest {digest}"

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        return self._images[indices]

    def _state(self, files: list[os.DirEntry]) -> str:
        """A digest of all files' names, sizes and times, and of the code that reads them. It opens no file."""
        state = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=16)
        for file in files:
            with suppress(OSError):  # a link without a target is named when it is read
                stat = file.stat()
                state.update(os.fsencode(f"{file.path}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n"))
        return state.hexdigest()

    def _open(self, prepared: Path, state: str) -> tuple[np.ndarray, str] | None:
        """What was prepared in this state, and its digest. None if there is nothing, or it is damaged."""
        try:
            record = json.loads((prepared / "images.json").read_text())
            images = np.load(prepared / f"{record['digest']}.npy", mmap_mode="r", allow_pickle=False)
            whole = record["state"] == state and images.shape == self.shape and images.dtype == np.uint8
            return (images, record["digest"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _prepare(self, prepared: Path, state: str) -> tuple[np.ndarray, str]:
        made = [folder for folder in (prepared, *prepared.parents) if not folder.exists()]
        prepared.mkdir(parents=True, exist_ok=True)
        # The array's name is its digest, so that processes that prepare at the same time cannot mix their files.
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=prepared, suffix=".part", delete=False) as stream:
                temporary = Path(stream.name)
                digest = self._write(stream)
            temporary.chmod(0o644)  # temporary files are private by default
            os.replace(temporary, prepared / f"{digest}.npy")
            write_json(prepared / "images.json", {"folder": str(self.folder), "digest": digest, "state": state})
        finally:
            if temporary is not None:  # it still exists only if the reading or writing failed
                temporary.unlink(missing_ok=True)
            for folder in made:
                with suppress(OSError):  # only empty ones
                    folder.rmdir()
        for older in prepared.glob("*.npy"):
            if older.stem != digest:
                older.unlink(missing_ok=True)
        return np.load(prepared / f"{digest}.npy", mmap_mode="r", allow_pickle=False), digest

    def _write(self, stream: BinaryIO) -> str:
        """Writes all images and returns the digest of the files' names and contents."""
        header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        digest, bad = hashlib.blake2b(digest_size=8), []
        bar = tqdm(self._read(), f"reading {self.folder.name}", len(self), unit="image", mininterval=5, delay=2, ascii=True)
        with warnings.catch_warnings(action="ignore"):  # Pillow's about EXIF data
            for path, (content, image) in zip(self.paths, bar, strict=True):
                if isinstance(image, ValueError):
                    bad.append(image)
                    continue
                digest.update(os.fsencode(path.relative_to(self.folder).as_posix()) + b"\0" + content)
                stream.write(image.tobytes())
        if bad:
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise ValueError("; ".join(map(str, bad[:5])) + more)
        return digest.hexdigest()

    def _read(self) -> Iterator[tuple[bytes, np.ndarray | ValueError]]:
        """Each file's digest and image, or the error; a file is read once. Pillow decodes in several threads."""

        def read(path: Path) -> tuple[bytes, np.ndarray | ValueError]:
            try:
                content = path.read_bytes()
                return hashlib.blake2b(content, digest_size=16).digest(), read_image(io.BytesIO(content), f"folder: {path}", SIDE)
            except OSError as error:
                return b"", ValueError(f"folder: {path} cannot be read as an image ({error.strerror})")
            except ValueError as error:
                return b"", error

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, len(self), 1_000):
                yield from pool.map(read, self.paths[first : first + 1_000])


def read_image(source: Path | BinaryIO, name: str, size: int = SIDE) -> np.ndarray:
    """An image file -> (size, size, 3) uint8: upright, on white where it is transparent, resized and centre-cropped.

    Grey levels of 16 bits and of floating point are scaled to 8 bits. ValueError with `name` if the file is no image.
    """
    try:
        with Image.open(source) as stored:
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
        if not np.isfinite(levels).all():
            raise ValueError("NaN or infinite grey levels")
        wide = image.mode.startswith("I;16") or levels.max() > 255
        top = 65_535 if wide else 1 if image.mode == "F" and levels.max() <= 1 else 255
        return Image.fromarray(np.rint(levels.clip(0, top) * (255 / top)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
