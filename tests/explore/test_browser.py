"""The explorers in a real browser: widgets in JupyterLab, and the report's static explorers offline.

Screenshots are saved in runs/screenshots/ for visual inspection.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from conftest import ROOT
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = pytest.mark.browser
SCREENSHOTS = ROOT / "runs" / "screenshots"
TOKEN = "for-this-test-alone"


@pytest.fixture(scope="module")
def browser():
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def with_widgets() -> list[str]:
    return [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if "widgets" in path.read_text()]


@pytest.fixture(scope="module")
def lab(study, tmp_path_factory):
    """The URL of a JupyterLab with copies of the notebooks, whose parameters point to the smoke study."""
    folder = tmp_path_factory.mktemp("lab")
    for name in with_widgets():
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        parameters.source += f'\nprofile = "smoke"\nroot = "{study}"\ndata_dir = "{study / "data"}"\n'
        nbformat.write(notebook, folder / f"{name}.ipynb")
    runtime = tmp_path_factory.mktemp("runtime")
    options = [f"--notebook-dir={folder}", "--no-browser", "--port=0", f"--IdentityProvider.token={TOKEN}", "--allow-root"]
    settings = {"JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(runtime), "JUPYTERLAB_SETTINGS_DIR": str(runtime)}
    output = (runtime / "output.txt").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], stdout=output, stderr=output, env=os.environ | settings, cwd=folder
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := list(runtime.glob("jpserver-*.json"))):
            assert time.monotonic() < deadline and server.poll() is None, (runtime / "output.txt").read_text()
            time.sleep(0.2)
        yield json.loads(found[0].read_text())["url"]
    finally:
        server.terminate()
        server.wait()


def run_all(browser, lab: str, name: str) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    page.goto(f"{lab}lab/tree/{name}.ipynb?token={TOKEN}&reset")
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
    # Without a kernel "Run All Cells" silently does nothing.
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    # All cells are done when none waits for the kernel ([*]) and the last has a number. Cells out of view show no number.
    page.wait_for_function(
        """() => { const marks = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.innerText);
        return marks.length && /\\d/.test(marks.at(-1)) && !marks.some(m => m.includes('*')); }""",
        timeout=120_000,
    )
    return page


def source_of(image) -> str:
    return image.get_attribute("src")


def changes(page: Page, image, before: str) -> None:
    expect(image).not_to_have_attribute("src", before, timeout=15_000)
    assert source_of(image)
    page.wait_for_timeout(300)


@pytest.mark.parametrize("name", with_widgets())
def test_explorers_in_jupyterlab(browser, lab, name):
    page = run_all(browser, lab, name)
    failed = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']", has_text=re.compile("Error"))
    assert failed.count() == 0
    explorers = page.locator(".jp-OutputArea-output .widget-vbox.dyga-explorer")
    expect(explorers).to_have_count(3)
    traversal, interchange, anchors = (explorers.nth(i) for i in range(3))

    result_view, strip = traversal.locator("img.widget-image").nth(1), traversal.locator("img.widget-image").nth(2)
    handle = traversal.locator(".noUi-handle").first
    before, range_before = source_of(result_view), source_of(strip)
    handle.focus()
    for _ in range(10):
        page.keyboard.press("PageUp" if int(float(handle.get_attribute("aria-valuenow"))) < 100 else "PageDown")
    changes(page, result_view, before)
    assert source_of(strip) == range_before  # a unit's full range does not depend on its slider
    second = traversal.locator(".noUi-handle").nth(1)
    second.focus()
    page.keyboard.press("PageUp" if int(float(second.get_attribute("aria-valuenow"))) < 100 else "PageDown")
    changes(page, strip, range_before)
    traversal.screenshot(path=SCREENSHOTS / "traversal.png")
    moved = source_of(result_view)
    traversal.get_by_role("button", name="reset").click()
    changes(page, result_view, moved)

    result = interchange.locator("img.widget-image").nth(2)
    before = source_of(result)
    interchange.get_by_role("checkbox").first.check()
    changes(page, result, before)
    interchange.screenshot(path=SCREENSHOTS / "interchange.png")

    cloud = anchors.locator("img.widget-image").first
    before = source_of(cloud)
    anchors.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    changes(page, cloud, before)
    anchors.screenshot(path=SCREENSHOTS / "anchors.png")

    static = page.locator(".static-traversals")
    before = drawn(static)
    static.locator("input[data-unit]").first.press("End")
    assert drawn(static) != before
    page.close()


def drawn(figure, name: str = "image") -> str:
    """The content of a canvas as a data URL."""
    return figure.locator(f"canvas[data-name={name}]").evaluate("c => c.toDataURL()")


def test_the_report_s_static_explorers_work_offline(browser, study, tmp_path):
    file = shutil.copy(study / "runs" / "rooms3d-smoke" / "report.html", tmp_path)
    context = browser.new_context(viewport={"width": 1000, "height": 900}, offline=True)
    page = context.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(f"file://{file}")
    static = page.locator(".static-traversals")
    unit, other = (static.locator("input[data-unit]").nth(i) for i in range(2))
    chooser = static.locator("input[data-image]")
    start, position = drawn(static), unit.input_value()
    unit.press("Home" if int(position) > 5 else "End")
    moved = drawn(static)
    assert moved != start
    other.press("Home" if int(other.input_value()) > 5 else "End")
    assert unit.input_value() == position and drawn(static) != moved  # one unit at a time
    static.screenshot(path=SCREENSHOTS / "report_sliders.png")
    chooser.press("ArrowRight")
    another = drawn(static)
    chooser.press("ArrowLeft")
    assert drawn(static) == start != another

    interchange = page.locator(".static-interchange")
    source, result = drawn(interchange, "source"), drawn(interchange, "result")
    interchange.locator("input[data-unit]").nth(0).check()
    interchange.locator("input[data-unit]").nth(2).check()
    both = drawn(interchange, "result")
    assert both != result and drawn(interchange, "source") == source
    interchange.locator("input[data-whole]").check()
    interchange.screenshot(path=SCREENSHOTS / "report_interchange.png")
    interchange.locator("input[data-image]").press("ArrowRight")
    assert drawn(interchange, "source") != source
    assert not errors and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_the_report_fits_a_phone_and_has_all_its_pictures(browser, study):
    file = study / "runs" / "rooms3d-smoke" / "report.html"
    assert file.stat().st_size < 15e6
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(file.as_uri())
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) >= 20 and all(loaded)
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1")
    page.screenshot(path=SCREENSHOTS / "report_phone.png")
    page.close()
