"""All figures: they render, fit a notebook with no text cut off, display themselves, and restore matplotlib's settings."""

import base64
import io

import IPython.display
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from plot_examples import NAMES, features, log, random_images

from dyga import plots

VARIANTS = ("encdiff", "full", "decorrelated")


def make_all() -> dict:
    rng = np.random.default_rng(0)
    counts = rng.integers(2, 20, (9, 20))
    scores = {v: {"FactorVAE score": [0.9, 0.95, 0.97], "MIG": [0.3]} for v in VARIANTS}
    return {
        "data_grid": plots.data_grid([random_images(n) for n in (10, 10, 10, 8, 4, 15)], NAMES),
        "traversal": plots.traversal(random_images(6, 9), [f"background colour + camera height ({name})" for name in NAMES]),
        "interchange": plots.interchange(random_images(7), random_images(7), [(name, random_images(7)) for name in NAMES]),
        "unit_cards": plots.unit_cards([("unit 3", *np.split(random_images(15), [4, 8]), rng.random((64, 64)), "similar: none")]),
        "attention_maps": plots.attention_maps(random_images(2), rng.random((2, 6, 16, 16)), NAMES),
        "training_curves": plots.training_curves({v: log() for v in VARIANTS}),
        "anchors_over_training": plots.anchors_over_training({v: (np.arange(9), counts) for v in VARIANTS}),
        "anchor_scatter": plots.anchor_scatter({"encdiff": features(0), "full": features(7)}),
        "anchor_samples": plots.anchor_samples("full", features(7), random_images(3), [0, 3, 6]),
        "anchor_stages": plots.anchor_stages(
            {s: (rng.normal(size=(50, 2)), np.eye(2), np.stack([np.eye(2)] * 2)) for s in "abcd"}
        ),
        "heat_map": plots.heat_map({v: rng.random((20, 6)) for v in VARIANTS}, NAMES),
        "ablation": plots.ablation(scores),
        "metric_curves": plots.metric_curves(
            {m: {v: ([10, 20], [[0.2, 0.5], [0.3, 0.6]]) for v in VARIANTS} for m in ("a", "b")}
        ),
        "differences": plots.differences({"a": {"DCI": (0.1, 0.05, 0.2)}}),
        "seed_differences": plots.seed_differences(
            {"skip dropout (DCI)": {"faces2d_correlated": [0.01, 0.03]}},
            {"skip dropout (DCI)": {"all worlds": (0.02, 0.0, 0.04), "faces2d_correlated": (0.02, -0.1, 0.14)}},
            smallest=0.02,
        ),
        "sample_efficiency": plots.sample_efficiency({v: ([10, 100], [0.5, 0.9]) for v in VARIANTS}, 0.1),
        "method": plots.method(),
    }


@pytest.fixture(scope="module")
def figures() -> dict:
    return make_all()


def test_every_public_figure_is_tested(figures):
    assert set(figures) == set(plots.__all__) - {"Cloud", "cloud"}


def test_figures_fit_a_notebook_and_no_text_is_cut_off(figures):
    for name, figure in figures.items():
        assert figure.get_figwidth() <= 8.61, name
        assert figure.get_label(), name
        box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # of all that is drawn, in inches
        assert box.x0 >= 0 and box.y0 >= -0.01, (name, box)
        assert box.x1 <= figure.get_figwidth() + 0.01 and box.y1 <= figure.get_figheight() + 0.01, (name, box)
        assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6.5, name


def test_matplotlib_settings_are_restored():
    before = dict(mpl.rcParams)
    plots.training_curves({"full": log(20)})
    with pytest.raises(ValueError):
        plots.training_curves({})
    assert dict(mpl.rcParams) == before
    assert not Gcf.figs


def test_figures_ignore_the_callers_style():
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


def test_a_figure_displays_itself_once_at_high_resolution_with_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append((data, options)))
    figure = plots.sample_efficiency({"full": ([10, 20], [0.1, 0.2])})
    figure._ipython_display_()
    ((data, options),) = shown
    png = base64.b64decode(data["image/png"])
    pixels = int.from_bytes(png[16:20], "big")
    assert options["metadata"]["image/png"]["width"] * 2 == pytest.approx(pixels, abs=2)
    assert options["metadata"]["image/png"]["alt"] == figure.get_label()


def test_a_variant_has_the_same_colour_in_every_figure():
    def colour(figure, label):
        return next(line.get_color() for line in figure.axes[0].lines if line.get_label() == label)

    curve = ([10, 20], [0.1, 0.2])
    alone = plots.sample_efficiency({"full": curve})
    among = plots.sample_efficiency({"mine": curve, "encdiff": curve, "full": curve, "theirs": curve})
    assert colour(alone, "Full (DyGA + SD)") == colour(among, "Full (DyGA + SD)")
    assert len({line.get_color() for line in among.axes[0].lines}) == 4
