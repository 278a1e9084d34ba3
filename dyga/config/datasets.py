"""The data sets by name: how many images and how many factors."""

from typing import NamedTuple


class Described(NamedTuple):
    """A data set's numbers of images and of factors."""

    images: int
    factors: int


DATASETS = {
    # rendered by this package
    "rooms3d": Described(480_000, 6),
    "arm3d": Described(259_200, 7),
    "faces2d": Described(384_000, 12),
    "faces2d_correlated": Described(200_000, 12),
    # downloaded
    "shapes3d": Described(480_000, 6),
    "mpi3d_toy": Described(1_036_800, 7),
    "mpi3d_realistic": Described(1_036_800, 7),
    "mpi3d_real": Described(1_036_800, 7),
    "cars3d": Described(17_568, 3),
    "dsprites": Described(737_280, 5),
    "celeba": Described(202_599, 40),
}


def automatic_min_scalars(dataset: str, units: int) -> int:
    """How many scalars pruning keeps at least if the settings do not say: 12 for a data set with at most six known factors, else
    20, and at most five eighths of the units. With 12, units of a world of twelve factors had to share."""
    known = DATASETS.get(dataset)
    return min(12 if known and known.factors <= 6 else 20, max(units * 5 // 8, 1))
