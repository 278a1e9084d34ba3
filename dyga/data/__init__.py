"""Data sets by name: images, and the factors of variation where they are known."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dyga.data.factors import Factors
from dyga.data.rooms3d import FACTORS, Rooms3D
from dyga.data.sources import FolderImages, read_image
from dyga.data.store import LazyImages

__all__ = ["DATASETS", "Dataset", "Factors", "FolderImages", "LazyImages", "Rooms3D", "load_dataset", "read_image"]

DATASETS = ("rooms3d",)


class Dataset(NamedTuple):
    """Images (n, height, width, 3) uint8, factor values (n, factors) int64, and the factors' names and sizes.

    Where the factors are not known, `factors` is None and names and sizes are empty.
    """

    images: LazyImages | np.ndarray
    factors: np.ndarray | None
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]


def load_dataset(name: str = "rooms3d", data_dir: Path | str | None = None) -> Dataset:
    """A data set by name, or one's own images by folder:PATH; what it prepares is kept in `data_dir`.

    Without `data_dir` that is the repository's data folder, else the user's cache.
    """
    if name == "rooms3d":
        return Dataset(Rooms3D(data_dir), FACTORS.table(), FACTORS.names, FACTORS.sizes)
    if name.startswith("folder:"):
        return Dataset(FolderImages(name.removeprefix("folder:")), None, (), ())
    raise ValueError(f"unknown data set {name!r}: valid are {', '.join(DATASETS)}, folder:PATH")
