"""Frames and HTML of the static explorers. test_browser.py tests their behaviour in a browser."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from dyga.explore import static
from dyga.explore.run import Unit


def sheet_and_data(page: str) -> tuple[np.ndarray, dict]:
    data = json.loads(re.search(r"data=(\{.*?\}),sheet", page).group(1))
    content = base64.b64decode(data["sheet"].removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int), data


def close(shown: np.ndarray, image: np.ndarray) -> bool:
    """Equal up to lossy compression."""
    return np.abs(shown - image.astype(int)).mean() < 8


def test_traversals_hold_every_unit_s_frames_and_start_at_the_image(run):
    images, units = run.data.images[np.array([5, 300_000])], run.active_units[:3]
    page = static.traversals(run, images, units, count=5).data
    sheet, data = sheet_and_data(page)
    assert sheet.shape == (2 * 3 * 64, 5 * 64, 3) and np.shape(data["start"]) == (2, 3)
    expected = run.traverse(images[1], units[2].index, count=5)
    shown = sheet[5 * 64 :].reshape(64, 5, 64, 3).transpose(1, 0, 2, 3)
    start = data["start"][1][2]
    expected[start] = run.decode(run.encode(images[1:]))[0]
    assert all(close(a, b) for a, b in zip(shown, expected, strict=True))
    assert page.count('type="range"') == 4 and "http" not in page


def test_interchange_holds_every_combination(run):
    images, units = run.data.images[np.array([5, 9, 300_000, 77_000])], run.active_units[:2]
    page = static.interchange(run, images[:2], images[2:], units).data
    sheet, data = sheet_and_data(page)
    assert sheet.shape == (2 * 2 * 64, (4 + 1) * 64, 3) and data["side"] == 64

    def at(row, column):
        return sheet[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]

    assert close(at(2, 4), images[1]) and close(at(3, 4), images[3])
    assert close(at(0, 2), run.swap(images[0], images[2], [units[1].index]))
    groups = sorted({index for unit in units for index in run.following(unit)})
    assert close(at(3, 3), run.swap(images[1], images[3], groups))
    assert page.count('type="checkbox"') == 3


def test_without_factors_there_is_no_choice_of_all_units_of_a_factor(run):
    images, units = run.data.images[np.array([5, 300_000])], [Unit(unit.index) for unit in run.active_units[:1]]
    page = static.interchange(run, images[:1], images[1:], units).data
    sheet, _ = sheet_and_data(page)
    assert page.count('type="checkbox"') == 1 and sheet.shape == (2 * 64, 3 * 64, 3)
    assert close(sheet[:64, 64:128], run.swap(images[0], images[1], units))


def test_too_many_units_or_unpaired_images_are_refused(run):
    images = run.data.images[:2]
    with pytest.raises(ValueError, match="8 units, 2 sources, 2 targets"):
        static.interchange(run, images, images, run.active_units[:1] * 8)
    with pytest.raises(ValueError, match="1 sources, 2 targets"):
        static.interchange(run, images[:1], images, run.active_units[:1])
    with pytest.raises(ValueError, match=r"1 x 256 frames of 64x64 pixels .* 16384x64: valid is at most 16383 a side"):
        static.traversals(run, images[:1], run.active_units[:1], count=256)
