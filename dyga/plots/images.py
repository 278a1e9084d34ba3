"""Figures of images: the data, traversals, latent interchange and attention maps."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from scipy.ndimage import zoom

from dyga.plots.style import WIDTH, new_figure, styled, words


def _two_lines(name: str) -> str:
    """A row's label with a line break before its second part, or its parenthesis, or else after its first word."""
    text = words(name)
    mark = next((mark for mark in (" + ", " (") if mark in text), " ")
    return text.replace(mark, f"\n{mark.lstrip()}", 1)


def _mosaic(axes: Axes, rows: Sequence[np.ndarray], breaks: Sequence[int] = ()) -> tuple[list, list]:
    """Draw rows of images (n, H, W, 3), of any length, as one image with a wider gap above the rows in `breaks`.

    Returns the centres of the rows and of the columns in pixels.
    """
    _, high, wide, _ = rows[0].shape
    gap = max(1, high // 24)
    tops = [r * (high + gap) + sum(3 * gap for b in breaks if b <= r) for r in range(len(rows))]
    columns = max(len(row) for row in rows)
    canvas = np.zeros((tops[-1] + high, columns * (wide + gap) - gap, 4), np.uint8)
    for top, row in zip(tops, rows, strict=True):
        for column, image in enumerate(row):
            left = column * (wide + gap)
            canvas[top : top + high, left : left + wide] = np.dstack([image, np.full((high, wide), 255)])
    axes.imshow(canvas)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, labelsize=9.5)
    axes.set(xticks=[], yticks=[])
    return [t + high / 2 for t in tops], [c * (wide + gap) + wide / 2 for c in range(columns)]


def _image_rows(rows, labels, label: str, breaks=(), header: Sequence[str] = (), side=0.95, spare=0.0) -> Figure:
    """One labelled row of images (n, H, W, 3) uint8 per entry of `rows`, each image at most `side` inches wide.

    `spare` inches are left free at the right. ValueError if the images differ in shape, or rows and labels in number.
    """
    rows = [np.asarray(row) for row in rows]
    if len(rows) != len(labels) or not rows:
        raise ValueError(f"{label}: {len(rows)} rows of images but {len(labels)} labels, need one label per row")
    for name, row in zip(labels, rows, strict=True):
        if row.ndim != 4 or row.shape[1:] != rows[0].shape[1:] or row.shape[3] != 3 or row.dtype != np.uint8:
            need = "uint8 images of one size, (n, H, W, 3)"
            raise ValueError(f"{label}: row '{name}' is {row.dtype} of shape {row.shape}, need {need}")
    names = [_two_lines(name) for name in labels]
    margin = 0.25 + 0.085 * max(len(line) for name in names for line in name.split("\n"))
    columns = max(len(row) for row in rows)
    side = min(side, (WIDTH - margin - spare) / columns)
    aspect = rows[0].shape[1] / rows[0].shape[2]
    longest = max((len(words(name)) for name in header), default=0)
    slanted = 0.095 * longest > side  # the names of many columns do not fit side by side
    above = 0.15 + 0.065 * longest if slanted else 0.4 if header else 0.1
    height = side * aspect * (len(rows) + 0.13 * len(breaks)) + above
    figure = new_figure(margin + side * columns + spare, height, label)
    axes = figure.subplots()
    axes.set_anchor("SE")  # what is left of the size goes to the labels
    row_centres, column_centres = _mosaic(axes, rows, breaks)
    axes.set_yticks(row_centres, names)
    if header:
        slant = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if slanted else {}
        axes.tick_params(labeltop=True, labelbottom=False)
        axes.set_xticks(column_centres, [words(name) for name in header], **slant)
    return figure


@styled
def data_grid(images: Sequence[np.ndarray], row_labels: Sequence[str], label: str = "Images, one row per label") -> Figure:
    """Rows of images, one row per row label: each row (n, H, W, 3) uint8, of any length. `label` is the alternative text."""
    return _image_rows(images, row_labels, label, side=0.75)


@styled
def traversal(images: Sequence[np.ndarray], labels: Sequence[str]) -> Figure:
    """Latent traversals: images (units, count, H, W, 3) uint8, one row per varied unit."""
    return _image_rows(images, labels, "Latent traversal: one row of decoded images per unit", side=0.85)


@styled
def interchange(source: np.ndarray, target: np.ndarray, rows: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Latent interchange as in the paper's Figure 3: source and target images, then one row per (label, images).

    A row shows the source images decoded with one unit taken from the target. All images are (n, H, W, 3) uint8.
    """
    images = [source, target, *(images for _, images in rows)]
    labels = ["source image", "target image", *(name for name, _ in rows)]
    return _image_rows(images, labels, "Figure 3, latent interchange: source, target, then one row per unit", breaks=(2,))


@styled
def attention_maps(images: np.ndarray, maps: np.ndarray, labels: Sequence[str]) -> Figure:
    """Cross-attention as in the paper's Figure 4: each image, and to its right the image overlaid with each unit's attention map.

    Images are (n, H, W, 3) uint8, maps (n, m, h, w). Each map is interpolated bilinearly and scaled to its own range. ValueError
    if the maps do not match the images and labels.
    """
    images, maps = np.asarray(images), np.asarray(maps, float)
    if maps.ndim != 4 or maps.shape[:2] != (len(images), len(labels)):
        need = f"(n, m, h, w) with n={len(images)} images and m={len(labels)} labels"
        raise ValueError(f"attention_maps: maps have shape {maps.shape}, need {need}")
    factor = max(1, 256 // images.shape[1])  # the overlay is smooth, the image keeps its pixels
    canvas = images.repeat(factor, 1).repeat(factor, 2)
    high, wide = canvas.shape[1:3]
    low = maps.min((2, 3), keepdims=True)
    span = maps.max((2, 3), keepdims=True) - low
    scaled = (maps - low) / np.where(span > 0, span, 1)
    stretch = (1, 1, high / maps.shape[2], wide / maps.shape[3])
    scale = ListedColormap(mpl.colormaps["turbo"](np.linspace(0.06, 0.94, 256)))  # without its near-black ends
    smooth = zoom(scaled, stretch, order=1, mode="nearest", grid_mode=True)[..., None].clip(0, 1)
    colour = scale(smooth[..., 0])[..., :3] * 255
    weight = 0.88 * (0.2 + 0.8 * smooth)  # the image is visible where attention is low
    overlaid = (1 - weight) * canvas[:, None] + weight * colour
    rows = [np.concatenate([image[None], over.round().astype(np.uint8)]) for image, over in zip(canvas, overlaid, strict=True)]
    label = "Figure 4: cross-attention of each unit, over the image"
    figure = _image_rows(rows, [" "] * len(rows), label, header=["image", *labels], side=1.25, spare=0.65)
    shades = ScalarMappable(Normalize(0, 1), scale)
    bar = figure.colorbar(shades, ax=figure.axes[0], shrink=0.6, aspect=24, pad=0.015, panchor=(1, 0), ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return figure


@styled
def unit_cards(cards: Sequence[tuple]) -> Figure:
    """A card per unit: (title, lowest, highest, traversal, change, note), as `dyga.explore.cards.unit_cards` makes them.

    Lowest and highest (a few images each) and the traversal (n, H, W, 3) are uint8. The change (H, W), in grey levels, is a heat
    map scaled to its own maximum, which is written below. ValueError without cards.
    """
    if not cards:
        raise ValueError("unit_cards: nothing to draw, give at least one card")
    side = 0.68
    figure = new_figure(WIDTH, (2 * side + 0.46) * len(cards), "Unit cards: traversal, extreme images and mean change")
    panels = figure.subplots(len(cards), 2, squeeze=False, width_ratios=[4.5, 1])
    for (left, right), (title, lowest, highest, traversal, change, note) in zip(panels, cards, strict=True):
        gap = np.full_like(lowest[:1], 255)
        rows = [traversal, np.concatenate([lowest, gap, highest])]
        centres, _ = _mosaic(left, rows)
        left.set_yticks(centres, ["traversal", "lowest and\nhighest codes"])
        left.set_title(f"{title}; {note}", loc="left", fontsize=9.5)
        right.imshow(change, cmap="magma", vmin=0)
        right.set(xticks=[], yticks=[])
        right.grid(False)
        right.set_xlabel(f"change, up to {change.max():.0f}", fontsize=9)
    return figure
