"""Figures of the anchors: points, colours, diamonds and ellipses."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from plot_examples import features, random_images, texts

from dyga import plots


def test_anchors_are_black_edged_diamonds_over_points_in_the_factors_colours():
    hues = np.linspace(0, 1, 30).reshape(10, 3)
    xy, values, anchors, name, _ = features(7)
    figure = plots.anchor_scatter({"encdiff, unit 3": features(0), "full": plots.Cloud(xy, values, anchors, name, hues)})
    without, with_anchors = figure.axes[:2]
    assert without.get_title() == "EncDiff\nunit 3: no anchors" and len(without.collections) == 1
    assert with_anchors.get_title() == "Full (DyGA + SD): 7 anchors"
    points, diamonds = with_anchors.collections
    assert np.allclose(diamonds.get_offsets(), anchors)
    assert np.allclose(diamonds.get_edgecolor(), [0, 0, 0, 1])
    points.update_scalarmappable()
    back = [int(np.abs(xy - place).sum(1).argmin()) for place in points.get_offsets()]
    assert sorted(back) == list(range(500))
    assert np.allclose(points.get_facecolors()[:, :3], hues[values[back]])
    assert "anchor" in texts(figure) and "Object hue" in texts(figure)


def test_a_cloud_has_the_principal_components_and_hues_in_their_colours():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2)) * [3, 1]
    space = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    values = np.arange(200) % 4
    cloud = plots.cloud(flat @ space, flat[:3] @ space, values, "wall_hue", np.eye(4, 3))
    assert np.allclose(cloud.xy[:3], cloud.anchors)
    assert cloud.xy[:, 0].std() == pytest.approx(flat[:, 0].std(), rel=0.02)
    assert cloud.colours.shape == (4, 3) and np.allclose(cloud.colours[2], [0, 0, 0.93])
    bare = plots.cloud(flat @ space, np.zeros((0, 5)))
    assert bare.anchors.shape == (0, 2) and not bare.values.any() and bare.colours is None


def test_anchor_samples_number_the_anchors_and_images():
    images = random_images(3)
    figure = plots.anchor_samples("full", features(7), images, [0, 3, 6])
    shown = [axes for axes in figure.findobj(Axes) if axes.images]
    assert [axes.get_title() for axes in shown] == ["0", "3", "6"]
    assert all(np.array_equal(axes.images[0].get_array(), image) for axes, image in zip(shown, images, strict=True))
    assert [t.get_text() for t in figure.findobj(Text) if t.get_text() in ("0", "3", "6") and t.get_zorder() == 5] == [
        "0",
        "3",
        "6",
    ]


def test_spread_anchors_are_far_from_each_other():
    ring = np.stack([np.cos(angle := np.arange(16) * np.pi / 8), np.sin(angle)], axis=1)
    ring = np.concatenate([ring, ring[:1]])  # the first is also the last
    cloud = plots.Cloud(np.zeros((5, 2)), np.zeros(5, int), ring)
    assert cloud.spread(4).tolist() == [0, 4, 8, 12]
    assert cloud.spread(40).tolist() == list(range(16))
    assert plots.Cloud(cloud.xy, cloud.values, ring[:1]).spread(9).tolist() == [0]


def test_anchor_stages_draw_an_ellipse_per_gaussian_along_its_longest_axis():
    rng = np.random.default_rng(0)
    covariances = np.array([[[4.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 9.0]]])
    figure = plots.anchor_stages({"initialise": (rng.normal(size=(50, 2)), np.zeros((2, 2)), covariances)})
    first, second = figure.axes[0].patches
    assert (first.width, first.height) == (8.0, 4.0) and first.angle % 180 == 0
    assert (second.width, second.height) == (12.0, 4.0) and second.angle % 180 == 90
    assert figure.axes[0].get_title() == "Initialise: 2"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.anchor_scatter({"a": plots.Cloud(np.ones((3, 4)), [1, 2, 3], [])}), r"xy \(3, 4\)"),
        (lambda: plots.anchor_scatter({"a": features(1, np.ones((4, 3)))}), "4 colours but values up to 9"),
        (lambda: plots.anchor_samples("a", features(2), random_images(1), [2]), r"1 images for anchors \[2\], the unit has 2"),
        (lambda: plots.anchor_stages({"x": (np.zeros((3, 3)), np.zeros((1, 2)), np.zeros((1, 2, 2)))}), r"'x' has xy \(3, 3\)"),
    ],
)
def test_bad_input_is_an_error(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
