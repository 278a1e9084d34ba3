import base64
import io

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from dyga.study.layout import FOLDED, NARROW, arrange


def picture(seed: int, size: int = 96, text: str = "Curves") -> str:
    """A random coarse picture as an img element; the same seed gives the same picture at every size."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((size, size), Image.Resampling.NEAREST).save(buffer, "png")
    return f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"/>'


def table(rows: int, columns: int) -> str:
    head = "".join(f"<th>head {column}</th>" for column in range(columns))
    body = "".join("<tr>" + "".join(f"<td>{row} {column}</td>" for column in range(columns)) + "</tr>" for row in range(rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def arranged(section: str, shown: list | None = None) -> BeautifulSoup:
    return BeautifulSoup(arrange(section, "notebooks/04_metrics.html", [] if shown is None else shown), "html.parser")


def test_a_figure_gets_a_caption_that_links_to_its_code():
    page = arranged(f'<div id="cell-id=c05">{picture(0)}</div>')
    assert page.figure.figcaption.get_text() == "Curves. code"
    assert page.figure.a["href"] == "notebooks/04_metrics.html#cell-id=c05"


def test_a_picture_that_was_shown_is_not_shown_again_at_any_resolution():
    shown = []
    assert len(arranged(picture(0) + picture(1), shown).find_all("img")) == 2
    page = arranged(picture(0, size=288) + picture(2) + picture(1, text="Another figure"), shown)
    assert len(page.find_all("img")) == 2 and page.p.get_text() == "(This figure is shown above.)"


def test_equations_and_parts_of_explorers_are_left_alone():
    section = '<img alt="x^2" src="data:image/svg+xml;base64,AA=="/><img src="data:image/webp;base64,AA=="/>'
    assert arranged(section).figure is None


@pytest.mark.parametrize(("rows", "folded"), [(FOLDED, False), (FOLDED + 1, True)])
def test_a_long_table_is_folded_and_its_summary_says_what_it_holds(rows, folded):
    page = arranged(table(rows, 5))
    assert (page.details is not None) == folded
    if folded:
        assert page.summary.get_text() == f"Table of {FOLDED + 1} rows: head 0, head 1, head 2, head 3, ..."
        assert page.details.table


def test_a_table_without_rows_stays_as_it_is():
    assert str(arranged("<table></table>").table) == "<table></table>"


def test_long_names_at_the_head_of_a_table_can_wrap():
    page = arranged("<table><tr><th>horizontal_axis_x</th><th>mean</th></tr><tr><td>1</td><td>2</td></tr></table>")
    assert str(page.th) == "<th>horizontal_<wbr/>axis_<wbr/>x</th>" and page.th.get_text() == "horizontal_axis_x"


@pytest.mark.parametrize(("columns", "listed"), [(NARROW, False), (NARROW + 1, True)])
def test_a_wide_table_is_a_list_on_a_telephone(columns, listed):
    page = arranged(table(2, columns))
    assert ("listed" in page.table.get("class", [])) == listed
    assert [cell.get("data-head") for cell in page.find_all("td")[:2]] == (["head 0", "head 1"] if listed else [None, None])


def test_text_stays_as_it_is():
    assert arrange("<p>a &lt; b</p>", "x.html", []) == "<p>a &lt; b</p>"
