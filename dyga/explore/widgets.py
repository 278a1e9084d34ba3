"""Interactive explorers for notebooks. This is the only module that imports ipywidgets.

Callbacks are plain methods, tested without a browser. Each explorer caches the images it has decoded. JupyterLab sends a slider's
next value only after the kernel has handled the last one, so fast movements do not queue up.
"""

import io
from collections.abc import Callable, Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
from PIL import Image

from dyga import plots
from dyga.data import read_image
from dyga.explore.run import GRID_SIZE, Run, Unit

SHOWN = 12  # units with a control at first; in a traversal, a checkbox shows the others
NAME, SLIDER = 265, 230  # pixels of a unit's name and of its slider
STRIP = 8  # images along a unit's range
UPLOAD_LIMIT = 100_000_000  # bytes of an uploaded file
UPLOADED = -1  # the number of the uploaded image
POOR = 25  # grey levels of 255: mean difference from its decoded copy above which an image counts as poorly reconstructed
LEGEND = "Blue marks: the unit's anchors. ▶ moves the unit of the strip through its range."


def png(image: np.ndarray, height: int) -> bytes:
    """Encode an image (H, W, 3) uint8 as PNG. A small one is enlarged by a whole number, to at most `height`, unsmoothed."""
    buffer, scale = io.BytesIO(), max(1, height // len(image))
    Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def strip(images: np.ndarray, height: int = 128) -> bytes:
    """Encode images (n, H, W, 3) uint8 as one PNG: side by side, separated by white lines."""
    spaced = np.pad(images, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
    return png(np.concatenate(list(spaced), axis=1)[:, :-2], height)


def _view(width: int) -> ipywidgets.Image:
    return ipywidgets.Image(format="png", layout={"width": f"{width}px", "height": "auto", "max_width": "100%"})


class ImageChooser(ipywidgets.VBox):
    """Choose an image: by its row in the data set, at random by seed, or by uploading a file, which is resized.

    `image` is the choice, (size, size, 3) uint8, and `key` identifies it. `changed` is called after every choice. While the
    uploaded image is shown, the number is -1; entering -1 later shows it again.
    """

    def __init__(self, images: np.ndarray, first: int, title: str, changed: Callable[[], None] = lambda: None):
        self._images, self.changed = images, changed
        narrow = {"width": "190px"}
        self.number = ipywidgets.BoundedIntText(first, min=0, max=len(images) - 1, description=title, layout=narrow)
        self.seed = ipywidgets.IntText(0, description="seed", layout={"width": "150px"})
        self.random = ipywidgets.Button(description="random", layout={"width": "80px"})
        self.upload = ipywidgets.FileUpload(accept="image/*", description="upload", layout={"width": "130px"})
        self.upload.tooltip = "an image file of at most 100 MB (10 MB unless ./run_all.sh lab started JupyterLab)"
        self.message = ipywidgets.Label()
        self.number.observe(lambda _: self._choose(), "value")
        self.random.on_click(lambda _: self.draw())
        self.upload.observe(lambda change: self.take(change["new"]), "value")
        super().__init__([ipywidgets.HBox([self.number, self.upload]), ipywidgets.HBox([self.seed, self.random]), self.message])
        self.image, self.key = images[np.array([first])][0], str(first)

    def draw(self) -> None:
        """Choose a random image by the seed, then increase the seed, so that the sequence of images is reproducible."""
        self.number.value = int(np.random.default_rng(abs(self.seed.value)).integers(len(self._images)))
        self.seed.value = abs(self.seed.value) + 1

    def take(self, files: Sequence[dict]) -> None:
        """Choose the uploaded file. If it is too large or not an image, show a message that names it and keep the current
        image."""
        if not files:
            return
        name, content = files[-1]["name"], bytes(files[-1]["content"])
        self.upload.value = ()  # the same file may be uploaded again
        try:
            if len(content) > UPLOAD_LIMIT:
                raise ValueError(f"{name} has {len(content) / 1e6:.0f} MB: valid is at most {UPLOAD_LIMIT / 1e6:.0f} MB")
            self._uploaded = read_image(io.BytesIO(content), name, self.image.shape[0]), f"{name} {hash(content)}", name
        except ValueError as error:
            self.message.value = str(error)
            return
        self.number.min = UPLOADED
        if self.number.value == UPLOADED:
            self._choose()
        self.number.value = UPLOADED

    def _choose(self) -> None:
        number = self.number.value
        if number == UPLOADED:
            self.image, self.key, self.message.value = self._uploaded
        else:
            self.image, self.key, self.message.value = self._images[np.array([number])][0], str(number), ""
        self.changed()


class UnitSlider(ipywidgets.VBox):
    """A unit's name, a slider along its traversal grid (0 to 200), and below it a tick at each anchor's grid index."""

    def __init__(self, unit: Unit, anchors: Sequence[int]):
        self.unit, self.anchors = unit, list(anchors)
        last = GRID_SIZE - 1
        self.slider = ipywidgets.IntSlider(0, min=0, max=last, readout=False, layout={"width": f"{SLIDER}px", "margin": "0"})
        name = ipywidgets.Label(str(unit), layout={"width": f"{NAME}px"}, style={"font_size": "12px"})
        # The slider's track leaves 8 pixels at both ends for its handle.
        marks = "".join(
            f'<i style="position:absolute;left:{8 + (SLIDER - 16) * a / last:.0f}px;{_TICK}"></i>' for a in self.anchors
        )
        ticks = ipywidgets.HTML(f'<div style="position:relative;width:{SLIDER}px;height:7px">{marks}</div>')
        ticks.layout = {"margin": f"-8px 0 0 {NAME + 4}px", "height": "9px"}
        super().__init__([ipywidgets.HBox([name, self.slider]), ticks], layout={"overflow": "visible"})

    def nearest_anchor(self) -> int:
        """The grid index of the anchor nearest to the slider's value. The value itself if the unit has no anchors."""
        value = self.slider.value
        return min(self.anchors, key=lambda anchor: abs(anchor - value), default=value)


_TICK = "width:2px;height:7px;background:#0072b2"


class Explorer(ipywidgets.VBox):
    """Base of the explorers. Browser tests find them by their CSS class."""

    def __init__(self, children: Sequence[ipywidgets.Widget]):
        super().__init__(children)
        self.add_class("dyga-explorer")


class TraversalExplorer(Explorer):
    """One slider per active unit. The image is decoded after every change; a strip shows the full range of the unit moved last,
    and a play button moves that unit. A message appears if the model reconstructs the chosen image poorly.

    `images` are the data set to choose from, uint8 (n, size, size, 3), and `first` is the row shown first.
    """

    def __init__(self, run: Run, images: np.ndarray, first: int = 0):
        self._run, self._moving, self._last = run, False, None
        self.rows = [UnitSlider(unit, run.anchors_along(unit.index)[0].tolist()) for unit in run.active_units]
        self._decode = lru_cache(maxsize=1_024)(self._decode_moved)
        self._decode_strip = lru_cache(maxsize=256)(self._decode_range)
        self.chooser = ImageChooser(images, first, "image", self.start)
        self.snap = ipywidgets.Checkbox(False, description="snap to anchors", indent=False, layout={"width": "150px"})
        self.snap.disabled = not any(row.anchors for row in self.rows)
        self.all = ipywidgets.Checkbox(False, description=f"all {len(self.rows)} units", indent=False, layout={"width": "130px"})
        self.all.disabled = len(self.rows) <= SHOWN
        self.reset = ipywidgets.Button(description="reset", layout={"width": "80px"})
        self.source, self.result, self.strip = _view(128), _view(256), _view(116 * STRIP)
        self.caption, self.message = ipywidgets.Label(), ipywidgets.Label()
        self.play = ipywidgets.Play(0, min=0, max=GRID_SIZE - 1, step=5, interval=120, show_repeat=False)
        self.play.observe(lambda change: setattr(self._last.slider, "value", change["new"]), "value")
        self.reset.on_click(lambda _: self.start())
        self.snap.observe(lambda _: self._snap(), "value")
        self.all.observe(lambda _: self._list(), "value")
        for row in self.rows:
            row.slider.observe(lambda _, row=row: self._slide(row), "value")
        self._sliders = ipywidgets.VBox(layout={"max_height": "330px", "overflow": "auto", "padding": "0 0 6px 0"})
        switches = ipywidgets.HBox([self.snap, self.all, self.reset, self.play], layout={"flex_flow": "row wrap"})
        controls = ipywidgets.VBox([self.chooser, self.message, self._sliders, ipywidgets.Label(LEGEND), switches])
        views = ipywidgets.HBox([self.source, self.result], layout={"align_items": "flex-start"})
        super().__init__([ipywidgets.HBox([controls, views], layout={"flex_flow": "row wrap"}), self.caption, self.strip])
        self._list()
        self.start()

    def start(self) -> None:
        """Set every slider to the chosen image's own grid index, and stop playing."""
        self.play.playing = False
        self._features = self._run.encode(self.chooser.image[None])[0]
        indices = self._run.grid_indices(self._features)
        self.source.value = png(self.chooser.image, 128)
        self._moving = True
        for row in self.rows:
            row.slider.value = int(indices[row.unit.index])
        self._moving = False
        self._own = {row: row.slider.value for row in self.rows}
        self.show(self.rows[0])
        decoded = self._run.decode(self._features[None])[0]
        difference = np.abs(decoded.astype(int) - self.chooser.image).mean()
        poorly = f"The model reconstructs this image poorly (mean difference {difference:.0f} of 255)"
        reason = ": it was trained on other images." if self.chooser.number.value == UPLOADED else "."
        self.message.value = poorly + reason if difference > POOR else ""

    def _slide(self, row: UnitSlider) -> None:
        """Answers a movement of a slider. With `snap`, the slider moves on to the nearest anchor."""
        if self._moving:
            return
        if self.snap.value and row.slider.value != row.nearest_anchor():
            self._moving = True
            row.slider.value = row.nearest_anchor()
            self._moving = False
        self.show(row)

    def show(self, row: UnitSlider) -> None:
        """Decode the image with the moved units, and the strip of `row`. Units that were not moved keep the image's features."""
        if row is not self._last or not self.play.playing:
            self._last, self.play.value = row, row.slider.value
        moved = tuple((r.unit.index, r.slider.value) for r in self._moved())
        self.result.value = self._decode(self.chooser.key, moved)
        others = tuple((unit, index) for unit, index in moved if unit != row.unit.index)
        self.strip.value = self._decode_strip(self.chooser.key, others, row.unit.index)
        self.caption.value = f"full range of {row.unit}"

    def _moved(self) -> list[UnitSlider]:
        return [row for row in self.rows if row.slider.value != self._own[row]]

    def _snap(self) -> None:
        if self.snap.value:
            for row in self._moved():
                self._slide(row)

    def _list(self) -> None:
        self._sliders.children = self.rows if self.all.value else self.rows[:SHOWN]

    def _with(self, moved: tuple[tuple[int, int], ...]) -> np.ndarray:
        features = self._features.copy()
        for unit, index in moved:
            features[unit] = self._run.traversal_grid[index, unit]
        return features

    # `key` identifies the image in the caches.
    def _decode_moved(self, key: str, moved: tuple[tuple[int, int], ...]) -> bytes:
        return png(self._run.decode(self._with(moved)[None])[0], 256)

    def _decode_range(self, key: str, others: tuple[tuple[int, int], ...], unit: int) -> bytes:
        return strip(self._run.decode(self._run.traversal_features(self._with(others), unit, STRIP)))


class InterchangeExplorer(Explorer):
    """Latent interchange (paper, Figure 3): tick the units to take from the target; the result shows the changed source.

    `images` are the data set to choose from, uint8 (n, size, size, 3), and `first` are the rows of the first source and target.
    A factor may be spread over several units: the checkbox `whole` includes all units with the factor of a ticked unit.
    """

    def __init__(self, run: Run, images: np.ndarray, first: tuple[int, int] = (0, 1)):
        self._run, self.units = run, run.active_units
        self.source = ImageChooser(images, first[0], "source", self.show)
        self.target = ImageChooser(images, first[1], "target", self.show)
        self.target.seed.value = 1_000  # other random images than the source's
        self.ticks = [ipywidgets.Checkbox(False, description=str(u), indent=False, layout={"width": "auto"}) for u in self.units]
        self.whole = ipywidgets.Checkbox(False, description="include all units of the same factor", indent=False)
        self.whole.disabled = not self.units[0].factors
        self.views = {name: _view(192) for name in ("source", "target", "result")}
        self._decode = lru_cache(maxsize=1_024)(self._decode_interchange)
        for box in (*self.ticks, self.whole):
            box.observe(lambda _: self.show(), "value")
        titled = [ipywidgets.VBox([ipywidgets.Label(name), view]) for name, view in self.views.items()]
        choices = ipywidgets.VBox([self.source, self.target])
        ticks = ipywidgets.VBox(self.ticks, layout={"max_height": "330px", "overflow": "auto"})
        boxes = ipywidgets.VBox([ticks, self.whole])
        super().__init__([ipywidgets.HBox([choices, boxes]), ipywidgets.HBox(titled)])
        self.show()

    def chosen(self) -> tuple[int, ...]:
        """The indices of the units to take from the target."""
        ticked = [unit for unit, tick in zip(self.units, self.ticks, strict=True) if tick.value]
        groups = (self._run.following(unit) if self.whole.value else [unit.index] for unit in ticked)
        return tuple(sorted({index for group in groups for index in group}))

    def show(self) -> None:
        """Show source, target, and the source with the chosen units of the target."""
        self.views["source"].value = png(self.source.image, 192)
        self.views["target"].value = png(self.target.image, 192)
        self.views["result"].value = self._decode(self.source.key, self.target.key, self.chosen())

    # The keys identify the images in the cache.
    def _decode_interchange(self, source: str, target: str, units: tuple[int, ...]) -> bytes:
        return png(self._run.swap(self.source.image, self.target.image, units), 192)


class AnchorExplorer(Explorer):
    """One unit's features in two dimensions with its anchors; choose an anchor to see images decoded from it (paper, Figure 1).

    `images` (n, size, size, 3) uint8 are decoded with the unit set to the anchor. `features` (m, units, dim) are the points of
    the scatter plot, coloured by `factors` (m, factors). ValueError if the run has no anchors.
    """

    def __init__(self, run: Run, images: np.ndarray, features: np.ndarray, factors: np.ndarray | None = None):
        self._run, self._points, self._factors = run, features, factors
        self._features = run.encode(images)
        self.units = [unit for unit in run.active_units if len(run.anchors_along(unit.index)[0])]
        if not self.units:
            raise ValueError(f"{run.name} has no anchors: valid are runs of a variant with anchoring")
        self.unit = ipywidgets.Dropdown(options=[(str(unit), i) for i, unit in enumerate(self.units)], description="unit")
        self.anchor = ipywidgets.IntSlider(0, min=0, max=0, description="anchor")
        self.scatter, self.decoded = _view(640), _view(116 * len(images))
        self._draw = lru_cache(maxsize=64)(self._draw_scatter)
        self._decode = lru_cache(maxsize=512)(self._decode_anchor)
        self.unit.observe(lambda _: self.start(), "value")
        self.anchor.observe(lambda _: self.show(), "value")
        super().__init__([ipywidgets.HBox([self.unit, self.anchor]), self.scatter, self.decoded])
        self.start()

    def start(self) -> None:
        """Choose the unit's first anchor. Anchors are numbered along the unit's range."""
        self.anchor.max = len(self._run.anchors_along(self.units[self.unit.value].index)[0]) - 1
        self.anchor.value = 0
        self.show()

    def show(self) -> None:
        """Mark the anchor in the scatter plot and decode the images with the unit set to it."""
        self.decoded.value = self._decode(self.unit.value, self.anchor.value)
        self.scatter.value = self._draw(self.unit.value, self.anchor.value)

    def cloud(self, unit: Unit) -> plots.Cloud:
        """The unit's features and anchors in two dimensions, with the values of the factor that it follows."""
        factor = unit.factors[0] if unit.factors and self._factors is not None else ""
        values = self._factors[:, self._run.factor_names.index(factor)] if factor else None
        colours = self._run.data.colours.get(factor) if factor else None  # an exported run may be without its data
        means = self._run.anchors_along(unit.index)[1]
        return plots.cloud(self._points[:, unit.index], means, values, factor, colours)

    def _draw_scatter(self, number: int, anchor: int) -> bytes:
        unit, buffer = self.units[number], io.BytesIO()
        plots.anchor_scatter({str(unit): self.cloud(unit)}, marked=anchor).savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

    def _decode_anchor(self, number: int, anchor: int) -> bytes:
        return strip(self._run.at_anchor(self._features, self.units[number].index, anchor))
