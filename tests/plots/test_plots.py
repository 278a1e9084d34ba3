"""Every figure renders, shows what it was given, keeps its text inside, and leaves matplotlib as it was."""

import base64
import io

import IPython.display
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib._pylab_helpers import Gcf
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from dyga import plots

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
VARIANTS = ("encdiff", "full", "decorrelated")


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 64, 64, 3), dtype=np.uint8)


def log(steps: int = 300, **extra: float) -> list[dict]:
    noise = np.random.default_rng(0).lognormal(0, 0.1, steps)
    return [{"step": s + 1, "loss": (0.1 + np.exp(-s / 30)) * noise[s], **extra} for s in range(steps)]


def features(anchors: int, colours: np.ndarray | None = None) -> plots.Cloud:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 10, 500)
    xy = np.stack([np.cos(values), np.sin(values)], 1) + rng.normal(0, 0.1, (500, 2))
    return plots.Cloud(xy, values, rng.normal(size=(anchors, 2)), "object_hue", colours)


def make_all() -> dict:
    rng = np.random.default_rng(0)
    counts = rng.integers(2, 20, (9, 20))
    scores = {v: {"FactorVAE score": [0.9, 0.95, 0.97], "MIG": [0.3]} for v in VARIANTS}
    return {
        "data_grid": plots.data_grid([pictures(n) for n in (10, 10, 10, 8, 4, 15)], NAMES),
        "traversal": plots.traversal(pictures(6, 8), [f"unit 3 ({name})" for name in NAMES]),
        "interchange": plots.interchange(pictures(7), pictures(7), [(name, pictures(7)) for name in NAMES]),
        "attention_maps": plots.attention_maps(pictures(2), rng.random((2, 6, 16, 16)), NAMES),
        "training_curves": plots.training_curves({v: log(images_per_second=100.0) for v in VARIANTS}),
        "anchors_over_training": plots.anchors_over_training({v: (np.arange(9), counts) for v in VARIANTS}),
        "anchor_scatter": plots.anchor_scatter({"encdiff": features(0), "full": features(7)}),
        "anchor_samples": plots.anchor_samples("full", features(7), pictures(3), [0, 3, 6]),
        "anchor_stages": plots.anchor_stages(
            {s: (rng.normal(size=(50, 2)), np.eye(2), np.stack([np.eye(2)] * 2)) for s in "abcd"}
        ),
        "heat_map": plots.heat_map({v: rng.random((20, 6)) for v in VARIANTS}, NAMES),
        "ablation": plots.ablation(scores),
        "metric_curves": plots.metric_curves(
            {m: {v: ([10, 20], [[0.2, 0.5], [0.3, 0.6]]) for v in VARIANTS} for m in ("a", "b")}
        ),
        "differences": plots.differences({"a": {"DCI": (0.1, 0.05, 0.2)}}),
        "sample_efficiency": plots.sample_efficiency({v: ([10, 100], [0.5, 0.9]) for v in VARIANTS}, 0.1),
        "method": plots.method(),
    }


@pytest.fixture(scope="module")
def figures() -> dict:
    return make_all()


def words_of(figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def test_every_public_figure_is_tested(figures):
    assert set(figures) == set(plots.__all__) - {"Cloud", "cloud"}


def test_figures_fit_a_notebook_and_no_text_is_cut(figures):
    for name, figure in figures.items():
        assert figure.get_figwidth() <= 8.61, name
        assert figure.get_label(), name
        box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # of all that is drawn, in inches
        assert box.x0 >= -0.01 and box.y0 >= -0.01, (name, box)
        assert box.x1 <= figure.get_figwidth() + 0.01 and box.y1 <= figure.get_figheight() + 0.01, (name, box)
        assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6.5, name


def test_figures_leave_no_state_behind():
    before = dict(mpl.rcParams)
    plots.training_curves({"full": log(20)})
    with pytest.raises(ValueError):
        plots.training_curves({})
    assert dict(mpl.rcParams) == before
    assert not Gcf.figs


def test_the_callers_style_does_not_leak_in():
    plain = plots.training_curves({"full": log(20)})
    with mpl.rc_context({"font.size": 25, "xtick.labelsize": 30, "lines.linewidth": 9}):
        other = plots.training_curves({"full": log(20)})
    sizes = [[t.get_fontsize() for t in f.axes[0].get_xticklabels()] for f in (plain, other)]
    assert sizes[0] == sizes[1]


def test_the_same_arrays_give_the_same_bytes():
    images = []
    for _ in range(2):
        buffer = io.BytesIO()
        plots.anchor_scatter({"full": features(5)}).savefig(buffer, format="png")
        images.append(buffer.getvalue())
    assert images[0] == images[1]


def test_a_figure_shows_itself_once_as_a_sharp_picture_with_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append((data, options)))
    figure = plots.sample_efficiency({"full": ([10, 20], [0.1, 0.2])})
    figure._ipython_display_()
    ((data, options),) = shown
    png = base64.b64decode(data["image/png"])
    pixels = int.from_bytes(png[16:20], "big")
    assert options["metadata"]["image/png"]["width"] * 2 == pytest.approx(pixels, abs=2)
    assert options["metadata"]["image/png"]["alt"] == figure.get_label()


@settings(deadline=None, derandomize=True, max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_data_grid_shows_every_image_in_its_place(lengths):
    rows = [np.full((n, 48, 48, 3), 10 * (r + 1), np.uint8) for r, n in enumerate(lengths)]
    figure = plots.data_grid(rows, [f"row {r}" for r in range(len(rows))])
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape == (50 * len(rows) - 2, 50 * max(lengths) - 2, 4)
    for r, n in enumerate(lengths):
        for column in range(max(lengths)):
            cell = canvas[50 * r : 50 * r + 48, 50 * column : 50 * column + 48]
            assert (cell[..., 3] == (255 if column < n else 0)).all()
            assert (cell[..., 0] == (10 * (r + 1) if column < n else 0)).all()
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [f"Row\n{r}" for r in range(len(rows))]


def test_interchange_has_the_papers_layout():
    figure = plots.interchange(pictures(3), pictures(3, seed=1), [(n, pictures(3, seed=2)) for n in NAMES])
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[:4] == ["Source\nimage", "Target\nimage", "Floor\nhue", "Wall\nhue"]
    centres = figure.axes[0].get_yticks()
    gaps = np.diff(centres)
    assert gaps[1] > gaps[0] and np.allclose(np.delete(gaps, 1), gaps[0])  # set apart below the target


def test_attention_is_scaled_to_each_maps_own_range_and_lies_where_it_should():
    images = np.full((1, 64, 64, 3), 128, np.uint8)
    maps = np.zeros((1, 3, 16, 16))
    maps[0, 0, :4, :4] = 1e-6  # weak, but the strongest of its own map
    maps[0, 1, 12:, 12:] = 100
    maps[0, 2] = 5  # flat: no place stands out
    figure = plots.attention_maps(images, maps, ["a", "b", "c"])
    canvas = np.asarray(figure.axes[0].images[0].get_array())[..., :3].astype(float)
    side, step = 256, 256 + 256 // 24
    _, first, second, flat = (canvas[:, c * step : c * step + side] for c in range(4))
    warm = [panel[..., 0] - panel[..., 2] for panel in (first, second)]
    assert warm[0][:32, :32].mean() > 100 > warm[0][128:, 128:].mean()
    assert warm[1][-32:, -32:].mean() > 100 > warm[1][:128, :128].mean()
    assert np.ptp(flat[..., 0]) == 0
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["Image", "A", "B", "C"]


def test_the_running_mean_smooths_without_shifting():
    records = [{"step": s, "loss": 2.0 + (s % 2)} for s in range(500)]
    raw, smooth = plots.training_curves({"mine": records}).axes[0].lines
    assert np.ptp(raw.get_ydata()) == 1
    assert np.abs(smooth.get_ydata() - 2.5).max() < 0.1
    ramp = [{"step": s, "loss": 1.0 + s} for s in range(500)]
    line = plots.training_curves({"mine": ramp}).axes[0].lines[1].get_ydata()
    assert np.allclose(line[50:-50], np.arange(51, 451))


def test_training_speed_has_a_panel_only_where_every_log_has_it():
    assert len(plots.training_curves({"a": log(20), "b": log(20, images_per_second=9.0)}).axes) == 1
    assert len(plots.training_curves({"b": log(20, images_per_second=9.0)}).axes) == 2


def test_a_variant_keeps_its_colour_beside_any_others():
    def colour(figure, label):
        return next(line.get_color() for line in figure.axes[0].lines if line.get_label() == label)

    curve = ([10, 20], [0.1, 0.2])
    alone = plots.sample_efficiency({"full": curve})
    among = plots.sample_efficiency({"mine": curve, "encdiff": curve, "full": curve, "theirs": curve})
    assert colour(alone, "Full (DyGA + SD)") == colour(among, "Full (DyGA + SD)")
    assert len({line.get_color() for line in among.axes[0].lines}) == 4


def test_anchors_are_black_edged_diamonds_over_points_in_the_factors_colours():
    hues = np.linspace(0, 1, 30).reshape(10, 3)
    xy, values, anchors, name, _ = features(7)
    figure = plots.anchor_scatter({"encdiff, unit 3": features(0), "full": plots.Cloud(xy, values, anchors, name, hues)})
    without, with_anchors = figure.axes[:2]
    assert without.get_title() == "EncDiff, unit 3: no anchors" and len(without.collections) == 1
    assert with_anchors.get_title() == "Full (DyGA + SD): 7 anchors"
    points, diamonds = with_anchors.collections
    assert np.allclose(diamonds.get_offsets(), anchors)
    assert np.allclose(diamonds.get_edgecolor(), [0, 0, 0, 1])
    points.update_scalarmappable()
    back = [int(np.abs(xy - place).sum(1).argmin()) for place in points.get_offsets()]
    assert sorted(back) == list(range(500))
    assert np.allclose(points.get_facecolors()[:, :3], hues[values[back]])
    assert "anchor" in words_of(figure) and "Object hue" in words_of(figure)


def test_a_cloud_is_flattened_along_its_widest_directions_with_hues_in_their_colours():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2)) * [3, 1]
    space = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    values = np.arange(200) % 4
    cloud = plots.cloud(flat @ space, flat[:3] @ space, values, "wall_hue")
    assert np.allclose(cloud.xy[:3], cloud.anchors)
    assert cloud.xy[:, 0].std() == pytest.approx(flat[:, 0].std(), rel=0.02)
    assert cloud.colours.shape == (4, 3) and np.allclose(cloud.colours[2], [0.0475, 0.95, 0.95])
    bare = plots.cloud(flat @ space, np.zeros((0, 5)))
    assert bare.anchors.shape == (0, 2) and not bare.values.any() and bare.colours is None


def test_numbered_anchors_stand_beside_their_pictures():
    images = pictures(3)
    figure = plots.anchor_samples("full", features(7), images, [0, 3, 6])
    shown = [axes for axes in figure.findobj(Axes) if axes.images]
    assert [axes.get_title() for axes in shown] == ["0", "3", "6"]
    assert all(np.array_equal(axes.images[0].get_array(), image) for axes, image in zip(shown, images, strict=True))
    assert [t.get_text() for t in figure.findobj(Text) if t.get_text() in ("0", "3", "6") and t.get_zorder() == 5] == [
        "0",
        "3",
        "6",
    ]


def test_a_heat_map_writes_each_value_beside_its_unit():
    values = np.array([[0.0, 0.7], [0.91, 0.004], [0.02, 0.0]])
    axes = plots.heat_map({"full": values}, ["scale", "shape"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1", "0", "2"]
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (0, 0): ".91",
        (1, 1): ".70",
        (0, 2): ".02",
    }


def test_the_ablation_has_a_panel_per_metric_and_an_interval_from_two_seeds_on():
    rows = {"encdiff": {"MIG": [0.2, 0.4, 0.6]}, "full": {"MIG": [0.5], "DCI": [0.8, float("nan")]}}
    figure = plots.ablation(rows)
    mig, dci = figure.axes
    assert [a.get_title() for a in (mig, dci)] == ["MIG", "DCI"]
    assert [t.get_text() for t in mig.get_yticklabels()] == ["EncDiff", "Full (DyGA + SD)"]
    assert np.allclose(mig.lines[0].get_xdata(), [0.2, 0.6]) and len(mig.lines) == 2
    assert [t.get_text() for t in mig.texts] == ["0.400 ± 0.200", "0.500"]
    assert [t.get_text() for t in dci.texts] == ["0.800"] and not dci.lines


def test_differences_are_filled_where_the_interval_leaves_out_zero():
    rows = {"first": {"DCI": (0.2, 0.1, 0.3), "MIG": (0.1, -0.1, 0.3)}, "second": {"DCI": (-0.2, -0.3, -0.1)}}
    dci, mig = plots.differences(rows).axes
    assert [label.get_text() for label in dci.get_yticklabels()] == ["First", "Second"]
    assert not any(label.get_text() for label in mig.get_yticklabels())
    helps, hurts = (points.get_facecolor()[0] for points in dci.collections)
    (undecided,) = (points.get_facecolor()[0] for points in mig.collections)
    assert helps[1] > helps[0] and hurts[0] > hurts[1] and np.allclose(undecided, 1)
    assert np.allclose(dci.lines[1].get_xdata(), [0.1, 0.3])


def test_sample_efficiency_averages_the_seeds():
    figure = plots.sample_efficiency({"full": ([10, 100], [[0.2, 0.6], [0.4, 0.8]])}, chance=0.1)
    assert np.allclose(figure.axes[0].lines[0].get_ydata(), [0.3, 0.7])
    assert "chance" in words_of(figure)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.data_grid([pictures(2)], ["a", "b"]), "1 rows of images but 2 labels"),
        (lambda: plots.data_grid([], []), "0 rows of images"),
        (lambda: plots.data_grid([pictures(2) / 255], ["a"]), "row 'a' is float64"),
        (
            lambda: plots.traversal([pictures(2), pictures(2)[:, :32]], ["a", "b"]),
            r"row 'b'.*\(2, 32, 64, 3\)",
        ),
        (lambda: plots.attention_maps(pictures(2), np.ones((2, 3, 4, 4)), ["a"]), "m=1 labels"),
        (lambda: plots.training_curves({}), "nothing to draw"),
        (lambda: plots.training_curves({"a": [{"step": 1}]}), "log 'a' needs records with 'step' and 'loss'"),
        (lambda: plots.anchors_over_training({"a": ([1, 2], np.ones((3, 4)))}), r"'a' has counts \(3, 4\)"),
        (lambda: plots.anchor_scatter({"a": plots.Cloud(np.ones((3, 4)), [1, 2, 3], [])}), r"xy \(3, 4\)"),
        (lambda: plots.anchor_scatter({"a": features(1, np.ones((4, 3)))}), "4 colours but values up to 9"),
        (lambda: plots.anchor_samples("a", features(2), pictures(1), [2]), r"1 images for anchors \[2\], the unit has 2"),
        (lambda: plots.heat_map({"a": np.ones((3, 4))}, ["x"]), r"need \(units, 1\)"),
        (lambda: plots.sample_efficiency({"a": ([1, 2, 3], [0.1])}), "1 accuracies for 3 sizes"),
        (lambda: plots.ablation({}), "nothing to draw"),
        (lambda: plots.differences({}), "nothing to draw"),
    ],
)
def test_bad_input_is_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_anchor_stages_draw_an_ellipse_per_gaussian_along_its_longest_axis():
    rng = np.random.default_rng(0)
    covariances = np.array([[[4.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 9.0]]])
    figure = plots.anchor_stages({"initialise": (rng.normal(size=(50, 2)), np.zeros((2, 2)), covariances)})
    first, second = figure.axes[0].patches
    assert (first.width, first.height) == (8.0, 4.0) and first.angle % 180 == 0
    assert (second.width, second.height) == (12.0, 4.0) and second.angle % 180 == 90
    assert figure.axes[0].get_title() == "Initialise: 2"
    with pytest.raises(ValueError, match=r"anchor_stages: 'x' has xy \(3, 3\)"):
        plots.anchor_stages({"x": (np.zeros((3, 3)), np.zeros((1, 2)), covariances[:1])})
