"""The catalogue of real data sets: files, addresses, sizes, digests, licences and factors.

Sources: the data sets' own pages, and Locatello et al. 2019 (arXiv 1811.12359) for the order of factors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dyga.data import readers
from dyga.data.factors import Factors


@dataclass(frozen=True)
class RemoteFile:
    """A published file: name, address (empty if it must be downloaded manually, from a `page`), md5 or sha256 digest, and size in
    bytes if known."""

    name: str
    url: str
    digest: str
    size: int | None = None
    page: str = ""


@dataclass(frozen=True)
class Source:
    """A data set: files, reader, number of images, licence, and factors.

    `read(files, count, start)` yields batches (images (k, 64, 64, 3) uint8, values (k, factors) or None) from image `start` on.
    Values are None if an image's index determines them.
    """

    files: tuple[RemoteFile, ...]
    read: Callable[[list[Path], int, int], readers.Batches]
    count: int
    licence: str
    factors: Factors

    @property
    def digest(self) -> str:
        """16 hexadecimal digits for the published files, from their digests."""
        return hashlib.sha256("".join(file.digest for file in self.files).encode()).hexdigest()[:16]


CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
HUB = "https://huggingface.co/datasets"
MPI3D = Factors(
    ("object_color", "object_shape", "object_size", "camera_height", "background_color", "horizontal_axis", "vertical_axis"),
    (6, 6, 2, 3, 3, 40, 40),
)
CELEBA_ATTRIBUTES = tuple(
    """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry
    Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns
    Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie
    Young""".split()
)
CELEBA = Factors(CELEBA_ATTRIBUTES, (2,) * 40)


def _mpi3d(kind: str, digest: str) -> Source:
    name = f"mpi3d_{kind}.npz"
    file = RemoteFile(name, f"{HUB}/waleedgondal/mpi3d/resolve/main/{name}", digest)
    return Source((file,), readers.read_npz, len(MPI3D), "CC BY 4.0", MPI3D)


SHAPES3D_FILE = RemoteFile(
    "3dshapes.h5",
    "https://storage.googleapis.com/3d-shapes/3dshapes.h5",
    "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
    267_573_662,
)
CARS3D_FILE = RemoteFile(
    "nips2015-analogy-data.tar.gz",
    "https://www.scottreed.info/files/nips2015-analogy-data.tar.gz",
    "4e866a7919c1beedf53964e6f7a23686",
)
DSPRITES_FILE = RemoteFile(
    "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5",
    "https://github.com/google-deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5",
    "729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb",
    28_024_106,
)
# These must be downloaded manually, since Google Drive asks for a confirmation.
CELEBA_FILES = (
    RemoteFile("img_align_celeba.zip", "", "00d2c5bc6d35e252742224ab0c1e8fcb", 1_443_490_838, CELEBA_PAGE),
    RemoteFile("list_attr_celeba.txt", "", "75e246fa4810816ffd6ee81facbd244c", page=CELEBA_PAGE),
)
SHAPES3D = Factors(("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"), (10, 10, 10, 8, 4, 15))
CARS3D = Factors(("elevation", "azimuth", "object"), (4, 24, 183))
DSPRITES = Factors(("shape", "scale", "orientation", "position_x", "position_y"), (3, 6, 40, 32, 32))

CATALOG = {
    "shapes3d": Source((SHAPES3D_FILE,), readers.read_shapes3d, len(SHAPES3D), "Apache-2.0", SHAPES3D),
    "mpi3d_toy": _mpi3d("toy", "55889cb7c7dfc655d6e0277beee88868"),
    "mpi3d_realistic": _mpi3d("realistic", "59a6225b88b635365f70c91b3e52f70f"),
    "mpi3d_real": _mpi3d("real", "0f33f609918fb5c97996692f91129802"),
    "cars3d": Source((CARS3D_FILE,), readers.read_cars3d, len(CARS3D), "not stated by its authors", CARS3D),
    "dsprites": Source((DSPRITES_FILE,), readers.read_dsprites, len(DSPRITES), "Apache-2.0", DSPRITES),
    "celeba": Source(CELEBA_FILES, readers.read_celeba, 202_599, "non-commercial research only", CELEBA),
}
