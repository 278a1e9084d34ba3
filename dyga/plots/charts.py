"""Charts: training, the latent space, results."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from dyga.metrics import unit_order
from dyga.plots.style import GREY, INK, PALETTE, WIDTH, panel_grid, styled, variant_styles, words


@styled
def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training loss against step per variant, as a running mean, raw values faint behind. Records need
    `step` and `loss`; where all have `images_per_second` too, a second panel shows the speed."""
    series = {}
    for name, records in logs.items():
        if not records or any(key not in record for record in records for key in ("step", "loss")):
            raise ValueError(f"training_curves: log '{name}' needs records with 'step' and 'loss'")
        series[name] = {key: np.array([r[key] for r in records], float) for key in ("step", "loss")}
        if all("images_per_second" in record for record in records):
            series[name]["speed"] = np.array([r["images_per_second"] for r in records], float)
    fast = bool(series) and all("speed" in values for values in series.values())
    figure, axes = panel_grid(len(series) and 1 + fast, 3.2, "Training curves: loss against step")
    styles, tops, bottoms = variant_styles(list(series)), [], []
    for name, values in series.items():
        colour, loss = styles[name]["color"], values["loss"]
        smooth = _running_mean(loss)
        tops.append(np.nanmax(smooth[len(smooth) // 50 :]))
        bottoms.append(np.nanmin(smooth))
        axes[0].plot(values["step"], loss, color=colour, alpha=0.18, linewidth=0.7)
        axes[0].plot(values["step"], smooth, color=colour, label=words(name))
        if fast:
            axes[1].plot(values["step"], _running_mean(values["speed"]), color=colour, label=words(name))
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
    window = 2 * max(1, len(values) // 50) + 1
    return pd.Series(values).rolling(window, center=True, min_periods=1).mean().to_numpy()


@styled
def anchors_over_training(variants: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Anchors in use per latent unit as training goes on: per variant steps (s,) and counts (s, units). Line:
    median over units; band: middle half of the units; faint band: fewest to most."""
    figure, (axes,) = panel_grid(min(1, len(variants)), 3.0, "Anchors per latent unit over training")
    styles = variant_styles(list(variants))
    for name, (steps, counts) in variants.items():
        counts = np.asarray(counts)
        if counts.ndim != 2 or len(counts) != len(steps):
            need = f"({len(steps)}, units)"
            raise ValueError(f"anchors_over_training: '{name}' has counts {counts.shape}, need {need}")
        least, low, middle, high, most = np.quantile(counts, (0, 0.25, 0.5, 0.75, 1), axis=1)
        colour = styles[name]["color"]
        axes.fill_between(steps, least, most, color=colour, alpha=0.10, linewidth=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(steps, middle, label=words(name), markersize=4, **styles[name])
    axes.set(xlabel="Training step", ylabel="Anchors per unit", ylim=(0, None))
    axes.set_title("Median over units (bands: middle half, fewest to most)")
    figure.legend(loc="outside right center")
    return figure


def _over_seeds(axes: Axes, name: str, places: Sequence[float], values: np.ndarray, style: Mapping) -> None:
    """A line through the mean of values (s,) or (seeds, s), and a band from worst to best of several seeds."""
    values = np.atleast_2d(values)
    axes.plot(places, values.mean(0), label=words(name), markersize=5, **style)
    if len(values) > 1:
        axes.fill_between(places, values.min(0), values.max(0), alpha=0.15, color=style["color"])


@styled
def metric_curves(metrics: Mapping[str, Mapping[str, tuple]]) -> Figure:
    """Metrics against training step, a panel per metric: {metric: {variant: (steps (s,), values (s,) or (seeds, s))}}. Line: mean
    over seeds; band from worst to best."""
    figure, panels = panel_grid(len(metrics), 3.0, "Metrics against training step")
    for axes, (metric, curves) in zip(panels, metrics.items(), strict=True):
        styles = variant_styles(list(curves))
        for name, (steps, values) in curves.items():
            if np.shape(values)[-1] != len(steps):
                raise ValueError(f"metric_curves: '{name}' has {np.shape(values)[-1]} values of {metric} for {len(steps)} steps")
            _over_seeds(axes, name, steps, values, styles[name])
        axes.set(xlabel="Training step", title=words(metric), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def heat_map(panels: Mapping[str, np.ndarray], factor_names: Sequence[str], measure: str = "NMI") -> Figure:
    """A measure between latent units and factors (NMI, DCI's importance): per title a panel (units, factors).
    Units are in `unit_order`: a disentangled model shows a diagonal and little else. All share one scale."""
    values = {title: np.asarray(panel, float) for title, panel in panels.items()}
    for title, panel in values.items():
        if panel.ndim != 2 or panel.shape[1] != len(factor_names):
            raise ValueError(f"heat_map: '{title}' has shape {panel.shape}, need (units, {len(factor_names)})")
    units = max((len(panel) for panel in values.values()), default=0)
    label = f"{measure} between latent units and factors"
    figure, axes = panel_grid(len(values), 0.19 * units + 1.35, label, width=min(WIDTH, 2.6 * len(values) + 0.9))
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
    """Each metric's values per variant, a dot per seed, with their mean and, from two seeds on, one standard
    deviation to either side. Values are {variant: {metric: [value per seed]}}; a metric may be missing."""
    metrics = list(dict.fromkeys(metric for scores in rows.values() for metric in scores))
    height = 0.36 * len(rows) + 0.9
    figure, panels = panel_grid(len(metrics), height, "Ablation: each metric per variant, one dot per seed")
    styles, names = variant_styles(list(rows)), [words(name) for name in rows]
    for axes, metric in zip(panels, metrics, strict=True):
        for place, (name, scores) in enumerate(rows.items()):
            values = np.asarray(scores.get(metric, []), float)
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            mean, spread = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
            colour = styles[name]["color"]
            if len(values) > 1:
                axes.plot([mean - spread, mean + spread], [place, place], color=colour, alpha=0.35, linewidth=6)
                axes.plot([mean], [place], "|", color=colour, markersize=14, markeredgewidth=2)
            axes.scatter(values, np.full(len(values), place), s=26, color=colour, edgecolors="white", zorder=3)
            text = f"{mean:.3f} ± {spread:.3f}" if len(values) > 1 else f"{mean:.3f}"
            axes.annotate(
                text,
                (1, place),
                (-2, 9),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                color=GREY,
            )
        axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.65), title=words(metric))
        axes.set_yticklabels(names if axes.get_subplotspec().is_first_col() else [])
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(False, axis="x")
    return figure


@styled
def differences(rows: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
    """Differences with their intervals, a row per question and a panel per measure: {question: {measure: (mean, low, high)}}.
    Filled where the interval leaves out 0."""
    metrics = list(dict.fromkeys(metric for found in rows.values() for metric in found))
    figure, panels = panel_grid(len(metrics), 0.28 * len(rows) + 0.9, "Does it help? Mean differences with 95% intervals")
    for axes, metric in zip(panels, metrics, strict=True):
        axes.axvline(0, color=GREY, linewidth=1)
        for place, found in enumerate(rows.values()):
            if metric not in found:
                continue
            mean, low, high = found[metric]
            decided = not low <= 0 <= high
            colour = (PALETTE[2] if mean > 0 else PALETTE[1]) if decided else GREY
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.scatter([mean], [place], s=34, color=colour if decided else "white", edgecolors=colour, linewidths=1.5, zorder=3)
        axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6))
        axes.set_title(metric, fontsize=10)
        axes.set_yticklabels([q[:1].upper() + q[1:] for q in rows] if axes.get_subplotspec().is_first_col() else [])
        axes.tick_params(axis="y", labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.2g}" if value else "0"))
        axes.grid(False, axis="x")
    return figure


@styled
def sample_efficiency(curves: Mapping[str, tuple], chance: float | None = None) -> Figure:
    """Downstream accuracy against the number of labelled images, per variant (sizes (s,), accuracies (s,) or
    (seeds, s)): mean over seeds, band from worst to best. `chance` draws the level of guessing."""
    figure, (axes,) = panel_grid(min(1, len(curves)), 3.3, "Sample efficiency: accuracy by labels", width=0.9 * WIDTH)
    styles = variant_styles(list(curves))
    for name, (sizes, accuracies) in curves.items():
        if np.shape(accuracies)[-1] != len(sizes):
            raise ValueError(f"sample_efficiency: '{name}' has {np.shape(accuracies)[-1]} accuracies for {len(sizes)} sizes")
        _over_seeds(axes, name, sizes, accuracies, styles[name])
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=1, linestyle="--", label="guessing")
    axes.set(xscale="log", xlabel="Labelled images", ylabel="Accuracy")
    axes.set_xticks(sorted({int(size) for sizes, _ in curves.values() for size in sizes}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside right center")
    return figure
