"""Example inputs of the figures, shared by the tests in this folder."""

import numpy as np
from matplotlib.text import Text

from dyga import plots

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 64, 64, 3), dtype=np.uint8)


def log(steps: int = 300) -> list[dict]:
    noise = np.random.default_rng(0).lognormal(0, 0.1, steps)
    return [{"step": s + 1, "loss": (0.1 + np.exp(-s / 30)) * noise[s]} for s in range(steps)]


def features(anchors: int, colours: np.ndarray | None = None) -> plots.Cloud:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 10, 500)
    xy = np.stack([np.cos(values), np.sin(values)], 1) + rng.normal(0, 0.1, (500, 2))
    return plots.Cloud(xy, values, rng.normal(size=(anchors, 2)), "object_hue", colours)


def texts(figure) -> list[str]:
    """All visible text of a figure."""
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
