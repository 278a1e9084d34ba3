"""Figures of the anchors: scatter plots of features, images decoded at anchors, and the stages of the anchor selection."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from sklearn.decomposition import PCA

from dyga.plots.style import GREY, INK, PALETTE, WIDTH, new_figure, panel_grid, styled, words


class Cloud(NamedTuple):
    """One unit's features in two dimensions, `xy` (n, 2), the values of a factor (n,), and the unit's anchors (k, 2).

    `colours` (v, 3) are RGB rows in 0 to 1, one per factor value 0 to v-1; by default those of viridis in order.
    """

    xy: np.ndarray
    values: np.ndarray
    anchors: np.ndarray
    factor: str = ""
    colours: np.ndarray | None = None

    def spread(self, count: int) -> np.ndarray:
        """The numbers of at most `count` anchors, ascending: the first, then each time the farthest from those chosen."""
        anchors, chosen = np.asarray(self.anchors), [0]
        while len(chosen) < min(count, len(anchors)):
            chosen.append(int(np.linalg.norm(anchors[:, None] - anchors[chosen], axis=-1).min(axis=1).argmax()))
        return np.unique(chosen)  # equal anchors count as one


def cloud(
    features: np.ndarray,
    anchors: np.ndarray,
    values: np.ndarray | None = None,
    factor: str = "",
    colours: np.ndarray | None = None,
) -> Cloud:
    """Project one unit's features (n, dim) and anchors (k, dim) to their first two principal components.

    The paper uses PaCMAP, but a unit's features lie on a curve, and PaCMAP does not preserve it. `values` (n,) are those of
    `factor`, and `colours` their colours, as in `Cloud`; they are darkened a little, so that white shows on the page.
    """
    pca = PCA(2).fit(features)
    colours = None if colours is None else 0.93 * np.asarray(colours)
    values = np.zeros(len(features), int) if values is None else values
    projected = pca.transform(anchors) if len(anchors) else np.zeros((0, 2))
    return Cloud(pca.transform(features), values, projected, factor, colours)


@styled
def anchor_scatter(points: Mapping[str, Cloud], marked: int | None = None) -> Figure:
    """Scatter plots as in the upper part of the paper's Figure 1, one panel per title.

    A panel shows a unit's features, coloured by a factor, and its anchors. `marked` is the index of an anchor to highlight.
    ValueError if a shape is wrong, or if a panel has more factor values than colours.
    """
    figure, panels = panel_grid(len(points), 3.7, "Figure 1: features of a latent unit and its anchors")
    for axes, (title, cloud) in zip(panels, points.items(), strict=True):
        _draw(figure, axes, title, cloud)
        if marked is not None:
            axes.scatter(*np.asarray(cloud.anchors)[marked], marker="D", s=150, color=PALETTE[1], edgecolors=INK, zorder=4)
    diamond = mpl.lines.Line2D([], [], linestyle="", marker="D", markerfacecolor="white", markeredgecolor="black")
    if any(len(cloud.anchors) for cloud in points.values()):
        figure.legend([diamond], ["anchor"], loc="outside lower right")
    return figure


@styled
def anchor_samples(title: str, cloud: Cloud, images: Sequence[np.ndarray], numbers: Sequence[int]) -> Figure:
    """The paper's Figure 1: a scatter plot of one unit with numbered anchors, and below it the images decoded at these anchors.

    Images are (k, H, W, 3) uint8, one for each anchor index in `numbers`. ValueError if their numbers differ.
    """
    if len(images) != len(numbers) or not len(images) or max(numbers) >= len(cloud.anchors):
        raise ValueError(f"anchor_samples: {len(images)} images for anchors {list(numbers)}, the unit has {len(cloud.anchors)}")
    side = min(0.92, (WIDTH - 0.2) / len(images))
    figure = new_figure(WIDTH, 3.9 + 1.25 * side, "Figure 1: a latent unit, its anchors, and images decoded at them")
    above, below = figure.subfigures(2, 1, height_ratios=(3.9, 1.25 * side))
    axes = above.subplots()
    _draw(above, axes, title, cloud, aspect=70)
    axes.margins(0.03, 0.12)
    outline = [mpl.patheffects.withStroke(linewidth=2.5, foreground="white")]
    style = {"ha": "center", "va": "center", "fontsize": 9, "fontweight": "bold", "color": INK, "path_effects": outline}
    for number in numbers:
        anchor = np.asarray(cloud.anchors)[number]
        outward = (anchor - np.mean(cloud.xy, axis=0)) / np.ptp(cloud.xy, axis=0).clip(1e-9)
        outward *= 11 / max(np.linalg.norm(outward), 1e-9)
        axes.annotate(str(number), anchor, outward, textcoords="offset points", zorder=5, **style)
    for panel, image, number in zip(np.atleast_1d(below.subplots(1, len(images))), images, numbers, strict=True):
        panel.imshow(image)
        panel.set_title(str(number), fontsize=9, fontweight="bold", pad=3)
        panel.set_axis_off()
    return figure


def _draw(figure: Figure, axes: Axes, title: str, cloud: Cloud, aspect: int = 28) -> None:
    xy, values, anchors = np.asarray(cloud.xy), np.asarray(cloud.values), np.asarray(cloud.anchors).reshape(-1, 2)
    if xy.ndim != 2 or xy.shape[1] != 2 or values.shape != (len(xy),):
        raise ValueError(f"anchor_scatter: '{title}' has xy {xy.shape} and values {values.shape}, need (n, 2), (n,)")
    names, index = np.unique(values, return_inverse=True)
    if cloud.colours is not None:
        names, index = np.arange(len(cloud.colours)), values
        if values.min() < 0 or values.max() >= len(names):
            raise ValueError(f"anchor_scatter: '{title}' has {len(names)} colours but values up to {values.max()}")
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.97, len(names))) if cloud.colours is None else cloud.colours
    scale = ListedColormap(np.asarray(shades))
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    order = np.random.default_rng(0).permutation(len(xy))  # so that no value always covers the others
    dots = axes.scatter(*xy[order].T, c=index[order], cmap=scale, norm=norm, s=5, linewidths=0, rasterized=True)
    if len(anchors):
        size = 46 if len(anchors) <= 12 else 20
        axes.scatter(*anchors.T, marker="D", s=size, c="white", edgecolors="black", linewidths=1.2, zorder=3)
    axes.set_title(words(title).replace(", ", "\n") + f": {len(anchors) or 'no'} anchors")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#BBBBBB")
    if len(names) > 1:
        ticks = np.arange(0, len(names), -(-len(names) // 10))
        bar = figure.colorbar(dots, ax=axes, location="bottom", aspect=aspect, pad=0.03, shrink=0.9, ticks=ticks)
        bar.ax.set_xticklabels([f"{names[t]:g}" for t in ticks])
        bar.ax.tick_params(length=0, labelsize=8)
        bar.minorticks_off()
        bar.outline.set_visible(False)
        bar.set_label(words(cloud.factor), labelpad=1)


@styled
def anchor_stages(stages: Mapping[str, tuple]) -> Figure:
    """The paper's Figure 2(b) on real features: one panel per stage of the anchor selection.

    A stage is (features (n, 2), means (k, 2), covariances (k, 2, 2)). Each Gaussian is an ellipse with semi-axes of two standard
    deviations. ValueError if a shape is wrong.
    """
    figure, panels = panel_grid(len(stages), 3.0, "Figure 2(b): the stages of the anchor selection", max_columns=4)
    colours = mpl.colormaps["tab20"]
    for axes, (title, (xy, means, covariances)) in zip(panels, stages.items(), strict=True):
        if np.shape(xy)[1:] != (2,) or np.shape(covariances) != (len(means), 2, 2):
            raise ValueError(f"anchor_stages: '{title}' has xy {np.shape(xy)} and covariances {np.shape(covariances)}")
        axes.scatter(*np.asarray(xy).T, s=2, color=GREY, linewidths=0, rasterized=True)
        values, vectors = np.linalg.eigh(covariances)
        smallest = 0.012 * np.ptp(xy, axis=0).max()  # a Gaussian along a curve would be too thin to see
        for k, mean in enumerate(means):
            height, width = np.maximum(4 * np.sqrt(values[k].clip(0)), smallest)
            angle = np.degrees(np.arctan2(vectors[k, 1, 1], vectors[k, 0, 1]))
            style = {"facecolor": (*colours(k % 20)[:3], 0.35), "edgecolor": colours(k % 20), "linewidth": 1.2}
            axes.add_patch(Ellipse(mean, width, height, angle=angle, **style))
        axes.set_title(f"{words(title)}: {len(means)}")
        axes.set(xticks=[], yticks=[])
    return figure
