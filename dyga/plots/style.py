"""The common style of all figures, and a figure class that displays itself in a notebook.

Nothing in this folder uses pyplot, so no figure is registered globally, shown twice or left open.
"""

import base64
import functools
import io
from collections.abc import Callable, Sequence

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dyga.config import VARIANTS

WIDTH = 8.6  # inches: the width of a notebook's output at 100 dpi
EXPORT_DPI = 200

# Okabe and Ito's palette (2008), safe for all common colour vision deficiencies. The last four colours are Tol's (2021).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#F0E442")
PALETTE += ("#882255", "#999933", "#332288", "#44AA99")
MARKERS = "osD^vP*Xph<>"
INK, GREY, FAINT = "#222222", "#767676", "#E6E6E6"

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
    """A figure that displays itself in a notebook as one high-resolution PNG with alternative text, with any backend."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=EXPORT_DPI)
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": self.get_label()}
        width = round(self.get_figwidth() * 100)
        display(data, raw=True, metadata={"image/png": {"width": width, "alt": self.get_label()}})


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: run a drawing function in the common style and restore matplotlib's settings afterwards. The layout is computed
    once, not each time the figure is saved."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with matplotlib.style.context(STYLE, after_reset=True):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are created lazily: create them in this style
            figure.set_layout_engine("none")
        return figure

    return wrapper


def new_figure(width: float, height: float, label: str) -> Figure:
    """An empty figure of the given size in inches; `label` is its alternative text."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    figure.set_label(label)
    return figure


def panel_grid(number: int, height: float, label: str, max_columns: int = 3, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure of `width` inches and `number` axes in rows of at most `max_columns`, each row `height` inches high.

    `label` is the alternative text. ValueError if `number` is 0.
    """
    if number < 1:
        raise ValueError(f"{label}: nothing to draw, give at least one entry")
    columns = min(number, max_columns)
    rows = -(-number // columns)
    figure = new_figure(width, height * rows, label)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[number:]:
        spare.remove()
    return figure, list(axes[:number])


def variant_styles(names: Sequence[str]) -> dict[str, dict]:
    """Colour and marker per name. They are fixed for the project's variants; other names get the remaining colours."""
    known = list(VARIANTS)
    indices = {name: known.index(name) for name in names if name in known}
    free = sorted(set(range(len(PALETTE))) - {index % len(PALETTE) for index in indices.values()}) or [0]
    indices |= {name: free[i % len(free)] for i, name in enumerate(name for name in names if name not in known)}
    return {name: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]} for name, i in indices.items()}


def words(name: str) -> str:
    """The display name of a factor or variant: `position_x` becomes `Position x`, `encdiff, unit 3` becomes `EncDiff, unit 3`."""
    name, *more = name.split(", ")
    text = name.replace("_", " ")
    return ", ".join([VARIANTS[name].title if name in VARIANTS else text[:1].upper() + text[1:], *more])
