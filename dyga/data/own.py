"""The three kinds of own data: a folder of images, an npz file, and a data set of the Hugging Face library `datasets`."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dyga.config import IMAGE_SUFFIXES, image_files
from dyga.data.labels import Labels, make_labels, read_factors, some
from dyga.data.readers import BATCH, npy_blocks, npy_header


class Opened(NamedTuple):
    """Own data, opened and checked except for the images themselves: their number, for each a name, how errors call it, and a
    file, its bytes or its pixels; and the labels."""

    count: int
    contents: Iterable[tuple[str, str, Path | bytes | np.ndarray]]
    labels: Labels


class Folder:
    """All images under a folder in order of their paths, and the factors of its factors.csv. `paths` are the files that count."""

    def __init__(self, name: str) -> None:
        self.folder = Path(name)
        if not self.folder.is_dir():
            raise ValueError(f"folder: {name} is not a folder; need one with images in it")
        self.images = image_files(self.folder)
        if not self.images:
            raise ValueError(f"folder: {name} holds no images; valid endings are {', '.join(IMAGE_SUFFIXES)}")
        self.table = self.folder / "factors.csv"
        self.paths = [*self.images, *([str(self.table)] if os.path.lexists(self.table) else [])]

    def open(self, scratch: str) -> Opened:
        names = [Path(path).relative_to(self.folder).as_posix() for path in self.images]
        columns = read_factors(self.table, names) if len(self.paths) > len(self.images) else {}
        contents = ((name, f"folder: {path}", Path(path)) for name, path in zip(names, self.images, strict=True))
        return Opened(len(names), contents, make_labels(columns, f"{self.table}: "))


class Npz:
    """An npz file: `images` (n, h, w[, 3]) uint8, optional `factors` (n, k) of integers or floats, and `factor_names` (k,)."""

    def __init__(self, name: str) -> None:
        self.path, self.paths = Path(name), [name]
        if not self.path.is_file():
            raise ValueError(f"npz: {name}: there is no such file")

    def open(self, scratch: str) -> Opened:
        with self._named():
            with zipfile.ZipFile(self.path) as archive:
                arrays = [name.removesuffix(".npy") for name in archive.namelist()]
                if "images" not in arrays:
                    raise ValueError(f"no array 'images'; its arrays are {some(arrays) or 'none'}")
                with archive.open("images.npy") as stream:
                    shape, fortran, dtype = npy_header(stream)
            if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)) or 0 in shape or fortran:
                order = " in Fortran order" if fortran else ""
                raise ValueError(f"images are {shape} {dtype}{order}; valid is (n, h, w) or (n, h, w, 3) uint8")
            columns = self._columns(arrays, shape[0])
        return Opened(shape[0], self._contents(shape), make_labels(columns, f"npz: {self.path}: "))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors become a ValueError that names the file."""
        try:
            yield
        except (ValueError, OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"npz: {self.path}: {error}") from None

    def _contents(self, shape: tuple[int, ...]) -> Iterator[tuple[str, str, np.ndarray]]:
        with self._named(), zipfile.ZipFile(self.path) as archive, archive.open("images.npy") as stream:
            npy_header(stream)
            for i, image in enumerate(chain.from_iterable(npy_blocks(stream, shape))):
                yield f"{i} {image.shape}", f"npz: {self.path}: image {i}", image

    def _columns(self, arrays: list[str], count: int) -> dict[str, np.ndarray]:
        if "factors" not in arrays:
            if "factor_names" in arrays:
                raise ValueError("factor_names without factors")
            return {}
        with np.load(self.path) as stored:
            factors = stored["factors"]
            names = stored["factor_names"] if "factor_names" in arrays else None
        if factors.ndim != 2 or factors.dtype.kind not in "biufU" or not factors.shape[1]:
            raise ValueError(f"factors are {factors.shape} {factors.dtype}; valid is (n, factors) of integers or floats")
        if len(factors) != count:
            raise ValueError(f"{count:,} images, but factors of {len(factors):,}")
        if count < 2:
            raise ValueError("1 image; factors need two or more")
        if names is None:
            names = np.array([f"factor_{i}" for i in range(factors.shape[1])])
        if names.dtype.kind != "U" or names.shape != factors.shape[1:] or len({*names.tolist(), ""}) != len(names) + 1:
            valid = f"{factors.shape[1]} different strings"
            raise ValueError(f"factor_names are {names.shape} {names.dtype}: {some(map(str, names.flat))}; valid are {valid}")
        return dict(zip(names.tolist(), factors.T, strict=True))


class HuggingFace:
    """A data set of `datasets`: a folder that `save_to_disk` wrote, one that `load_dataset` reads (an imagefolder), or a name on
    the hub. The split is `train`, or the first one. The first image column holds the pictures; class labels, integers, booleans
    and floats are factors. What comes from the hub is kept once prepared: `paths` is empty, so nothing makes it anew."""

    def __init__(self, name: str) -> None:
        self.name, self.local = name, Path(name).is_dir()
        if Path(name).is_absolute() and not self.local:
            raise ValueError(f"hf: {name}: there is no such folder")
        walk = os.walk(name) if self.local else ()
        self.paths = sorted(os.path.join(folder, file) for folder, _, files in walk for file in files)

    def open(self, scratch: str) -> Opened:
        data = self._load(scratch)
        import datasets

        pictures = [name for name, feature in data.features.items() if isinstance(feature, datasets.Image)]
        if not pictures:
            raise ValueError(f"hf: {self.name}: no column of images; its columns are {some(data.column_names) or 'none'}")
        kinds = {name: f.dtype for name, f in data.features.items() if isinstance(f, datasets.Value | datasets.ClassLabel)}
        numbers = [name for name, dtype in kinds.items() if dtype.startswith(("int", "uint", "bool", "float"))]
        labels = make_labels({name: np.array(data[name][:]) for name in numbers}, f"hf: {self.name}: ", skip=True)
        images = data.select_columns(pictures[:1]).cast_column(pictures[0], datasets.Image(decode=False))
        return Opened(len(data), self._contents(images, pictures[0]), labels)

    def _load(self, cache: str):
        try:
            import datasets
        except ImportError:
            raise RuntimeError("hf: needs the package datasets: install dyga with its extra 'data'") from None
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # the error says it once, not at every attempt
        datasets.disable_progress_bars()
        try:
            if self.local and any(Path(self.name, mark).is_file() for mark in ("state.json", "dataset_dict.json")):
                data = datasets.load_from_disk(self.name)
            else:  # the user's own cache of the hub serves all programs
                data = datasets.load_dataset(self.name, cache_dir=cache if self.local else None)
        except Exception as error:  # of many kinds, which the library does not list
            raise ValueError(f"hf: {self.name} cannot be opened ({str(error)[:300] or type(error).__name__})") from None
        finally:
            datasets.enable_progress_bars()
        if isinstance(data, dict):
            data = data["train"] if "train" in data else next(iter(data.values()))
        return data

    def _contents(self, images, column: str) -> Iterator[tuple[str, str, Path | bytes]]:
        for first in range(0, len(images), BATCH):
            for i, cell in enumerate(images[first : first + BATCH][column], first):
                if cell is None:
                    raise ValueError(f"hf: {self.name}: image {i} is missing")
                content = Path(cell["path"]) if cell["bytes"] is None else cell["bytes"]
                yield str(i), f"hf: {self.name}: image {i}", content


KINDS = {"folder": Folder, "npz": Npz, "hf": HuggingFace}
