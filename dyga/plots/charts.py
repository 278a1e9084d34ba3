"""Charts of training, the latent space and results."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from dyga.metrics import unit_order
from dyga.plots.style import FAINT, GREY, INK, PALETTE, WIDTH, panel_grid, styled, variant_styles, words


@styled
def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training loss against step per variant: the mean over 4% of the steps, with the raw values faint behind it.

    Records need `step` and `loss`, else ValueError.
    """
    figure, (axes,) = panel_grid(min(1, len(logs)), 3.2, "Training curves: loss against training step")
    styles, tops, bottoms = variant_styles(list(logs)), [], []
    for name, records in logs.items():
        table = pd.DataFrame(records)
        if not {"step", "loss"} <= set(table):
            raise ValueError(f"training_curves: log '{name}' needs records with 'step' and 'loss'")
        steps, loss, colour = table["step"], table["loss"], styles[name]["color"]
        smooth = loss.rolling(2 * max(1, len(loss) // 50) + 1, center=True, min_periods=1).mean()
        tops.append(smooth[len(smooth) // 50 :].max())
        bottoms.append(smooth.min())
        axes.plot(steps, loss, color=colour, alpha=0.18, linewidth=0.7)
        axes.plot(steps, smooth, color=colour, label=words(name))
    axes.set(xlabel="Training step", ylabel="Loss", title="Loss (running mean; raw values faint)")
    # The loss of the first steps is much higher than the rest, which a linear axis would flatten. Penalties can make it negative.
    if min(bottoms) > 0:
        axes.set(yscale="log", ylim=(0.8 * min(bottoms), 1.25 * max(tops)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else ""))
    figure.legend(loc="outside right center")
    return figure


@styled
def anchors_over_training(variants: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Number of anchors per latent unit during training: per variant steps (s,) and counts (s, units).

    Line: median over units. Bands: interquartile and full range over units. ValueError if a shape is wrong.
    """
    figure, (axes,) = panel_grid(min(1, len(variants)), 3.0, "Anchors per latent unit during training")
    styles = variant_styles(list(variants))
    for name, (steps, counts) in variants.items():
        counts = np.asarray(counts)
        if counts.ndim != 2 or len(counts) != len(steps):
            raise ValueError(f"anchors_over_training: '{name}' has counts {counts.shape}, need ({len(steps)}, units)")
        least, low, middle, high, most = np.quantile(counts, (0, 0.25, 0.5, 0.75, 1), axis=1)
        colour = styles[name]["color"]
        axes.fill_between(steps, least, most, color=colour, alpha=0.10, linewidth=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(steps, middle, label=words(name), markersize=4, markevery=0.1, **styles[name])
    axes.set(xlabel="Training step", ylabel="Anchors per unit", ylim=(0, None))
    axes.set_title("Median over units (bands: interquartile range, full range)")
    figure.legend(loc="outside right center")
    return figure


def _over_seeds(axes: Axes, curves: Mapping[str, tuple], counted: str, places: str) -> None:
    """Plot each variant's values (s,) or (seeds, s) against x (s,): the mean over seeds as a line, minimum to maximum as a
    band. ValueError, with the words `counted` for values and `places` for x, if they differ in number."""
    styles = variant_styles(list(curves))
    for name, (x, values) in curves.items():
        values = np.atleast_2d(values)
        if values.shape[1] != len(x):
            raise ValueError(f"{axes.figure.get_label()}: '{name}' has {values.shape[1]} {counted} for {len(x)} {places}")
        axes.plot(x, values.mean(0), label=words(name), markersize=5, **styles[name])
        if len(values) > 1:
            axes.fill_between(x, values.min(0), values.max(0), alpha=0.15, color=styles[name]["color"])


def _row_each(axes: Axes, names: Sequence[str], margin: float, max_ticks: int) -> None:
    """Label one row per name, in the first column of panels only."""
    axes.set_yticks(range(len(names)), names if axes.get_subplotspec().is_first_col() else [""] * len(names))
    axes.tick_params(axis="y", length=0)
    axes.margins(x=margin)
    axes.xaxis.set_major_locator(MaxNLocator(max_ticks))
    axes.grid(False, axis="x")


@styled
def metric_curves(metrics: Mapping[str, Mapping[str, tuple]]) -> Figure:
    """Metrics against training step, one panel per metric: {metric: {variant: (steps (s,), values (s,) or (seeds, s))}}.

    Line: mean over seeds. Band: minimum to maximum. ValueError if steps and values differ in number.
    """
    figure, panels = panel_grid(len(metrics), 3.0, "Metrics against training step")
    for axes, (metric, curves) in zip(panels, metrics.items(), strict=True):
        _over_seeds(axes, curves, f"values of {metric}", "steps")
        axes.set(xlabel="Training step", title=words(metric), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def heat_map(panels: Mapping[str, np.ndarray], factor_names: Sequence[str], measure: str = "NMI") -> Figure:
    """A measure between latent units and factors, such as NMI or DCI importance: one panel (units, factors) per title.

    Units are sorted by `unit_order`, so a disentangled model shows only a diagonal. All panels share one colour scale.
    ValueError if a shape is wrong.
    """
    values = {title: np.asarray(panel, float) for title, panel in panels.items()}
    for title, panel in values.items():
        if panel.ndim != 2 or panel.shape[1] != len(factor_names):
            raise ValueError(f"heat_map: '{title}' has shape {panel.shape}, need (units, {len(factor_names)})")
    units = max((len(panel) for panel in values.values()), default=0)
    label = f"{measure} between latent units and factors"
    columns = min(3, max(1, 36 // max(1, len(factor_names))))  # a cell has room for its number
    width = WIDTH if columns < 3 else min(WIDTH, 2.6 * len(values) + 0.9)
    figure, axes = panel_grid(len(values), 0.19 * units + 1.35, label, columns, width)
    top = max(np.nanmax(panel) for panel in values.values())
    for ax, (title, panel) in zip(axes, values.items(), strict=True):
        order = unit_order(np.nan_to_num(panel))
        image = ax.imshow(panel[order], cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for (row, column), value in np.ndenumerate(panel[order]):
            if value >= 0.005:
                ink = "white" if value > 0.6 * top else INK
                text = f"{value:.2f}".removeprefix("0")
                ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)
        ax.set_xticks(range(len(factor_names)), [words(n) for n in factor_names], rotation=40, ha="right")
        ax.set_yticks(range(len(order)), order)
        ax.xaxis.set_tick_params(rotation_mode="anchor")
        ax.tick_params(length=0, labelsize=8)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_title(words(title))
    axes[0].set_ylabel("Latent unit")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=26, pad=0.015, label=measure)
    bar.outline.set_visible(False)
    return figure


@styled
def ablation(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One panel per metric, with one row per variant and one dot per seed: {variant: {metric: [value per seed]}}.

    With two or more seeds, also the mean and one standard deviation to either side. Metrics may be missing; NaNs are ignored.
    """
    metrics = list(dict.fromkeys(metric for scores in rows.values() for metric in scores))
    height = 0.36 * len(rows) + 0.9
    figure, panels = panel_grid(len(metrics), height, "Ablation: each metric per variant, one dot per seed")
    styles, names = variant_styles(list(rows)), [words(name) for name in rows]
    for axes, metric in zip(panels, metrics, strict=True):
        for row, (name, scores) in enumerate(rows.items()):
            values = np.asarray(scores.get(metric, []), float)
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            mean, spread = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
            colour = styles[name]["color"]
            if len(values) > 1:
                axes.plot([mean - spread, mean + spread], [row, row], color=colour, alpha=0.35, linewidth=6)
                axes.plot([mean], [row], "|", color=colour, markersize=14, markeredgewidth=2)
            axes.scatter(values, np.full(len(values), row), s=26, color=colour, edgecolors="white", zorder=3)
            text = f"{mean:.3f} ± {spread:.3f}" if len(values) > 1 else f"{mean:.3f}"
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "center"}
            axes.annotate(text, (1, row), (-2, 9), fontsize=8, color=GREY, **place)
        _row_each(axes, names, margin=0.12, max_ticks=4)
        axes.set(ylim=(len(rows) - 0.5, -0.65), title=words(metric))
    return figure


@styled
def differences(rows: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
    """Mean differences with their 95% confidence intervals, one row per question and one panel per measure.

    `rows` is {question: {measure: (mean, low, high)}}. Dots are filled and coloured if the interval excludes 0.
    """
    metrics = list(dict.fromkeys(metric for found in rows.values() for metric in found))
    figure, panels = panel_grid(len(metrics), 0.28 * len(rows) + 0.9, "Mean differences with 95% confidence intervals")
    for axes, metric in zip(panels, metrics, strict=True):
        axes.axvline(0, color=GREY, linewidth=1)
        for row, found in enumerate(rows.values()):
            if metric not in found:
                continue
            mean, low, high = found[metric]
            decided = not low <= 0 <= high
            colour = (PALETTE[2] if mean > 0 else PALETTE[1]) if decided else GREY
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
            axes.scatter([mean], [row], s=34, color=colour if decided else "white", edgecolors=colour, linewidths=1.5, zorder=3)
        _row_each(axes, [q[:1].upper() + q[1:] for q in rows], margin=0.08, max_ticks=3)
        axes.set(ylim=(len(rows) - 0.4, -0.6))
        axes.set_title(metric, fontsize=10)
        axes.tick_params(axis="y", labelsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.2g}" if value else "0"))
    return figure


@styled
def seed_differences(
    points: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, tuple[float, float, float]]],
    smallest: float,
) -> Figure:
    """Paired differences: a block of rows per question, a row per world, and one dot per seed.

    `points` is {question: {world: [difference per seed]}}, `intervals` {question: {row: (mean, low, high)}}; rows that are no
    world, as "all worlds", are drawn in black. Infinite intervals are left out. The grey band is plus and minus `smallest`.
    """
    worlds = list(dict.fromkeys(world for found in points.values() for world in found))
    colours = dict(zip(worlds, PALETTE, strict=False))
    lines = [(question, name) for question, found in intervals.items() for name in found]
    height = 0.17 * len(lines) + 0.3 * len(intervals) + 0.9
    figure, (axes,) = panel_grid(min(1, len(lines)), height, "Differences by question and world, one dot per seed, 95% intervals")
    axes.axvspan(-smallest, smallest, color=FAINT, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    place, ticks = 0.0, {}
    for question, found in intervals.items():
        ticks[question[:1].upper() + question[1:]] = place + (len(found) - 1) / 2
        for name, (mean, low, high) in found.items():
            colour = colours.get(name, INK)
            values = points.get(question, {}).get(name, ())
            axes.scatter(values, np.full(len(values), place), s=16, color=colour, alpha=0.6, linewidths=0, zorder=3)
            if np.isfinite([low, high]).all():
                axes.plot([low, high], [place, place], color=colour, linewidth=1.6 if name in colours else 2.6)
                axes.plot([mean], [place], "|" if name in colours else "D", color=colour, markersize=7, zorder=4)
            place += 1
        place += 1.2
    axes.set(yticks=list(ticks.values()), yticklabels=list(ticks), ylim=(place - 1, -1), xlabel="Difference (right: better)")
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.grid(False, axis="y")
    others = {name: INK for _, name in lines if name not in colours}
    for name, colour in {**others, **colours}.items():
        axes.plot([], [], "o-", color=colour, markersize=4, label=name)
    figure.legend(loc="outside lower center", ncols=5)
    return figure


@styled
def sample_efficiency(curves: Mapping[str, tuple], chance: float | None = None) -> Figure:
    """Downstream accuracy against the number of labelled images: per variant (sizes (s,), accuracies (s,) or (seeds, s)).

    Line: mean over seeds. Band: minimum to maximum. `chance` draws a line at chance level. ValueError if sizes and accuracies
    differ in number.
    """
    label = "Sample efficiency: accuracy against number of labelled images"
    figure, (axes,) = panel_grid(min(1, len(curves)), 3.3, label, width=0.9 * WIDTH)
    _over_seeds(axes, curves, "accuracies", "sizes")
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=1, linestyle="--", label="chance")
    axes.set(xscale="log", xlabel="Labelled images", ylabel="Accuracy")
    axes.set_xticks(sorted({int(size) for sizes, _ in curves.values() for size in sizes}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside right center")
    return figure
