import io

import numpy as np
import pytest
from PIL import Image

from dyga import load_run
from dyga.widgets import png, traversal_explorer


@pytest.fixture(scope="module")
def explorer(study):
    run = load_run(study / "runs" / "rooms3d-smoke" / "decorrelated-seed0")
    return traversal_explorer(run, run.data.images[np.array([5, 300_000])], [2, 4], ["hue", "scale"])


def test_png_round_trip():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image, scale=2))))[::2, ::2], image)


def test_a_slider_changes_the_picture_and_reset_restores_it(explorer):
    before, place = explorer.picture.value, explorer.sliders[0].value
    explorer.sliders[0].value = 0 if place > 100 else 200
    assert explorer.picture.value != before
    explorer.reset.click()
    assert explorer.picture.value == before and explorer.sliders[0].value == place


def test_another_picture_starts_at_its_own_units(explorer):
    first = explorer.picture.value
    explorer.image.value = 1
    assert explorer.picture.value != first
    assert [slider.description for slider in explorer.sliders] == ["hue", "scale"]
