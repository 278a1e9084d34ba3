"""Data sets by name: images, and the factors of variation where they are known."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dyga.data.catalog import CATALOG
from dyga.data.factors import Factors
from dyga.data.rooms3d import FACTORS, Rooms3D
from dyga.data.sources import FolderImages, read_image
from dyga.data.store import LazyImages, default_data_dir

__all__ = [
    "CATALOG",
    "DATASETS",
    "Dataset",
    "Factors",
    "FolderImages",
    "LazyImages",
    "Rooms3D",
    "default_data_dir",
    "load_dataset",
    "prepare_dataset",
    "read_image",
]

DATASETS = ("rooms3d", *CATALOG)


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

    Without `data_dir` that is the repository's data folder, else the user's cache. ValueError for an unknown name, and for a data
    set that is not prepared: downloads are made on demand alone (`prepare_dataset`, `dyga data prepare NAME`).
    """
    if name == "rooms3d":
        return Dataset(Rooms3D(data_dir), FACTORS.table(), FACTORS.names, FACTORS.sizes)
    if name.startswith("folder:"):
        return Dataset(FolderImages(name.removeprefix("folder:")), None, (), ())
    if name in CATALOG:
        from dyga.data.prepare import PreparedImages

        folder = (Path(data_dir) if data_dir else default_data_dir()) / name
        if not folder.exists():
            raise ValueError(f"{name} is not prepared in {folder.parent}: run 'dyga data prepare {name}' first")
        images = PreparedImages(folder)
        return Dataset(images, images.factors, images.factor_names, images.factor_sizes)
    raise ValueError(f"unknown data set {name!r}: valid are {', '.join(DATASETS)}, folder:PATH")


def prepare_dataset(name: str, data_dir: Path | str | None = None) -> Dataset:
    """Downloads, checks and converts a data set of the catalogue, if that is not done yet, and opens it."""
    if name in CATALOG:
        from dyga.data.prepare import prepare

        prepare(name, CATALOG[name], Path(data_dir) if data_dir else default_data_dir())
    return load_dataset(name, data_dir)
