"""Explorers for notebooks: the only module that imports ipywidgets. Callbacks are plain methods, tested without a browser.

A widget keeps what it has decoded, and JupyterLab sends a slider's next value only when the kernel is done with the last, so a
fast hand leaves no queue of pictures behind it.
"""

import io
from collections.abc import Callable, Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
from PIL import Image

from dyga import plots
from dyga.data import read_image
from dyga.explore.run import Run, Unit

SHOWN = 6  # units with a control of their own at first; a box brings up the others


def png(image: np.ndarray, scale: int = 5) -> bytes:
    """An image (H, W, 3) uint8 as PNG bytes, enlarged without smoothing."""
    buffer = io.BytesIO()
    Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def strip(images: np.ndarray, scale: int = 2) -> bytes:
    """Images (n, H, W, 3) uint8 side by side, a white line between them, as PNG bytes."""
    spaced = np.pad(images, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
    return png(np.concatenate(list(spaced), axis=1)[:, :-2], scale)


def _shown_at(width: int) -> ipywidgets.Image:
    return ipywidgets.Image(format="png", layout={"width": f"{width}px", "height": "auto", "max_width": "100%"})


class PictureChooser(ipywidgets.VBox):
    """Which picture: a number of the data set, a random one by seed, or an uploaded file, resized to 64x64.

    `image` is the choice, (64, 64, 3) uint8, and `key` names it; `changed` is called after every choice.
    """

    def __init__(self, images: np.ndarray, first: int, title: str, changed: Callable[[], None] = lambda: None):
        self._images, self.changed = images, changed
        narrow = {"width": "190px"}
        self.number = ipywidgets.BoundedIntText(first, min=0, max=len(images) - 1, description=title, layout=narrow)
        self.seed = ipywidgets.IntText(0, description="seed", layout={"width": "150px"})
        self.random = ipywidgets.Button(description="random", layout={"width": "80px"})
        self.upload = ipywidgets.FileUpload(accept="image/*", description="own picture", layout={"width": "130px"})
        self.message = ipywidgets.Label()
        self.number.observe(lambda _: self._choose(), "value")
        self.random.on_click(lambda _: self.draw())
        self.upload.observe(lambda change: self.take(change["new"]), "value")
        super().__init__([ipywidgets.HBox([self.number, self.upload]), ipywidgets.HBox([self.seed, self.random]), self.message])
        self.image, self.key = images[np.array([first])][0], str(first)

    def draw(self) -> None:
        """A random picture by the seed, which then moves on, so that the next one is another and the order can be had again."""
        self.number.value = int(np.random.default_rng(abs(self.seed.value)).integers(len(self._images)))
        self.seed.value = abs(self.seed.value) + 1

    def take(self, files: Sequence[dict]) -> None:
        """An uploaded file becomes the picture; one that is no image is named, and the picture stays."""
        if not files:
            return
        name, content = files[-1]["name"], bytes(files[-1]["content"])
        try:
            self.image, self.key = read_image(io.BytesIO(content), name), f"{name} {hash(content)}"
            self.message.value = name
        except ValueError as error:
            self.message.value = str(error)
            return
        self.changed()

    def _choose(self) -> None:
        self.image, self.key = self._images[np.array([self.number.value])][0], str(self.number.value)
        self.message.value = ""
        self.changed()


class UnitSlider(ipywidgets.VBox):
    """A unit's name, a slider along its range (0 to 200), and under it a tick at each of its anchors."""

    def __init__(self, unit: Unit, anchors: Sequence[int]):
        self.unit, self.anchors = unit, list(anchors)
        self.slider = ipywidgets.IntSlider(0, min=0, max=200, readout=False, layout={"width": "300px", "margin": "0"})
        name = ipywidgets.Label(str(unit), layout={"width": "190px"})
        # The slider's track leaves 8 pixels at both ends for its handle.
        marks = "".join(f'<i style="position:absolute;left:{8 + 284 * a / 200:.0f}px;{_TICK}"></i>' for a in self.anchors)
        ticks = ipywidgets.HTML(f'<div style="position:relative;width:300px;height:7px">{marks}</div>')
        ticks.layout = {"margin": "-8px 0 0 194px", "height": "9px"}
        super().__init__([ipywidgets.HBox([name, self.slider]), ticks], layout={"overflow": "visible"})

    def nearest_anchor(self) -> int:
        """The place of the anchor nearest to the handle; the handle's own where there are none."""
        place = self.slider.value
        return min(self.anchors, key=lambda anchor: abs(anchor - place), default=place)


_TICK = "width:2px;height:7px;background:#0072b2"


class Explorer(ipywidgets.VBox):
    """A box that style sheets and browser tests find by its class."""

    def __init__(self, children: Sequence[ipywidgets.Widget]):
        super().__init__(children)
        self.add_class("dyga-explorer")


class TraversalExplorer(Explorer):
    """A slider per active unit; the picture follows, and beside it a strip shows all of the range of the unit moved last.

    `images` are those of the data set to choose from, uint8 (n, 64, 64, 3); `units` default to the run's active ones.
    """

    def __init__(self, run: Run, images: np.ndarray, units: Sequence[Unit] | None = None, first: int = 0, count: int = 8):
        self._run, self._count, self._moving = run, count, False
        self.rows = [UnitSlider(unit, run.anchors_along(unit.index)[0].tolist()) for unit in units or run.active_units]
        self._decode = lru_cache(maxsize=1_024)(self._decode_moved)
        self._decode_strip = lru_cache(maxsize=256)(self._decode_range)
        self.chooser = PictureChooser(images, first, "picture", self.start)
        self.snap = ipywidgets.Checkbox(False, description="snap to anchors", indent=False, layout={"width": "150px"})
        self.snap.disabled = not any(row.anchors for row in self.rows)
        self.all = ipywidgets.Checkbox(False, description=f"all {len(self.rows)} units", indent=False, layout={"width": "130px"})
        self.reset = ipywidgets.Button(description="reset", layout={"width": "80px"})
        self.source, self.picture, self.strip = _shown_at(128), _shown_at(320), _shown_at(116 * count)
        self.caption = ipywidgets.Label()
        self.reset.on_click(lambda _: self.start())
        self.snap.observe(lambda _: self._snap(), "value")
        self.all.observe(lambda _: self._list(), "value")
        for row in self.rows:
            row.slider.observe(lambda _, row=row: self.show(row), "value")
        self._sliders = ipywidgets.VBox(layout={"max_height": "330px", "overflow": "auto", "padding": "0 0 6px 0"})
        switches = ipywidgets.HBox([self.snap, self.all, self.reset])
        controls = ipywidgets.VBox([self.chooser, self._sliders, switches])
        pictures = ipywidgets.HBox([self.source, self.picture], layout={"align_items": "flex-start"})
        super().__init__([ipywidgets.HBox([controls, pictures], layout={"flex_flow": "row wrap"}), self.caption, self.strip])
        self._list()
        self.start()

    def start(self) -> None:
        """Puts every slider where the chosen picture is on the unit's range."""
        self._features = self._run.encode(self.chooser.image[None])[0]
        self._origin = self._run.places(self._features)
        self.source.value = png(self.chooser.image, 2)
        self._moving = True
        for row in self.rows:
            row.slider.value = int(self._origin[row.unit.index])
        self._origin_values = {row.unit.index: row.slider.value for row in self.rows}
        self._moving = False
        self.show(self.rows[0])

    def show(self, row: UnitSlider) -> None:
        """Decodes the units as the sliders stand, then the strip of `row`. Units that were not moved stay the picture's own."""
        if self._moving:
            return
        if self.snap.value and row.slider.value != row.nearest_anchor():
            self._moving = True
            row.slider.value = row.nearest_anchor()
            self._moving = False
        moved = tuple((r.unit.index, r.slider.value) for r in self.rows if r.slider.value != self._origin_values[r.unit.index])
        self.picture.value = self._decode(self.chooser.key, moved)
        others = tuple((unit, place) for unit, place in moved if unit != row.unit.index)
        self.strip.value = self._decode_strip(self.chooser.key, others, row.unit.index)
        self.caption.value = f"all of the range of {row.unit}"

    def _snap(self) -> None:
        if self.snap.value:
            moved = [row for row in self.rows if row.slider.value != self._origin_values[row.unit.index]]
            for row in moved:
                self.show(row)

    def _list(self) -> None:
        self._sliders.children = self.rows if self.all.value else self.rows[:SHOWN]

    def _with(self, moved: tuple[tuple[int, int], ...]) -> np.ndarray:
        features = self._features.copy()
        for unit, place in moved:
            features[unit] = self._run.curve[place, unit]
        return features

    def _decode_moved(self, key: str, moved: tuple[tuple[int, int], ...]) -> bytes:
        return png(self._run.decode(self._with(moved)[None])[0])

    def _decode_range(self, key: str, others: tuple[tuple[int, int], ...], unit: int) -> bytes:
        features = np.repeat(self._with(others)[None], self._count, axis=0)
        features[:, unit] = self._run.curve[np.linspace(0, 200, self._count).round().astype(int), unit]
        return strip(self._run.decode(features))


class InterchangeExplorer(Explorer):
    """Source and target side by side; tick the units to take from the target and see what becomes of the source (Figure 3).

    `groups` are all units that follow a factor best: with `whole` a tick takes them all, since one may carry only a part.
    """

    def __init__(self, run: Run, images: np.ndarray, units: Sequence[Unit] | None = None, first: tuple[int, int] = (0, 1)):
        self._run, self.units = run, list(units or run.active_units)
        self.source = PictureChooser(images, first[0], "source", self.show)
        self.target = PictureChooser(images, first[1], "target", self.show)
        self.ticks = [ipywidgets.Checkbox(False, description=str(u), indent=False, layout={"width": "240px"}) for u in self.units]
        self.whole = ipywidgets.Checkbox(False, description="with every unit that follows the factor", indent=False)
        self.whole.disabled = self.units[0].factor is None
        self.pictures = {name: _shown_at(192) for name in ("source", "target", "result")}
        self._decode = lru_cache(maxsize=1_024)(self._exchange)
        for box in (*self.ticks, self.whole):
            box.observe(lambda _: self.show(), "value")
        titled = [ipywidgets.VBox([ipywidgets.Label(name), picture]) for name, picture in self.pictures.items()]
        choices = ipywidgets.VBox([self.source, self.target])
        boxes = ipywidgets.VBox([*self.ticks[:SHOWN], self.whole])
        super().__init__([ipywidgets.HBox([choices, boxes]), ipywidgets.HBox(titled)])
        self.show()

    def chosen(self) -> tuple[int, ...]:
        """The units to take from the target."""
        ticked = [unit for unit, tick in zip(self.units, self.ticks, strict=True) if tick.value]
        groups = (self._run.following(unit) if self.whole.value else [unit.index] for unit in ticked)
        return tuple(sorted({index for group in groups for index in group}))

    def show(self) -> None:
        """Source, target, and the source with the ticked units of the target."""
        self.pictures["source"].value = png(self.source.image, 3)
        self.pictures["target"].value = png(self.target.image, 3)
        self.pictures["result"].value = self._decode(self.source.key, self.target.key, self.chosen())

    def _exchange(self, source: str, target: str, units: tuple[int, ...]) -> bytes:
        return png(self._run.swap(self.source.image, self.target.image, units), 3)


class AnchorExplorer(Explorer):
    """A unit's features in two dimensions with its anchors; choose an anchor and see pictures decoded from it (Figure 1).

    `images` (n, 64, 64, 3) are the pictures shown, `features` (m, units, dim) the cloud, coloured by `factors` (m, factors).
    """

    def __init__(self, run: Run, images: np.ndarray, features: np.ndarray, factors: np.ndarray | None = None):
        self._run, self._cloud, self._factors = run, features, factors
        self._features = run.encode(images)
        self.units = [unit for unit in run.active_units if len(run.anchors_along(unit.index)[0])]
        if not self.units:
            raise ValueError(f"{run.name} has no anchors: valid are runs of a variant with anchoring")
        self.unit = ipywidgets.Dropdown(options=[(str(unit), i) for i, unit in enumerate(self.units)], description="unit")
        self.anchor = ipywidgets.IntSlider(0, min=0, max=0, description="anchor")
        self.scatter, self.pictures = _shown_at(640), _shown_at(116 * len(images))
        self._draw = lru_cache(maxsize=64)(self._draw_cloud)
        self._decode = lru_cache(maxsize=512)(self._decode_anchor)
        self.unit.observe(lambda _: self.start(), "value")
        self.anchor.observe(lambda _: self.show(), "value")
        super().__init__([ipywidgets.HBox([self.unit, self.anchor]), self.scatter, self.pictures])
        self.start()

    def start(self) -> None:
        """The chosen unit's first anchor; anchors are numbered along the unit's range."""
        self.anchor.max = len(self._run.anchors_along(self.units[self.unit.value].index)[0]) - 1
        self.anchor.value = 0
        self.show()

    def show(self) -> None:
        """The cloud with the anchor marked, and the pictures decoded with the unit held at it."""
        self.pictures.value = self._decode(self.unit.value, self.anchor.value)
        self.scatter.value = self._draw(self.unit.value, self.anchor.value)

    def _draw_cloud(self, unit: int, anchor: int) -> bytes:
        buffer = io.BytesIO()
        title = str(self.units[unit])
        plots.anchor_scatter({title: self._cloud_of(self.units[unit])}, marked=anchor).savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

    def _cloud_of(self, unit: Unit) -> plots.Cloud:
        names = list(self._run.data.factor_names)
        values = self._factors[:, names.index(unit.factor)] if unit.factor and self._factors is not None else None
        means = self._run.anchors_along(unit.index)[1]
        return plots.cloud(self._cloud[:, unit.index], means, values, unit.factor or "")

    def _decode_anchor(self, unit: int, anchor: int) -> bytes:
        return strip(self._run.at_anchor(self._features, self.units[unit].index, anchor))
