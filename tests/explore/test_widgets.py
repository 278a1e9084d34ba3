"""Callbacks of the widgets, called as plain functions. test_browser.py tests the widgets in a browser."""

import datetime
import io

import numpy as np
import pytest
from PIL import Image

from dyga import load_run
from dyga.explore import widgets
from dyga.explore.widgets import SHOWN, AnchorExplorer, ImageChooser, InterchangeExplorer, TraversalExplorer, png, strip


@pytest.fixture
def explorer(run):
    return TraversalExplorer(run, run.data.images, first=5)


def uploaded(content: bytes, name: str = "mine.png") -> tuple[dict, ...]:
    when = datetime.datetime.now(tz=datetime.UTC)
    return ({"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": when},)


def image_file(shape=(90, 120, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal up to one grey level: the last bit of a matrix product depends on memory alignment."""
    return one.shape == other.shape and np.abs(one.astype(int) - other).max() <= 1


def test_png_and_strip_hold_the_pixels():
    images = np.random.default_rng(0).integers(0, 255, (3, 4, 4, 3), dtype=np.uint8)
    assert np.array_equal(opened(png(images[0], 8))[::2, ::2], images[0])
    whole = opened(strip(images, 4))
    assert whole.shape == (4, 3 * 6 - 2, 3)
    assert np.array_equal(whole[:, 6:10], images[1]) and (whole[:, 4:6] == 255).all()


class TestTraversal:
    def test_the_first_result_is_the_run_s_own_reconstruction(self, run, explorer):
        expected = run.decode(run.encode(run.data.images[np.array([5])]))[0]
        assert same(opened(explorer.result.value)[::4, ::4], expected)

    def test_a_slider_changes_the_image_and_reset_restores_it(self, explorer):
        slider = explorer.rows[0].slider
        before, own = explorer.result.value, slider.value
        slider.value = 0 if own > 100 else 200
        assert explorer.result.value != before
        explorer.reset.click()
        assert explorer.result.value == before and slider.value == own

    def test_the_strip_shows_the_unit_moved_last_and_keeps_the_other_units(self, run, explorer):
        first, second = explorer.rows[:2]
        at_start = explorer.strip.value
        first.slider.value = 0 if first.slider.value > 100 else 200
        assert explorer.strip.value == at_start  # the full range of this unit does not depend on its slider
        second.slider.value = 0 if second.slider.value > 100 else 200
        assert str(second.unit) in explorer.caption.value
        features = run.encode(run.data.images[np.array([5])]).repeat(8, axis=0)
        features[:, first.unit.index] = run.traversal_grid[first.slider.value, first.unit.index]
        features[:, second.unit.index] = run.traversal_grid[np.linspace(0, 200, 8).round().astype(int), second.unit.index]
        assert same(opened(explorer.strip.value), opened(strip(run.decode(features))))

    def test_the_play_button_moves_the_unit_moved_last(self, explorer):
        row = explorer.rows[1]
        row.slider.value = 0 if row.slider.value > 100 else 200
        shown = explorer.result.value
        explorer.play.value = 100
        assert row.slider.value == 100 and explorer.result.value != shown and str(row.unit) in explorer.caption.value

    def test_playing_starts_where_the_slider_is_and_ends_with_a_reset(self, explorer):
        first, second = explorer.rows[:2]
        first.slider.value = 150
        assert explorer.play.value == 150
        explorer.play.playing = True
        explorer.play.value = 155
        second.slider.value = 7
        assert explorer.play.value == 7 and first.slider.value == 155
        explorer.reset.click()
        assert not explorer.play.playing and explorer.play.value == explorer._own[first]

    @pytest.mark.parametrize(("error", "message"), [
        (25, ""),
        (26, "The model reconstructs this image poorly (mean difference 26 of 255)."),
    ])  # fmt: skip
    def test_a_message_appears_for_an_image_that_the_model_reconstructs_poorly(self, explorer, monkeypatch, error, message):
        explorer.chooser.image = np.full((64, 64, 3), 100, np.uint8)
        monkeypatch.setattr(explorer._run, "decode", lambda features: np.full((len(features), 64, 64, 3), 100 - error, np.uint8))
        explorer.start()
        assert explorer.message.value == message

    def test_snapped_sliders_are_at_anchors(self, explorer):
        row = next(row for row in explorer.rows if row.anchors)
        row.slider.value = 0 if row.slider.value > 100 else 200
        explorer.snap.value = True
        for value in (row.slider.value, 100, 0, 200):
            row.slider.value = value
            assert row.slider.value == min(row.anchors, key=lambda anchor: abs(anchor - value))

    def test_a_new_image_is_shown_as_it_is_though_sliders_snap(self, run, explorer):
        explorer.snap.value = True
        explorer.chooser.number.value = 77_000
        own = run.grid_indices(run.encode(run.data.images[np.array([77_000])])[0])
        assert [row.slider.value for row in explorer.rows] == [own[row.unit.index] for row in explorer.rows]

    def test_a_run_without_anchors_cannot_snap(self, study):
        encdiff = load_run(study / "runs" / "rooms3d-smoke" / "encdiff-seed0")
        explorer = TraversalExplorer(encdiff, encdiff.data.images)
        assert explorer.snap.disabled and not explorer.rows[0].anchors

    def test_all_units_are_shown_on_demand(self, run, monkeypatch):
        assert len(run.active_units) <= SHOWN and TraversalExplorer(run, run.data.images).all.disabled
        monkeypatch.setattr(widgets, "SHOWN", 2)
        explorer = TraversalExplorer(run, run.data.images)
        for shown in (False, True, False):
            explorer.all.value = shown
            assert [row.unit for row in explorer._sliders.children] == run.active_units[: None if shown else 2]
        assert not explorer.all.disabled

    def test_each_slider_is_named_after_its_factor_with_the_score(self, run, explorer):
        labels = [row.children[0].children[0].value for row in explorer.rows]
        assert labels == [str(unit) for unit in run.active_units]
        unit = run.active_units[0]
        assert labels[0].startswith(f"{unit.factors[0].replace('_', ' ')} {f'{unit.scores[0]:.2f}'.removeprefix('0')}")
        assert labels[0].endswith(f"(unit {unit.index})")

    def test_decoded_images_are_cached(self, run, explorer, monkeypatch):
        slider = explorer.rows[0].slider
        own = slider.value
        slider.value = 0 if own > 100 else 200
        monkeypatch.setattr(run.model, "sample", None)  # would fail if it were called
        slider.value = own
        slider.value = 0 if own > 100 else 200


class TestImageChooser:
    def test_random_images_are_reproducible_by_seed(self, run):
        chooser = ImageChooser(run.data.images, 0, "image")
        chooser.seed.value = 7
        chooser.random.click()
        first, after = chooser.number.value, chooser.seed.value
        chooser.random.click()
        assert after == 8 and chooser.number.value != first
        chooser.seed.value = 7
        chooser.random.click()
        assert chooser.number.value == first

    def test_an_uploaded_image_is_resized_and_traversed(self, explorer):
        before = explorer.result.value
        explorer.chooser.upload.value = uploaded(image_file())
        assert explorer.chooser.image.shape == (64, 64, 3) and explorer.chooser.message.value == "mine.png"
        assert explorer.result.value != before
        explorer.chooser.number.value = 6
        assert explorer.chooser.message.value == ""

    def test_a_file_that_is_not_an_image_is_named_and_the_image_stays(self, explorer):
        before = explorer.result.value
        explorer.chooser.upload.value = uploaded(b"no picture", "notes.txt")
        assert explorer.chooser.message.value.startswith("notes.txt cannot be read as an image")
        assert explorer.result.value == before

    def test_a_file_that_is_too_large_is_named_and_the_image_stays(self, explorer, monkeypatch):
        before = explorer.result.value
        monkeypatch.setattr(widgets, "UPLOAD_LIMIT", 2_000_000)
        explorer.chooser.upload.value = uploaded(bytes(3_000_000), "large.png")
        assert explorer.chooser.message.value == "large.png has 3 MB: valid is at most 2 MB"
        assert explorer.result.value == before

    def test_an_uploaded_image_that_is_reconstructed_poorly_was_not_trained_on(self, explorer, monkeypatch):
        monkeypatch.setattr(explorer._run, "decode", lambda features: np.zeros((len(features), 64, 64, 3), np.uint8))
        explorer.chooser.upload.value = uploaded(image_file())
        assert explorer.message.value.endswith(": it was trained on other images.")


class TestInterchange:
    def test_nothing_ticked_is_the_source_and_everything_all_units_of_the_target(self, run):
        explorer = InterchangeExplorer(run, run.data.images, first=(5, 300_000))
        images = run.data.images[np.array([5, 300_000])]
        source = run.decode(run.encode(images[:1]))[0]
        assert same(opened(explorer.views["result"].value)[::3, ::3], source)
        for tick in explorer.ticks:
            tick.value = True
        units = [unit.index for unit in explorer.units]
        assert same(opened(explorer.views["result"].value)[::3, ::3], run.swap(*images, units))

    def test_random_sources_and_targets_differ(self, run):
        explorer = InterchangeExplorer(run, run.data.images)
        for chooser in (explorer.source, explorer.target):
            chooser.random.click()
        assert explorer.source.number.value != explorer.target.number.value

    def test_a_tick_takes_its_unit_or_all_units_of_the_factor(self, run):
        explorer = InterchangeExplorer(run, run.data.images, first=(5, 300_000))
        explorer.ticks[0].value = True
        unit = explorer.units[0]
        assert explorer.chosen() == (unit.index,)
        images = run.data.images[np.array([5, 300_000])]
        assert same(opened(explorer.views["result"].value)[::3, ::3], run.swap(images[0], images[1], [unit.index]))
        explorer.whole.value = True
        assert set(explorer.chosen()) == {u.index for u in run.active_units if u == unit or u.factors[0] in unit.factors}


class TestAnchors:
    def test_images_are_decoded_at_the_chosen_anchor(self, run):
        images = run.data.images[np.array([5, 300_000])]
        explorer = AnchorExplorer(run, images, run.encode(run.data.images[np.arange(50)]), run.data.factors[:50])
        first, drawn = explorer.decoded.value, explorer.scatter.value
        assert explorer.anchor.max == len(run.anchors_along(explorer.units[0].index)[0]) - 1
        explorer.anchor.value = explorer.anchor.max
        assert explorer.scatter.value != drawn and explorer.decoded.value != first
        _, means = run.anchors_along(explorer.units[0].index)
        features = run.encode(images)
        features[:, explorer.units[0].index] = means[-1]
        assert same(opened(explorer.decoded.value), opened(strip(run.decode(features))))
        explorer.unit.value = 1
        assert explorer.anchor.value == 0

    def test_a_run_without_anchors_is_refused(self, study):
        encdiff = load_run(study / "runs" / "rooms3d-smoke" / "encdiff-seed0")
        with pytest.raises(ValueError, match="encdiff-seed0 has no anchors"):
            AnchorExplorer(encdiff, encdiff.data.images[:2], np.zeros((4, 8, 32)))
