"""Charts show the values they are given."""

import numpy as np
import pytest
from plot_examples import texts

from dyga import plots


def test_the_running_mean_smooths_without_shifting():
    records = [{"step": s, "loss": 2.0 + (s % 2)} for s in range(500)]
    raw, smooth = plots.training_curves({"mine": records}).axes[0].lines
    assert np.ptp(raw.get_ydata()) == 1
    assert np.abs(smooth.get_ydata() - 2.5).max() < 0.1
    ramp = [{"step": s, "loss": 1.0 + s} for s in range(500)]
    line = plots.training_curves({"mine": ramp}).axes[0].lines[1].get_ydata()
    assert np.allclose(line[50:-50], np.arange(51, 451))


def test_losses_below_zero_have_a_linear_axis():
    records = [{"step": step, "loss": 1.0 - step / 10} for step in range(1, 21)]
    (axes,) = plots.training_curves({"encdiff": records}).axes
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] <= -1


def test_a_heat_map_prints_each_value_in_the_row_of_its_unit():
    values = np.array([[0.0, 0.7], [0.91, 0.004], [0.02, 0.0]])
    axes = plots.heat_map({"full": values}, ["scale", "shape"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1", "0", "2"]
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (0, 0): ".91",
        (1, 1): ".70",
        (0, 2): ".02",
    }


@pytest.mark.parametrize(("factors", "columns"), [(6, 3), (12, 3), (18, 2), (40, 1)])
def test_a_heat_map_of_many_factors_has_room_for_its_numbers(factors, columns):
    panels = {f"model {i}": np.full((4, factors), 0.5) for i in range(3)}
    figure = plots.heat_map(panels, [f"factor {i}" for i in range(factors)])
    figure.canvas.draw()
    axes = figure.axes[0]
    assert axes.get_subplotspec().get_gridspec().ncols == columns
    cell = axes.get_window_extent().width / factors
    assert max(text.get_window_extent().width for text in axes.texts) < cell


def test_the_ablation_has_a_panel_per_metric_and_an_interval_from_two_seeds_on():
    rows = {"encdiff": {"MIG": [0.2, 0.4, 0.6]}, "full": {"MIG": [0.5], "DCI": [0.8, float("nan")]}}
    figure = plots.ablation(rows)
    mig, dci = figure.axes
    assert [a.get_title() for a in (mig, dci)] == ["MIG", "DCI"]
    assert [t.get_text() for t in mig.get_yticklabels()] == ["EncDiff", "Full (DyGA + SD)"]
    assert np.allclose(mig.lines[0].get_xdata(), [0.2, 0.6]) and len(mig.lines) == 2
    assert [t.get_text() for t in mig.texts] == ["0.400 ± 0.200", "0.500"]
    assert [t.get_text() for t in dci.texts] == ["0.800"] and not dci.lines


def test_differences_are_filled_if_the_interval_excludes_zero():
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
    assert "chance" in texts(figure)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.training_curves({}), "nothing to draw"),
        (lambda: plots.training_curves({"a": [{"step": 1}]}), "log 'a' needs records with 'step' and 'loss'"),
        (lambda: plots.anchors_over_training({"a": ([1, 2], np.ones((3, 4)))}), r"'a' has counts \(3, 4\)"),
        (lambda: plots.heat_map({"a": np.ones((3, 4))}, ["x"]), r"need \(units, 1\)"),
        (lambda: plots.sample_efficiency({"a": ([1, 2, 3], [0.1])}), "1 accuracies for 3 sizes"),
        (lambda: plots.metric_curves({"DCI": {"a": ([1, 2], [0.1])}}), "'a' has 1 values of DCI for 2 steps"),
        (lambda: plots.ablation({}), "nothing to draw"),
        (lambda: plots.differences({}), "nothing to draw"),
    ],
)
def test_bad_input_is_an_error(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
