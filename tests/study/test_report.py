"""Tables on disk, the published numbers, and pages that need nothing from outside."""

import base64
import io
import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from dyga.study import report


def png(grey: int) -> str:
    buffer = io.BytesIO()
    Image.new("L", (24, 24), grey).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


PNG, OTHER_PNG = png(40), png(200)
WIDGET = "application/vnd.jupyter.widget-view+json"
PROVENANCE = {
    "commit": "abc123",
    "packages": {"torch": "2.6", "numpy": "2.1"},
    "seconds": 61.25,
    "seeds": [0, 1],
}


def write_notebook(path, title="Data & more", extra=(), png=PNG):
    outputs = [
        new_output("stream", name="stderr", text="PROGRESS 100%"),
        new_output("stream", name="stdout", text="a < b"),
        new_output("display_data", data={"text/html": "<table><tr><td>cell</td></tr></table>"}),
        new_output("display_data", data={"image/png": png}, metadata={"image/png": {"width": 860, "alt": "a grid"}}),
        new_output("display_data", data={WIDGET: {"model_id": "x"}, "text/plain": "SLIDER"}),
        new_output("display_data", data={"application/javascript": "alert()"}),
        *extra,
    ]
    cells = [
        new_markdown_cell(f"# {title}\n\nProse with *stress*, [a paper](https://arxiv.org/abs/2410.23820)\n\n## Why"),
        new_code_cell("secret_call()", outputs=outputs, execution_count=1),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def page(tmp_path):
    notebooks = [
        write_notebook(tmp_path / "01_data.ipynb"),
        write_notebook(tmp_path / "02_b.ipynb", "Training", png=OTHER_PNG),
    ]
    path = tmp_path / "out" / "report.html"
    report.gather(notebooks, path, "Rooms <quick>", PROVENANCE)
    return path.read_text("utf-8")


def test_the_report_shows_prose_tables_and_figures_in_order(page):
    assert "<title>Rooms &lt;quick&gt;</title>" in page
    assert page.index("Data &amp; more") < page.index("Training")
    assert page.count("<td>cell</td>") == 2 and page.count("a &lt; b") == 2
    assert page.count(f"data:image/png;base64,{PNG}") == page.count(f"data:image/png;base64,{OTHER_PNG}") == 1
    assert page.count('alt="a grid"') == 2


def test_the_report_leaves_out_code_widgets_scripts_and_progress_bars(page):
    for unwanted in ("secret_call", "SLIDER", "widget", "alert()", "PROGRESS", "<script", "MathJax", "Out["):
        assert unwanted not in page, unwanted


def test_equations_become_pictures_and_cells_for_the_notebook_stay_out_of_the_report(tmp_path):
    prose = new_markdown_cell("# Idea\n\nA channel $c$ costs 5 dollars:\n\n$$\\tilde h = \\frac{m}{1-p}\\,h$$")
    try_it = new_markdown_cell("change the number", metadata={"tags": ["notebook-only"]})
    nbformat.write(new_notebook(cells=[prose, try_it]), tmp_path / "02_idea.ipynb")
    report.gather([tmp_path / "02_idea.ipynb"], tmp_path / "report.html", "R", {})
    report.notebook_html(tmp_path / "02_idea.ipynb", tmp_path / "02_idea.html")
    gathered, own = ((tmp_path / name).read_text("utf-8") for name in ("report.html", "02_idea.html"))
    for page in (gathered, own):
        assert page.count('src="data:image/svg+xml;base64,') == 2
        assert "$" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
        assert 'alt="\\tilde h = \\frac{m}{1-p}\\,h"' in page
    assert "change the number" not in gathered and "change the number" in own


@pytest.mark.parametrize(("outputs", "shown"), [([], False), (["stdout"], True), (["stderr"], False)])
def test_text_about_a_result_is_left_out_without_the_result(tmp_path, outputs, shown):
    text = new_markdown_cell("## What the table shows", metadata={"tags": ["with-result"]})
    made = new_code_cell("f()", outputs=[new_output("stream", name=name, text="words") for name in outputs])
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), text, made]), tmp_path / "08_a.ipynb")
    report.gather([tmp_path / "08_a.ipynb"], tmp_path / "report.html", "R", {})
    report.notebook_html(tmp_path / "08_a.ipynb", tmp_path / "08_a.html")
    assert ("What the table shows" in (tmp_path / "report.html").read_text("utf-8")) is shown
    assert "What the table shows" in (tmp_path / "08_a.html").read_text("utf-8")


def test_headings_sink_below_the_title_and_the_contents_lead_to_them(page):
    assert len(re.findall("<h1", page)) == 1
    links = re.findall(r'<li><a href="#([^"]+)">([^<]+)</a>', page)
    assert [name for _, name in links] == ["Data &amp; more", "Training"]
    ids = re.findall(r'<h[2-4] id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) == 4  # `Why` occurs in both notebooks
    assert {anchor for anchor, _ in links} <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_the_foot_says_where_it_comes_from(page):
    foot = page[page.index("<footer>") :]
    for text in ("abc123", "torch 2.6, numpy 2.1", "61.2", "0, 1"):
        assert text in foot, text


def test_a_single_notebook_shows_its_code_and_needs_nothing_from_outside(tmp_path):
    report.notebook_html(write_notebook(tmp_path / "01_data.ipynb"), tmp_path / "01_data.html")
    page = (tmp_path / "01_data.html").read_text("utf-8")
    assert "secret_call" in page and "<td>cell</td>" in page and ".highlight .k" in page
    assert not re.search(r'(src|href)="(?!data:|#|https://arxiv)', page)
    assert "<script" not in page and "PROGRESS" not in page


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="https://example.org/a.png">',
        '<script src="https://example.org/a.js"></script>',
        "<link rel=stylesheet href=//example.org/a.css>",
        "<style>@import 'https://example.org/a.css';</style>",
        "<div style=\"background: url('https://example.org/a.png')\"></div>",
        '<iframe width="3" src="a.html"></iframe>',
    ],
)
def test_what_a_browser_would_fetch_is_refused_and_nothing_written(tmp_path, markup):
    extra = [new_output("display_data", data={"text/html": markup})]
    notebook = write_notebook(tmp_path / "01_data.ipynb", extra=extra)
    with pytest.raises(ValueError, match=r"report\.html: the page would fetch .*a\."):
        report.gather([notebook], tmp_path / "report.html", "Title", {})
    assert [path.name for path in tmp_path.iterdir()] == ["01_data.ipynb"]


def test_pages_replace_the_old_one_whole(tmp_path):
    notebook = write_notebook(tmp_path / "01_data.ipynb")
    path = tmp_path / "report.html"
    path.write_text("old")
    report.gather([notebook], path, "T", {})
    first = path.read_bytes()
    report.gather([notebook], path, "T", {})
    assert path.read_bytes() == first != b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["01_data.ipynb", "report.html"]


def test_a_table_lands_as_csv_latex_and_html(tmp_path):
    frame = pd.DataFrame({"variant": ["a_b & c", "d"], "DCI %": [0.98765, np.nan]})
    folder = tmp_path / "tables"
    report.write_table(frame, folder / "table1.v2", "Scores <100 %", {"commit": "abc"})
    assert sorted(path.name for path in folder.iterdir()) == [f"table1.v2.{kind}" for kind in ("csv", "html", "json", "tex")]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "table1.v2.csv"), frame)
    latex, markup = ((folder / f"table1.v2.{kind}").read_text("utf-8") for kind in ("tex", "html"))
    assert latex.startswith('% {"commit": "abc", ') and r"\toprule" in latex and r"\bottomrule" in latex
    assert r"\caption{Scores <100 \%}" in latex and r"a\_b \& c & 0.988 \\" in latex and r"d & – \\" in latex
    assert "Scores &lt;100 %" in markup and "<td>a_b &amp; c</td>" in markup and "<td>0.988</td>" in markup
    assert "abc" in markup.splitlines()[0]
    assert json.loads((folder / "table1.v2.json").read_text()) == {"commit": "abc", "caption": "Scores <100 %"}


def test_published_numbers_are_the_papers():
    table = report.published("shapes3d").set_index("method")
    assert table.loc["EncDiff", ["FactorVAE score", "DCI"]].tolist() == ["0.999 ± 0.000", "0.969 ± 0.030"]
    assert table.loc["DyGA+SD (paper)", "DCI"].startswith("0.938 ± ") and len(table) == 10
    assert report.published("mpi3d_toy").set_index("method").loc["FDAE", ["FactorVAE score", "DCI"]].tolist() == ["–", "–"]
    celeba = report.published("celeba").set_index("method")
    assert celeba.loc["DyGA+SD (paper)", ["TAD", "FID"]].tolist() == ["0.954 ± 0.024", "13.0 ± 0.0"]


@pytest.mark.parametrize(
    ("dataset", "title", "metrics", "first"),
    [
        ("rooms3d", "Shapes3D", ["FactorVAE score", "DCI"], "0.840 ± 0.066"),
        ("shapes3d", "Shapes3D", ["FactorVAE score", "DCI"], "0.840 ± 0.066"),
        ("arm3d", "MPI3D toy", ["FactorVAE score", "DCI"], "0.152 ± 0.025"),
        ("faces2d", "CelebA", ["TAD", "FID"], "0.088 ± 0.043"),
        ("faces2d_correlated", "CelebA", ["TAD", "FID"], "0.088 ± 0.043"),
    ],
)
def test_a_world_is_shown_beside_the_data_set_that_it_resembles(dataset, title, metrics, first):
    published = report.published(dataset)
    assert published.attrs["title"] == title and list(published) == ["from", "method", *metrics]
    assert published["from"][0] == f"published, another experiment: {title}" and published[metrics[0]][0] == first
    assert not published.isna().any(axis=None)


def test_nothing_is_published_for_other_data_sets():
    assert report.published("dsprites").empty and report.published("folder:/x").empty


@pytest.mark.parametrize(
    "dataset, table", [("rooms3d", "table1"), ("arm3d", "table1"), ("faces2d", "table2"), ("celeba", "table2")]
)
def test_each_published_table_has_its_own_data_sets(dataset, table):
    assert report.published(dataset, table).equals(report.published(dataset))
    assert report.published(dataset, {"table1": "table2", "table2": "table1"}[table]).empty


def test_every_published_pair_is_a_mean_and_a_spread():
    published = json.loads((report.resources.files("dyga.study") / "published.json").read_text())
    for table in ("table1", "table2"):
        for methods in published[table]["datasets"].values():
            for values in methods.values():
                assert len(values) == 2 and all(pair is None or (len(pair) == 2 and min(pair) >= 0) for pair in values)


@pytest.mark.parametrize("values, text", [([0.9814], "0.981"), ([0.2, 0.4], "0.300 ± 0.141"), ([float("nan")], "–"), ([], "–")])
def test_mean_and_spread_as_text(values, text):
    assert report.mean_spread(values) == text
