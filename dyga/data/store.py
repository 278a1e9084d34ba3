"""The data folder, the array cache, and the base class of images that are made on demand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dyga.provenance import checkout


class LazyImages:
    """Images (n, height, width, 3) uint8 that are made when indexed. A subclass implements `_batch`."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, count: int, height: int, width: int) -> None:
        self.shape = (count, height, width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        """Images (k, height, width, 3) uint8 of indices (k,) in 0..n-1."""
        raise NotImplementedError

    def __getitem__(self, key: int | slice | np.ndarray | list) -> np.ndarray:
        """Images (..., height, width, 3) uint8 of an integer, a slice, a mask (n,) or integers (...); else IndexError."""
        if isinstance(key, slice):
            return self._batch(np.arange(*key.indices(len(self))))
        indices = np.asarray(key)
        if indices.dtype == bool and indices.shape == (len(self),):
            indices = np.flatnonzero(indices)
        elif indices.size == 0 and isinstance(key, list):
            indices = indices.astype(np.int64)
        if isinstance(key, tuple) or indices.dtype.kind not in "iu":
            raise IndexError(f"index: {key!r} given; valid are an integer, a slice, integers, or a mask of all images")
        indices = indices.astype(np.int64)
        if indices.size and not (indices.min() >= -len(self) and indices.max() < len(self)):
            raise IndexError(f"index: {indices.min()}..{indices.max()} given; valid are {-len(self)}..{len(self) - 1}")
        images = self._batch(np.where(indices < 0, indices + len(self), indices).ravel())
        return images.reshape(indices.shape + self.shape[1:])


def default_data_dir() -> Path:
    """The checkout's data/ if it can be written, else dyga/ in the user's cache."""
    root = checkout()
    if root and (root / "data").is_dir() and os.access(root / "data", os.W_OK):
        return root / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyga"


def load_arrays(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays that `save_arrays` wrote with this key; None if the file is absent, damaged or has another key."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored if name != "key"} if str(stored["key"]) == key else None
    # The archive's checksums detect damage, but numpy then raises many types (zip, zlib, tokenize, ...).
    # In each case the caller makes the arrays again.
    except Exception:
        return None


def save_arrays(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Writes arrays atomically and returns True; returns False if the folder cannot be written. None may be called `key`."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
            temporary = Path(stream.name)
            np.savez_compressed(stream, **arrays, key=key)
        temporary.chmod(0o644)  # temporary files are private by default, but a cache may be shared
        os.replace(temporary, path)
        return True
    except OSError:
        return False
    finally:
        if temporary is not None:  # it still exists only if the writing failed
            temporary.unlink(missing_ok=True)
