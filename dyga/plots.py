"""Every figure of the notebooks, the report and the README: plain arrays in, a matplotlib figure out.

Nothing here touches pyplot, so no figure is registered anywhere, shown twice or left open.
"""

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator
from scipy.ndimage import zoom
from scipy.optimize import linear_sum_assignment

WIDTH = 8.6  # inches; fills a notebook's output at 100 dpi
EXPORT_DPI = 200

# Okabe and Ito's palette (2008), told apart with every common colour-vision deficiency.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#F0E442")
MARKERS = "osD^vP*X"
INK, GREY, FAINT = "#222222", "#767676", "#E6E6E6"
# A variant keeps its colour in every figure, whichever variants are shown beside it.
VARIANTS = ("full", "encdiff", "decorrelated", "skip_dropout", "anchoring")

STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlepad": 8,
    "grid.color": FAINT,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.dpi": 100,
    "svg.fonttype": "path",
}


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook as one sharp PNG with alternative text, whatever the backend."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=EXPORT_DPI)
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": self.get_label()}
        width = round(self.get_figwidth() * 100)
        display(data, raw=True, metadata={"image/png": {"width": width, "alt": self.get_label()}})


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the common style and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with mpl.style.context(STYLE, after_reset=True):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made lazily: make them while the style holds
        return figure

    return wrapper


def _figure(width: float, height: float, label: str) -> Figure:
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    figure.set_label(label)
    return figure


def _panels(number: int, height: float, label: str, most: int = 3, width: float = WIDTH) -> tuple:
    """A figure and `number` axes in rows of at most `most`."""
    if number < 1:
        raise ValueError(f"{label}: nothing to draw, give at least one entry")
    columns = min(number, most)
    rows = -(-number // columns)
    figure = _figure(width, height * rows, label)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[number:]:
        spare.remove()
    return figure, list(axes[:number])


def _variant_styles(names: Sequence[str]) -> dict[str, dict]:
    """Colour and marker per variant: fixed for the project's own, the palette's remainder for others."""
    free = iter(range(len(VARIANTS), len(VARIANTS) + len(names)))
    places = {name: VARIANTS.index(name) if name in VARIANTS else next(free) for name in names}
    return {
        name: {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}
        for name, place in places.items()
    }


def _words(name: str) -> str:
    """A factor's or variant's name as a reader expects it: `floor_hue` becomes `Floor hue`."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _two_lines(name: str) -> str:
    return _words(name).replace(" ", "\n", 1)


# --- rows of images -------------------------------------------------------------------------------------------


def _mosaic(axes: Axes, rows: Sequence[np.ndarray], breaks: Sequence[int] = ()) -> tuple[list, list]:
    """Paint rows of (n, H, W, 3) images, ragged or not, as one picture; rows in `breaks` have a wider gap above
    them. Returns the centres of the rows and of the columns."""
    _, high, wide, _ = rows[0].shape
    gap = max(1, high // 24)
    tops = [r * (high + gap) + sum(3 * gap for b in breaks if b <= r) for r in range(len(rows))]
    columns = max(len(row) for row in rows)
    canvas = np.zeros((tops[-1] + high, columns * (wide + gap) - gap, 4), np.uint8)
    for top, row in zip(tops, rows, strict=True):
        for column, image in enumerate(row):
            left = column * (wide + gap)
            canvas[top : top + high, left : left + wide, :3] = image
            canvas[top : top + high, left : left + wide, 3] = 255
    axes.imshow(canvas)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, labelsize=9.5)
    axes.set(xticks=[], yticks=[])
    return [t + high / 2 for t in tops], [c * (wide + gap) + wide / 2 for c in range(columns)]


def _image_rows(rows, labels, label: str, breaks=(), header: Sequence[str] = (), side: float = 0.95) -> Figure:
    """One labelled row of images per entry of `rows`, sized so that the images fill the figure's width."""
    rows = [np.asarray(row) for row in rows]
    if len(rows) != len(labels) or not rows:
        raise ValueError(f"{label}: {len(rows)} rows of images but {len(labels)} labels, need one label a row")
    for name, row in zip(labels, rows, strict=True):
        if row.ndim != 4 or row.shape[1:] != rows[0].shape[1:] or row.shape[3] != 3 or row.dtype != np.uint8:
            raise ValueError(
                f"{label}: row '{name}' is {row.dtype} of shape {row.shape}, need uint8 images of one size, (n, H, W, 3)"
            )
    names = [_two_lines(name) for name in labels]
    margin = 0.25 + 0.085 * max(len(line) for name in names for line in name.split("\n"))
    columns = max(len(row) for row in rows)
    side = min(side, (WIDTH - margin) / columns)
    aspect = rows[0].shape[1] / rows[0].shape[2]
    height = side * aspect * (len(rows) + 0.13 * len(breaks)) + (0.4 if header else 0.1)
    figure = _figure(margin + side * columns, height, label)
    axes = figure.subplots()
    row_centres, column_centres = _mosaic(axes, rows, breaks)
    axes.set_yticks(row_centres, names)
    if header:
        axes.set_xticks(column_centres, [_words(name) for name in header])
        axes.tick_params(labeltop=True, labelbottom=False)
    return figure


@_styled
def data_grid(images: Sequence[np.ndarray], row_labels: Sequence[str]) -> Figure:
    """Traversals of the data: one row of uint8 images (columns, H, W, 3) per factor; rows may differ in length."""
    return _image_rows(images, row_labels, "Data grid: one row of images per factor", side=0.75)


@_styled
def traversal(images: Sequence[np.ndarray], labels: Sequence[str]) -> Figure:
    """Images decoded along latent units, the other units held: uint8 (units, count, H, W, 3), one row a unit."""
    return _image_rows(images, labels, "Latent traversal: one row of decoded images per unit", side=0.85)


@_styled
def interchange(
    source: np.ndarray, target: np.ndarray, rows: Sequence[tuple[str, np.ndarray]], names=("source", "target")
) -> Figure:
    """Latent interchange as in the paper's Figure 3: source and target images (n, H, W, 3), then per factor the
    source decoded with that factor's unit taken from the target."""
    pictures = [source, target, *(images for _, images in rows)]
    labels = [f"{names[0]} image", f"{names[1]} image", *(name for name, _ in rows)]
    label = "Figure 3, latent interchange: source, target, then one row per factor exchanged"
    return _image_rows(pictures, labels, label, breaks=(2,))


@_styled
def attention_maps(images: np.ndarray, maps: np.ndarray, labels: Sequence[str], opacity: float = 0.75) -> Figure:
    """Cross-attention as in the paper's Figure 4: images (n, H, W, 3) uint8 and, to their right, the same image
    under each unit's map (n, m, h, w), bilinear and scaled to the map's own range."""
    images, maps = np.asarray(images), np.asarray(maps, float)
    if maps.ndim != 4 or maps.shape[:2] != (len(images), len(labels)):
        raise ValueError(
            f"attention_maps: maps have shape {maps.shape}, need (n, m, h, w) with n={len(images)} images"
            f" and m={len(labels)} labels"
        )
    factor = max(1, 256 // images.shape[1])  # so that the overlay is smooth while the image keeps its pixels
    canvas = images.repeat(factor, 1).repeat(factor, 2)
    high, wide = canvas.shape[1:3]
    low = maps.min((2, 3), keepdims=True)
    span = maps.max((2, 3), keepdims=True) - low
    scaled = (maps - low) / np.where(span > 0, span, 1)
    scale = (1, 1, high / maps.shape[2], wide / maps.shape[3])
    smooth = zoom(scaled, scale, order=1, mode="nearest", grid_mode=True)[..., None].clip(0, 1)
    colour = mpl.colormaps["turbo"](smooth[..., 0])[..., :3] * 255
    weight = opacity * (0.25 + 0.75 * smooth)  # where attention is low the image shows through
    overlaid = (1 - weight) * canvas[:, None] + weight * colour
    rows = [np.concatenate([image[None], over.round().astype(np.uint8)]) for image, over in zip(canvas, overlaid)]
    label = "Figure 4, cross-attention of each factor's best unit over the image"
    figure = _image_rows(rows, [" "] * len(rows), label, header=["image", *labels], side=1.25)
    mappable = mpl.cm.ScalarMappable(Normalize(0, 1), "turbo")
    bar = figure.colorbar(mappable, ax=figure.axes[0], shrink=0.6, aspect=24, pad=0.01, ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return figure


# --- training -------------------------------------------------------------------------------------------------


@_styled
def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training loss against step per variant, smoothed over a running window, the raw values faint behind. Records
    need `step` and `loss`; where all have `images_per_second` too, a second panel shows the speed."""
    series = {}
    for name, records in logs.items():
        if not records or any(key not in record for record in records for key in ("step", "loss")):
            raise ValueError(f"training_curves: log '{name}' needs records with 'step' and 'loss'")
        series[name] = {key: np.array([r[key] for r in records], float) for key in ("step", "loss")}
        if all("images_per_second" in record for record in records):
            series[name]["speed"] = np.array([r["images_per_second"] for r in records], float)
    fast = bool(series) and all("speed" in values for values in series.values())
    figure, axes = _panels(len(series) and 1 + fast, 3.2, "Training curves: loss against step")
    styles, tops, bottoms = _variant_styles(list(series)), [], []
    for name, values in series.items():
        colour, loss = styles[name]["color"], values["loss"]
        smooth = _running_mean(loss)
        tops.append(np.nanmax(smooth[len(smooth) // 50 :]))
        bottoms.append(np.nanmin(smooth))
        axes[0].plot(values["step"], loss, color=colour, alpha=0.18, linewidth=0.7)
        axes[0].plot(values["step"], smooth, color=colour, label=_words(name))
        if fast:
            axes[1].plot(values["step"], _running_mean(values["speed"]), color=colour, label=_words(name))
    axes[0].set(xlabel="Training step", ylabel="Loss", title="Loss (running mean; raw values faint)")
    # The first steps' loss is many times the rest: on a linear axis it would flatten everything else.
    axes[0].set(yscale="log", ylim=(0.8 * min(bottoms), 1.25 * max(tops)))
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else ""))
    axes[0].legend()
    if fast:
        axes[1].set(xlabel="Training step", ylabel="Images per second", title="Training speed", ylim=(0, None))
    return figure


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred running mean over a twenty-fifth of the series; shorter windows at both ends, gaps left out."""
    half = max(1, len(values) // 50)
    padded = np.pad(values, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    present = np.isfinite(windows)
    return np.where(present, windows, 0).sum(1) / np.maximum(present.sum(1), 1)


@_styled
def anchors_over_training(variants: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Anchors in use per latent unit as training goes on: per variant steps (s,) and counts (s, units). Line: median
    over units; band: middle half of the units; faint band: fewest to most."""
    figure, (axes,) = _panels(bool(variants), 3.0, "Anchors per latent unit over training", width=0.75 * WIDTH)
    styles = _variant_styles(list(variants))
    for name, (steps, counts) in variants.items():
        counts = np.asarray(counts)
        if counts.ndim != 2 or len(counts) != len(steps):
            raise ValueError(
                f"anchors_over_training: '{name}' has counts of shape {counts.shape}, need ({len(steps)}, units)"
            )
        least, low, middle, high, most = np.quantile(counts, (0, 0.25, 0.5, 0.75, 1), axis=1)
        colour = styles[name]["color"]
        axes.fill_between(steps, least, most, color=colour, alpha=0.10, linewidth=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(steps, middle, label=_words(name), markersize=4, **styles[name])
    axes.set(xlabel="Training step", ylabel="Anchors per unit", ylim=(0, None))
    axes.set_title("Median over units (bands: middle half, fewest to most)")
    axes.legend()
    return figure
