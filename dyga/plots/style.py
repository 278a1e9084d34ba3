"""The one style of every figure, and the figure that shows itself in a notebook.

Nothing in this folder touches pyplot, so no figure is registered anywhere, shown twice or left open.
"""

import base64
import functools
import io
from collections.abc import Callable, Sequence

import matplotlib.style
from matplotlib.figure import Figure

WIDTH = 8.6  # inches; fills a notebook's output at 100 dpi
EXPORT_DPI = 200

# Okabe and Ito's palette (2008), told apart with every common colour-vision deficiency; the last four are Tol's (2021).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#F0E442")
PALETTE += ("#882255", "#999933", "#332288", "#44AA99")
MARKERS = "osD^vP*Xph<>"
INK, GREY, FAINT = "#222222", "#767676", "#E6E6E6"
# The project's variants by name; each keeps its colour in every figure, whichever are shown beside it.
VARIANTS = {
    "full": "Full (DyGA + SD)",
    "encdiff": "EncDiff",
    "decorrelated": "Decorrelated",
    "planar": "Planar",
    "pruned": "Pruned",
    "skip_dropout": "Skip dropout only",
    "anchoring": "Anchoring only",
    "full_early": "Full, anchoring early",
    "full_late": "Full, anchoring late",
    "full_strong": "Full, anchoring strong",
    "decorrelated_without_anchoring": "Decorrelated, no anchoring",
    "decorrelated_without_skip_dropout": "Decorrelated, no skip dropout",
    "decorrelated_without_kurtosis": "Decorrelated, no kurtosis",
    "decorrelated_subspace": "Decorrelated, subspaces",
    "decorrelated_quantised": "Decorrelated, ten values",
    "planar_without_anchoring": "Planar, no anchoring",
    "planar_subspace": "Planar, subspaces",
}

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
    """A figure that shows itself in a notebook as one sharp PNG with a text alternative, in any backend."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=EXPORT_DPI)
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": self.get_label()}
        width = round(self.get_figwidth() * 100)
        display(data, raw=True, metadata={"image/png": {"width": width, "alt": self.get_label()}})


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the common style and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with matplotlib.style.context(STYLE, after_reset=True):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made lazily: make them while the style holds
        return figure

    return wrapper


def new_figure(width: float, height: float, label: str) -> Figure:
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    figure.set_label(label)
    return figure


def panel_grid(number: int, height: float, label: str, most: int = 3, width: float = WIDTH) -> tuple:
    """A figure and `number` axes in rows of at most `most`."""
    if number < 1:
        raise ValueError(f"{label}: nothing to draw, give at least one entry")
    columns = min(number, most)
    rows = -(-number // columns)
    figure = new_figure(width, height * rows, label)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[number:]:
        spare.remove()
    return figure, list(axes[:number])


def variant_styles(names: Sequence[str]) -> dict[str, dict]:
    """Colour and marker per variant: fixed for the project's own; others take what no variant beside them has."""
    known = list(VARIANTS)
    places = {name: known.index(name) for name in names if name in known}
    free = [place for place in range(len(PALETTE)) if place not in {taken % len(PALETTE) for taken in places.values()}] or [0]
    places |= {name: free[i % len(free)] for i, name in enumerate(name for name in names if name not in known)}
    return {
        name: {"color": PALETTE[places[name] % len(PALETTE)], "marker": MARKERS[places[name] % len(MARKERS)]} for name in names
    }


def words(name: str) -> str:
    """A factor's or variant's name as a reader expects it: `floor_hue` becomes `Floor hue`, `encdiff, unit 3` becomes
    `EncDiff, unit 3`."""
    name, *more = name.split(", ")
    text = name.replace("_", " ")
    return ", ".join([VARIANTS.get(name, text[:1].upper() + text[1:]), *more])
