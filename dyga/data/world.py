"""What the embedded worlds share: the camera, the cache of what was rendered, and the colouring of surfaces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dyga.data.factors import Factors
from dyga.data.store import LazyImages, data_folder, load_arrays, save_arrays

SIZE = 64  # pixels per side
SAMPLES = 4  # sub-pixel samples along each axis

Ray = Sequence[np.ndarray]


def sample_grid() -> tuple[np.ndarray, np.ndarray]:
    """Positions of all sub-pixel samples from -1 to 1, x to the right and y down: two arrays (SAMPLES**2, SIZE, SIZE).

    The samples of a pixel lie on the first axis, so that averaging them and cropping pixels are both cheap.
    """
    steps = (np.arange(SIZE * SAMPLES) + 0.5) / (SIZE * SAMPLES) * 2 - 1
    steps = steps.reshape(SIZE, SAMPLES).T
    x, y = np.broadcast_arrays(steps[None, :, None, :], steps[:, None, :, None])
    return x.reshape(-1, SIZE, SIZE), y.reshape(-1, SIZE, SIZE)


class Camera:
    """A camera at `eye` that looks at `target`; `half_view` is the tangent of half its angle of view.

    `directions` are those of the rays through all samples, x, y and z (SAMPLES**2, SIZE, SIZE); their length is not 1.
    """

    def __init__(self, eye: np.ndarray, target: np.ndarray, right: np.ndarray, half_view: float) -> None:
        forward = target - eye
        forward = forward / np.linalg.norm(forward)
        up = np.cross(right, forward)
        x, y = (axis * half_view for axis in sample_grid())
        self.eye, self.basis, self.half_view = eye, np.stack([right, up, forward]), half_view
        self.directions = [forward[i] + x * right[i] - y * up[i] for i in range(3)]

    def window(self, points: np.ndarray, radius: float = 0.0) -> tuple[slice, slice]:
        """Rows and columns of the pixels that balls of a radius around points (n, 3) can cover."""
        across, up, depth = self.basis @ (np.asarray(points) - self.eye).T
        centres = np.stack([-up, across]) / depth / self.half_view
        reach = 1.05 * radius / depth / self.half_view  # perspective stretches balls near the border a little
        first = np.floor(((centres - reach).min(axis=1) + 1) * SIZE / 2).astype(int).clip(0, SIZE)
        last = np.ceil(((centres + reach).max(axis=1) + 1) * SIZE / 2).astype(int).clip(0, SIZE)
        return slice(first[0], last[0]), slice(first[1], last[1])


def slab(start: np.ndarray, step: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters at which rays enter and leave the space between two parallel planes."""
    first, second = (low - start) / step, (high - start) / step
    return np.minimum(first, second), np.maximum(first, second)


def quadric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters t between which a t^2 + 2 b t + c < 0, for a > 0. A ray misses the surface where the first is infinite."""
    discriminant = b * b - a * c
    root = np.sqrt(np.maximum(discriminant, 0))
    return np.where(discriminant > 0, (-b - root) / a, np.inf), (root - b) / a


def rendered(
    name: str, source: str, data_dir: Path | str | None, render: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """The arrays of `render`, from <name>.npz in the data folder if they are there and whole, else made anew and kept.

    The file's key is the hash of the world's `source` file and of this one, so that any change of the scene makes an older file
    invalid. If the folder cannot be written, the world is rendered each time.
    """
    path = data_folder(data_dir) / f"{name}.npz"
    key = hashlib.sha256(Path(source).read_bytes() + Path(__file__).read_bytes()).hexdigest()
    arrays = load_arrays(path, key)
    if arrays is None:
        arrays = render()
        save_arrays(path, key, arrays)
    return arrays


class World(LazyImages):
    """Images of an embedded world, (n, 64, 64, 3) uint8, with its `factors` (n, factors), `factor_names` and `factor_sizes`.

    Without `values` (n, factors) there is one image per combination of factor values. `colours` has the RGB colours (values, 3),
    0 to 1, of the factors that are colours.

    A world has a `version`, which is part of the data's identity. It must be raised when its images change, so that models of the
    old images are not taken for models of the new ones.
    """

    version: int

    def __init__(self, factors: Factors, colours: Mapping[str, np.ndarray], values: np.ndarray | None = None) -> None:
        self.factors = factors.table() if values is None else values
        self.factor_names, self.factor_sizes, self.colours = factors.names, factors.sizes, colours
        super().__init__(len(self.factors), SIZE, SIZE)


class ColouredWorld(World):
    """A world whose images are sums, over surfaces, of the surface's share of a pixel times its colour.

    The first factors are the `colours` of the surfaces, and the others determine the drawing. `fixed` (drawings, 64 * 64 * 3)
    uint16 is what no factor colours, in 256ths and with half a step for rounding. `shares` (drawings, surfaces, 64 * 64) are
    unsigned integers; shares times `scale` * colour must sum to a uint16, whose upper byte is the pixel's value.
    """

    def __init__(
        self, factors: Factors, colours: Mapping[str, np.ndarray], fixed: np.ndarray, shares: np.ndarray, scale: int
    ) -> None:
        super().__init__(factors, colours)
        self._fixed = fixed
        # Shares are repeated for each channel, so that each step of colouring runs over contiguous memory.
        self._shares = np.repeat(shares, 3, axis=-1)
        palettes = (np.rint(scale * rgb).astype(np.uint16) for rgb in colours.values())
        self._palettes = [[np.tile(colour, SIZE * SIZE) for colour in palette] for palette in palettes]

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        colours, drawings = np.divmod(indices, len(self._fixed))
        chosen = np.stack(np.unravel_index(colours, self.factor_sizes[: len(self._palettes)]), axis=-1).tolist()
        images = np.empty((len(indices), self._fixed.shape[1]), np.uint8)
        total, term = np.empty_like(self._fixed[0]), np.empty_like(self._fixed[0])
        for image, drawing, values in zip(images, drawings.tolist(), chosen, strict=True):
            np.copyto(total, self._fixed[drawing])
            for share, palette, value in zip(self._shares[drawing], self._palettes, values, strict=True):
                np.multiply(share, palette[value], out=term)
                total += term
            np.right_shift(total, 8, out=image, casting="unsafe")
        return images.reshape(-1, *self.shape[1:])
