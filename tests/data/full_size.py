"""Not a test: prepares a file of mpi3d_toy's full size (26 GB of disk, some minutes) and prints peak memory and speed.

    python tests/data/full_size.py FOLDER

The pictures are random tiles, so that the archive compresses as little as real ones would.
"""

import hashlib
import resource
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from dyga.data import CATALOG, prepare_dataset
from dyga.data.catalog import RemoteFile

BLOCK = 4_800


def write(path: Path, count: int) -> None:
    """An npz with `images` (count, 64, 64, 3) uint8, written block by block."""
    tiles = np.random.default_rng(0).integers(0, 256, (BLOCK, 64, 64, 3), dtype=np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive, archive.open("images.npy", "w", force_zip64=True) as stream:
        description = {"descr": "|u1", "fortran_order": False, "shape": (count, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(stream, description)
        for first in range(0, count, BLOCK):
            stream.write(np.roll(tiles, first // BLOCK, axis=0)[: count - first].tobytes())


def main(folder: Path) -> None:
    path = folder / "downloads" / "mpi3d_toy.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, CATALOG["mpi3d_toy"].count)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "md5").hexdigest()
    CATALOG["mpi3d_toy"] = replace(CATALOG["mpi3d_toy"], files=(RemoteFile(path.name, "", digest),))
    start = time.monotonic()
    data = prepare_dataset("mpi3d_toy", folder)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    tiles = np.random.default_rng(0).integers(0, 256, (BLOCK, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(data.images[BLOCK * 3 + 5], np.roll(tiles, 3, axis=0)[5]) and len(data.images) == 1_036_800
    print(f"{len(data.images):,} images in {seconds:.0f} s, peak memory {peak:.2f} GB")
    rng, start = np.random.default_rng(1), time.monotonic()
    for _ in range(200):
        data.images[rng.integers(100_000, size=512)]
    print(f"read at random from the first 100,000: {200 * 512 / (time.monotonic() - start):,.0f} images/s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
