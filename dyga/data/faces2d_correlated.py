"""faces2d_correlated: the faces of faces2d, with attributes that go together as in photographs.

The metrics and penalties of this package assume independent factors, but the attributes of real faces are not. Here beards
go with short hair, hats with scarves, grey hair with glasses, and light skin with light hair. Every combination of values is
still possible.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyga.data.faces2d import FACTORS, Faces2D
from dyga.data.world import World

COUNT = 200_000


def _uniform(index: np.ndarray, stream: int) -> np.ndarray:
    """Numbers in [0, 1) that depend only on the index (n,) and the stream: the hash of SplitMix64 (Steele et al. 2014)."""
    state = index.astype(np.uint64) * np.uint64(64) + np.uint64(stream + 1)
    state *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def _choice(uniform: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values (n,) drawn by numbers (n,) in [0, 1), with weights (n, values) that sum to 1."""
    borders = np.cumsum(weights, axis=1)[:, :-1]
    return (uniform[:, None] >= borders).sum(axis=1)


def values(index: np.ndarray) -> np.ndarray:
    """Factor values (n, factors) int64 of the images with these indices (n,). An image's values depend on its index only.

    Two hidden traits, one with few earrings and many beards and one of cold weather, make attributes go together.
    """
    draw = {name: _uniform(index, stream) for stream, name in enumerate(("trait", "cold", *FACTORS.names))}
    trait, cold = draw["trait"] < 0.5, draw["cold"] < 0.35
    found = {name: (draw[name] * size).astype(np.int64) for name, size in zip(FACTORS.names, FACTORS.sizes, strict=True)}

    def attribute(name: str, condition: np.ndarray, with_it: float, without: float) -> None:
        found[name] = (draw[name] < np.where(condition, with_it, without)).astype(np.int64)

    attribute("beard", trait, 0.75, 0.05)
    attribute("earrings", trait, 0.08, 0.70)
    attribute("smile", trait, 0.40, 0.65)
    attribute("hat", cold, 0.80, 0.12)
    attribute("scarf", cold, 0.75, 0.12)
    # Short, long, curly, bunches.
    styles = np.where(trait[:, None], [0.70, 0.08, 0.20, 0.02], [0.08, 0.48, 0.16, 0.28])
    found["hair_style"] = _choice(draw["hair_style"], styles)
    # Black, brown, red, blond, grey hair for each tone of the skin, from light to dark.
    hairs = np.array([[0.05, 0.21, 0.20, 0.34, 0.20], *[[0.20] * 5] * 2, *[[0.34, 0.34, 0.06, 0.06, 0.20]] * 2])
    found["hair_colour"] = _choice(draw["hair_colour"], hairs[found["skin_tone"]])
    attribute("glasses", found["hair_colour"] == 4, 0.80, 0.25)
    return np.stack([found[name] for name in FACTORS.names], axis=-1)


class Faces2DCorrelated(World):
    """Images (200000, 64, 64, 3) uint8 of faces2d_correlated, coloured when indexed. Images may repeat."""

    version = 1

    def __init__(self, data_dir: Path | str | None = None) -> None:
        self._faces = Faces2D(data_dir)
        super().__init__(FACTORS, self._faces.colours, values(np.arange(COUNT)))
        self._rows = FACTORS.index(self.factors)

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        return self._faces[self._rows[indices]]
