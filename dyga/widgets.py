"""Sliders for notebooks: the only module that imports ipywidgets. Callbacks are plain methods, tested without a browser."""

import io
from collections.abc import Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
from PIL import Image

from .runs import Run


def png(image: np.ndarray, scale: int = 5) -> bytes:
    """An image (H, W, 3) uint8 as PNG bytes, enlarged without smoothing."""
    buffer = io.BytesIO()
    Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)).save(buffer, "png")
    return buffer.getvalue()


class TraversalExplorer(ipywidgets.VBox):
    """One slider per unit, from 0 to 200 along the unit's own range; the picture beside them follows.

    `images` (n, 64, 64, 3) are those to start from; `units` get a slider each, labelled with `labels`.
    """

    def __init__(self, run: Run, images: np.ndarray, units: Sequence[int], labels: Sequence[str]):
        self._run, self._images, self._units = run, images, list(units)
        self._features = run.encode(images)
        self._decode = lru_cache(maxsize=512)(self._decode_positions)
        self.image = ipywidgets.BoundedIntText(0, min=0, max=len(images) - 1, description="picture")
        self.sliders = [
            ipywidgets.IntSlider(
                0,
                min=0,
                max=200,
                step=5,
                description=label,
                readout=False,
                style={"description_width": "9em"},
            )
            for label in labels
        ]
        self.reset = ipywidgets.Button(description="reset")
        self.picture = ipywidgets.Image(format="png", layout={"width": "320px", "height": "320px"})
        self.image.observe(lambda _: self.start(), "value")
        self.reset.on_click(lambda _: self.start())
        for slider in self.sliders:
            slider.observe(lambda _: self.show(), "value")
        controls = ipywidgets.VBox([self.image, *self.sliders, self.reset])
        super().__init__([ipywidgets.HBox([controls, self.picture])])
        self.start()

    def start(self) -> None:
        """Puts every slider where the chosen picture is on the unit's range."""
        features = self._features[self.image.value, self._units]
        distance = np.linalg.norm(self._run.curve[:, self._units] - features, axis=-1)
        self._moving = True
        for slider, place in zip(self.sliders, distance.argmin(axis=0), strict=True):
            slider.value = int(place)
        self._moving = False
        self._origin = tuple(slider.value for slider in self.sliders)
        self.show()

    def show(self) -> None:
        """Decodes the units as the sliders stand; those that were not moved stay exactly the picture's own."""
        if not self._moving:
            self.picture.value = self._decode(self.image.value, tuple(slider.value for slider in self.sliders))

    def _decode_positions(self, image: int, positions: tuple[int, ...]) -> bytes:
        features = self._features[image : image + 1].copy()
        for unit, place, origin in zip(self._units, positions, self._origin, strict=True):
            if place != origin:
                features[0, unit] = self._run.curve[place, unit]
        return png(self._run.decode(features)[0])


def traversal_explorer(run: Run, images: np.ndarray, units: Sequence[int], labels: Sequence[str]) -> TraversalExplorer:
    """Sliders for `units` of a trained run."""
    return TraversalExplorer(run, images, units, labels)
