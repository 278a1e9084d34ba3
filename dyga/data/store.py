"""The data folder, the array cache, and the base class of images that are made on demand."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from dyga.provenance import checkout, write_atomically


class LazyImages(ABC):
    """Images (n, height, width, 3) uint8 that are made when indexed. A subclass implements `_batch`."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, count: int, height: int, width: int) -> None:
        self.shape = (count, height, width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def _batch(self, indices: np.ndarray) -> np.ndarray:
        """Images (k, height, width, 3) uint8 of indices (k,) in 0..n-1."""

    def __getitem__(self, key: int | slice | np.ndarray | list) -> np.ndarray:
        """Images (..., height, width, 3) uint8 of an integer, a slice, a mask (n,) or integers (...); else IndexError."""
        if isinstance(key, slice):
            return self._batch(np.arange(*key.indices(len(self))))
        wrong = f"index: {key!r} given; valid are an integer, a slice, integers, or a mask of all images"
        try:
            indices = np.asarray(key)
        except ValueError:  # lists of several lengths
            raise IndexError(wrong) from None
        if indices.dtype == bool and indices.shape == (len(self),):
            indices = np.flatnonzero(indices)
        elif indices.size == 0 and isinstance(key, list):
            indices = indices.astype(np.int64)
        if isinstance(key, tuple) or indices.dtype.kind not in "iu":
            raise IndexError(wrong)
        indices = indices.astype(np.int64)
        if indices.size and not (indices.min() >= -len(self) and indices.max() < len(self)):
            raise IndexError(f"index: {indices.min()}..{indices.max()} given; valid are {-len(self)}..{len(self) - 1}")
        images = self._batch(np.where(indices < 0, indices + len(self), indices).ravel())
        return images.reshape(indices.shape + self.shape[1:])


def data_folder(data_dir: Path | str | None = None) -> Path:
    """The folder of data and caches: the given one; else the checkout's data/ if it can be written; else dyga/ in the user's
    cache."""
    if data_dir:
        return Path(data_dir).expanduser()
    root = checkout()
    if root and (root / "data").is_dir() and os.access(root / "data", os.W_OK):
        return root / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyga"


def load_arrays(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays that `save_arrays` wrote with this key; None if the file is absent, damaged or has another key."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored if name != "key"} if str(stored["key"]) == key else None
    except Exception:  # numpy raises many types for damage, which the archive's checksums detect
        return None


def save_arrays(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays atomically, unless the folder cannot be written. No array may be called `key`."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays, key=key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
