"""Data sets by name: images, and the factors of variation where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dyga.config import DATASETS, OWN, is_own
from dyga.data import arm3d, faces2d, faces2d_correlated, rooms3d
from dyga.data.arm3d import Arm3D
from dyga.data.catalog import CATALOG
from dyga.data.faces2d import Faces2D
from dyga.data.faces2d_correlated import Faces2DCorrelated
from dyga.data.factors import Factors, rows_along
from dyga.data.rooms3d import Rooms3D
from dyga.data.sources import OwnImages, read_image
from dyga.data.store import LazyImages, data_folder

__all__ = [
    "CATALOG",
    "DATASETS",
    "RENDERED",
    "Dataset",
    "Factors",
    "LazyImages",
    "OwnImages",
    "Rooms3D",
    "data_folder",
    "known_factors",
    "load_dataset",
    "prepare_dataset",
    "read_image",
    "rows_along",
]

RENDERED = {"rooms3d": Rooms3D, "arm3d": Arm3D, "faces2d": Faces2D, "faces2d_correlated": Faces2DCorrelated}


class Dataset(NamedTuple):
    """Images (n, height, width, 3) uint8, factor values (n, factors) int64, the factors' names and sizes, and an identity.

    If the factors are unknown, `factors` is None, and names and sizes are empty. A factor whose name ends in "(10 bins)" was
    continuous. `identity` is one line: the name and version of an embedded world, the name and a digest of the published files,
    or the name of own data and a digest of their contents. All that is made of the data carries it. `colours` has the RGB colours
    (values, 3), 0 to 1, of the factors that are colours, for the worlds that this package renders.
    """

    images: LazyImages | np.ndarray
    factors: np.ndarray | None
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    identity: str
    colours: Mapping[str, np.ndarray] = {}


def load_dataset(name: str = "rooms3d", data_dir: Path | str | None = None, image_size: int = 64) -> Dataset:
    """Opens a data set by its name, or own data: `folder:PATH` (with labels in PATH/factors.csv), `npz:FILE`, `hf:NAME`, resized
    to `image_size` pixels per side (32, 64 or 128). All others have 64.

    Prepared files are kept in `data_dir` (default: the checkout's data folder, else the user's cache). Own data are read and
    checked here, unless this was done before. Of the others this function downloads nothing; `prepare_dataset` and
    `dyga data prepare NAME` do. ValueError for an unknown name, for a data set that is not prepared, and for files that are no
    images or labels. RuntimeError if a package of the extra `data` is missing.
    """
    colours = {}
    if name in RENDERED:
        images = RENDERED[name](data_dir)
        identity, colours = f"{name}, version {images.version}", images.colours
    elif is_own(name):
        images = OwnImages(name, data_dir, image_size)
        identity = images.identity
    elif name in CATALOG:
        images = _prepared(name, data_dir)
        identity = f"{name}, files {images.digest}"
    else:
        raise ValueError(f"unknown data set {name!r}: valid are {', '.join([*DATASETS, *OWN])}")
    return Dataset(images, images.factors, images.factor_names, images.factor_sizes, identity, colours)


def _prepared(name: str, data_dir: Path | str | None) -> LazyImages:
    folder = data_folder(data_dir) / name
    if not folder.exists():
        raise ValueError(f"{name} is not prepared in {folder.parent}: run 'dyga data prepare {name}' first")
    images = _prepare_module().PreparedImages(folder)
    if images.digest != CATALOG[name].digest:
        raise ValueError(f"{folder} was prepared from other files than the catalogue's: delete it and prepare it again")
    return images


def known_factors(name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Factor values (n, factors) int64 and names of a data set whose index determines them; its images need not be there.
    ValueError, which lists the valid, for other names."""
    grids = {
        "rooms3d": rooms3d.FACTORS,
        "arm3d": arm3d.FACTORS,
        "faces2d": faces2d.FACTORS,
        "faces2d_correlated": faces2d.FACTORS,
    }
    grids |= {known: source.factors for known, source in CATALOG.items() if len(source.factors) == source.count}
    if name not in grids:
        raise ValueError(
            f"the order of {name!r} does not define the factors: valid are {', '.join(grids)}; else give a file of factors"
        )
    if name == "faces2d_correlated":
        return faces2d_correlated.values(np.arange(faces2d_correlated.COUNT)), grids[name].names
    return grids[name].table(), grids[name].names


def prepare_dataset(name: str, data_dir: Path | str | None = None, image_size: int = 64) -> Dataset:
    """Downloads, checks and converts a data set of the catalogue, unless this was done before, and opens it.

    Other names are opened as by `load_dataset`. ValueError for a damaged file or an unknown name, ConnectionError if a download
    fails, RuntimeError if a package of the extra `data` is missing.
    """
    if name in CATALOG:
        _prepare_module().prepare(name, CATALOG[name], data_folder(data_dir))
    return load_dataset(name, data_dir, image_size)


def _prepare_module():
    missing = [package for package in ("datasets", "h5py", "pyarrow", "requests") if find_spec(package) is None]
    if missing:
        raise RuntimeError(f"real data sets need {', '.join(missing)}: install dyga with its extra 'data'")
    from dyga.data import prepare

    return prepare
