"""Figures of images: their layout and their overlays."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from plot_examples import NAMES, random_images

from dyga import plots


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_data_grid_shows_every_image_at_its_position(lengths):
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
    figure = plots.interchange(random_images(3), random_images(3, seed=1), [(n, random_images(3, seed=2)) for n in NAMES])
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[:4] == ["Source\nimage", "Target\nimage", "Floor\nhue", "Wall\nhue"]
    centres = figure.axes[0].get_yticks()
    gaps = np.diff(centres)
    assert gaps[1] > gaps[0] and np.allclose(np.delete(gaps, 1), gaps[0])  # set apart below the target


def test_attention_is_scaled_to_each_maps_range_and_at_the_right_position():
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


@pytest.mark.parametrize(("rows", "columns", "length", "slant"), [(2, 6, 10, 0), (2, 12, 20, 40), (3, 5, 22, 40)])
def test_names_above_many_columns_are_slanted_and_inside_the_figure(rows, columns, length, slant):
    names = ["shape + size (10 bins)"[:length]] * (columns - 1) + ["x"]
    figure = plots.attention_maps(random_images(rows), np.ones((rows, columns, 4, 4)), names)
    labels = figure.axes[0].get_xticklabels()
    assert {text.get_rotation() for text in labels} == {slant}
    boxes = [text.get_window_extent() for text in labels]
    assert max(box.y1 for box in boxes) <= figure.bbox.y1 + 1 and min(box.x0 for box in boxes) >= 0
    assert slant or all(first.x1 <= second.x0 for first, second in pairwise(boxes))


def test_a_unit_card_shows_its_images_and_where_they_change():
    change = np.zeros((64, 64))
    change[10, 20] = 37.4
    pictures = (random_images(4), random_images(4, seed=1), random_images(7, seed=2))
    cards = [(f"unit {u}", *pictures, change, "similar: none") for u in (3, 5)]
    figure = plots.unit_cards(cards)
    titles = [axes.get_title(loc="left") for axes in figure.axes[::2]]
    assert len(figure.axes) == 4 and titles == ["unit 3; similar: none", "unit 5; similar: none"]
    canvas = figure.axes[0].images[0].get_array()
    assert (canvas[:64, :64, :3] == pictures[2][0]).all() and (canvas[66:130, :64, :3] == pictures[0][0]).all()
    assert (canvas[66:130, -64:, :3] == pictures[1][3]).all()
    heat = figure.axes[1]
    assert np.array_equal(heat.images[0].get_array(), change) and heat.get_xlabel() == "change, up to 37"
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text()]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1 + 1 and min(box.x0 for box in boxes) >= 0


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.data_grid([random_images(2)], ["a", "b"]), "1 rows of images but 2 labels"),
        (lambda: plots.data_grid([], []), "0 rows of images"),
        (lambda: plots.data_grid([random_images(2) / 255], ["a"]), "row 'a' is float64"),
        (lambda: plots.traversal([random_images(2), random_images(2)[:, :32]], ["a", "b"]), r"row 'b'.*\(2, 32, 64, 3\)"),
        (lambda: plots.attention_maps(random_images(2), np.ones((2, 3, 4, 4)), ["a"]), "m=1 labels"),
        (lambda: plots.unit_cards([]), "at least one card"),
    ],
)
def test_bad_input_is_an_error(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
