"""The whole of it in the smoke profile: notebooks, figures, tables and the report, as a user makes them."""

import json
import re
import shutil
from dataclasses import replace

import nbformat
import pandas as pd
import pytest
from conftest import ROOT, dyga
from IPython.display import display
from PIL import Image
from sklearn.datasets import load_digits

from dyga.config import study_name
from dyga.study import answers
from dyga.study.plan import read_plan
from dyga.study.reproduce import notebook_paths
from dyga.study.study import Study

NAMES = [
    "01_data",
    "02_training",
    "03_anchoring",
    "04_metrics",
    "05_downstream_probes",
    "06_latent_traversal",
]
NAMES += ["07_report", "08_ablation"]
ALONE = "09_own_model"  # needs no study, so the default run leaves it out
FIGURES = [
    "data_grid",
    "data_samples",
    "method",
    "training_curves",
    "anchors_over_training",
    "reconstructions",
]
FIGURES += [
    "figure1_latent_units",
    "ablation_figure",
    "nmi",
    "dci_importance",
    "sample_efficiency",
    "traversals",
]
FIGURES += ["metric_curves", "figure2b_anchor_selection", "figure1_anchors", "figure3_interchange", "figure4_attention"]
FIGURES.append("unit_cards")
if answers.answered_parts(answers.read_runs(ROOT / "figures" / "reference" / answers.CSV), read_plan()):
    FIGURES.append("planned_differences")
TABLES = [
    "baselines",
    "sampling",
    "training",
    "anchoring",
    "alignment_audit",
    "scores",
    "ablation",
    "table1",
    "downstream",
    "summary",
    "interventions",
]


def code(notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda p: p.stem)
def test_notebooks_are_thin_and_stripped(path):
    """Short cells, so that what is long is in the package; no outputs; an opening, a closing, and one cell of parameters."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(code(notebook).splitlines()) <= 170
    assert max(len(cell.source.splitlines()) for cell in notebook.cells if cell.cell_type == "code") <= 50
    assert "**You will see**" in notebook.cells[0].source
    assert [cell.source.split("\n")[0] for cell in notebook.cells[-2:]] == ["## Take home", "## Try"]
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1


def test_the_notebooks_are_those_of_the_design():
    assert [path.stem for path in notebook_paths()] == [*NAMES, ALONE]
    with pytest.raises(ValueError, match="unknown notebook 10: valid are 01, 02, 03, 04, 05, 06, 07, 08, 09"):
        notebook_paths((10,))


def test_every_notebook_ran_without_an_error(study):
    for name in NAMES:
        executed = nbformat.read(study / "runs" / "rooms3d-smoke" / "notebooks" / f"{name}.ipynb", as_version=4)
        kinds = {output.output_type for cell in executed.cells for output in cell.get("outputs", [])}
        assert kinds and "error" not in kinds
        assert (study / "runs" / "rooms3d-smoke" / "notebooks" / f"{name}.html").exists()


def test_pictures_and_sliders_show_the_pruned_run(study):
    executed = nbformat.read(study / "runs" / "rooms3d-smoke" / "notebooks" / "06_latent_traversal.ipynb", as_version=4)
    printed = "".join(output.get("text", "") for cell in executed.cells for output in cell.get("outputs", []))
    assert "run pruned-seed0:" in printed


def test_figures_and_tables_say_where_they_come_from(study):
    folder = study / "figures" / "rooms3d-smoke"
    expected = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "json")}
    expected |= {f"{name}.{kind}" for name in TABLES for kind in ("csv", "tex", "html", "json")}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.glob("*.json"):
        origin = json.loads(path.read_text())
        assert origin["run"] == "rooms3d-smoke" and origin["seeds"] == "0"
        assert {"commit", "packages", "hardware", "training_seconds"} <= set(origin)


def test_all_is_under_out_and_the_checkout_stays_clean(study):
    assert {path.name for path in study.iterdir()} == {"runs", "figures", "data", "printed.txt"}
    runs = {path.name for path in (study / "runs" / "rooms3d-smoke").iterdir() if path.is_dir()}
    assert runs == {
        "first_stage",
        "factor_classifier",
        "notebooks",
        "baselines-seed0",
        "encdiff-seed0",
        "full-seed0",
        "pruned-seed0",
    }


def test_a_second_run_does_nothing_twice(study):
    watched = [path for path in study.rglob("*") if path.is_file() and path.suffix not in (".lock", "")]
    before = {path: path.stat().st_mtime_ns for path in watched}
    done = dyga("reproduce", "--profile", "smoke", "--out", str(study))
    assert done.returncode == 0 and done.stdout.count("up to date") == 8, done.stderr
    assert {path: path.stat().st_mtime_ns for path in watched} == before


def test_a_notebook_says_which_one_to_run_first(tmp_path):
    done = dyga("reproduce", "--profile", "smoke", "--notebooks", "4", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "Run notebook 02_training first" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    failed = nbformat.read(tmp_path / "runs/rooms3d-smoke/notebooks/04_metrics.failed.ipynb", as_version=4)
    (error,) = [output for cell in failed.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    (sentence,) = error.traceback
    assert sentence.startswith("rooms3d-smoke is not trained yet (") and sentence.endswith("Run notebook 02_training first.")


def run_cells(study: Study, *numbers: int) -> None:
    """Runs notebooks for a study in this process, without kernels."""
    for path in notebook_paths(numbers):
        names = {field: getattr(study, field) for field in Study.__dataclass_fields__} | {"display": display}
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
                exec(cell.source, names)


def test_the_explorers_show_the_model_of_the_project_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT / "notebooks")
    run_cells(Study(profile="smoke", root=str(tmp_path)), 6)
    printed = capsys.readouterr().out
    assert "Until then, this is the model that comes with the project." in printed and "run pruned-seed" in printed
    assert (tmp_path / "figures/rooms3d-pretrained/traversals.png").exists()
    assert not (tmp_path / "figures/rooms3d-smoke").exists()


def test_the_notebook_about_models_of_ones_own_needs_no_study(tmp_path):
    done = dyga("reproduce", "--profile", "smoke", "--notebooks", "09", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(tmp_path / f"runs/rooms3d-smoke/notebooks/{ALONE}.ipynb", as_version=4)
    printed = "".join(output.get("text", "") for cell in executed.cells for output in cell.get("outputs", []))
    assert "two passes in training mode differ: True" in printed and "after remove() they are equal: True" in printed
    own, other = re.search(r"own units ([\d.]+), with another image's ([\d.]+)", printed).groups()
    assert float(own) < 0.8 * float(other)


def test_unknown_names_in_a_notebooks_parameters():
    with pytest.raises(ValueError, match="unknown profile 'x'"):
        Study(profile="x")
    with pytest.raises(ValueError, match="unknown variant 'y'"):
        Study(variants="y")
    with pytest.raises(ValueError, match="seeds 'z'"):
        Study(seeds="z")


def test_a_study_of_other_variants_shows_and_names_its_own(study, tmp_path, monkeypatch):
    """The pictures are of EncDiff, which has no anchors, although another variant of the study has. With a second seed the
    variants are compared."""
    for name in ("runs", "figures", "data"):
        shutil.copytree(study / name, tmp_path / name)
    for path in (tmp_path / "figures").rglob("figure1_anchors.*"):
        path.unlink()
    for variant, seed in (("anchoring", "0"), ("encdiff", "1"), ("anchoring", "1")):
        folder = tmp_path / "runs" / "rooms3d-smoke" / f"{variant}-seed{seed}"
        which = ["--variant", variant, "--seed", seed, "--folder", str(folder)]
        assert dyga("train", "--profile", "smoke", *which).returncode == 0
    monkeypatch.chdir(ROOT / "notebooks")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    own = Study("rooms3d", "smoke", "encdiff,anchoring", "0", root=str(tmp_path), data_dir=str(tmp_path / "data"))
    run_cells(own, 6)
    assert not list((tmp_path / "figures").rglob("figure1_anchors.*"))
    run_cells(own, 7)
    assert any("factors, variant *EncDiff*)" in str(getattr(each, "data", "")) for each in shown)
    run_cells(replace(own, seeds="0,1"), 8)
    assert any("**Below: rooms3d-smoke, seeds 0, 1.**" in str(getattr(each, "data", "")) for each in shown)
    folder = tmp_path / "figures" / "rooms3d-smoke"
    assert (folder / "ablation_differences.png").exists()
    assert set(pd.read_csv(folder / "ablation_answers.csv")["does it help?"]) == {"anchoring"}
    assert len(pd.read_csv(folder / "ablation_runs.csv")) == 4 and len(pd.read_csv(folder / "ablation_summary.csv")) == 2


def test_own_images(tmp_path, monkeypatch, capsys):
    """A folder of real pictures, scanned digits, without factors: what needs factors says so, the rest runs. Three notebooks
    are executed as a user does, the others cell by cell in this process."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, image in enumerate(load_digits().images[:120]):
        Image.fromarray((image * 255 / 16).astype("uint8")).resize((80, 70)).save(pictures / f"{i:03d}.png")
    out, dataset = tmp_path / "out", f"folder:{pictures}"
    name = study_name("smoke", dataset)
    # Trained in this process, which has imported everything.
    options, runs = ["--profile", "smoke", "--dataset", dataset, "--data-dir", str(out / "data")], out / "runs" / name
    (out / "data").mkdir(parents=True)
    for what in (["first-stage"], ["train", "--seed", "0"], ["train", "--seed", "1"]):
        folder = runs / (f"pruned-seed{what[-1]}" if what[1:] else "first_stage")
        assert dyga(*what, *options, "--folder", str(folder)).returncode == 0
    command = ["reproduce", "--profile", "smoke", "--dataset", dataset, "--variants", "pruned", "--seeds", "0,1"]
    command += ["--notebooks", "04,06,07", "--out", str(out)]
    monkeypatch.chdir(ROOT / "notebooks")
    study = Study(dataset, "smoke", "pruned", "0,1", root=str(out), data_dir=str(out / "data"))
    run_cells(study, 2)
    done = dyga(*command)
    assert done.returncode == 0, done.stderr
    values = json.loads((out / f"runs/{name}/pruned-seed0/metrics.json").read_text())
    assert "no factors" in values["note"] and "mig" not in values
    figures = out / "figures" / name
    assert (figures / "traversals.png").exists() and (figures / "unit_cards.png").exists()
    assert (figures / "recurrence.csv").read_text().count("of 1") >= 2
    report = (out / f"runs/{name}/report.html").read_text()
    assert "has no factors" in report and "A card per unit" in report and "Unit cards: traversal" in report
    assert report.count("of the active units recur in every other seed (2 seeds") == 2  # the answer, and section 4
    run_cells(study, 1, 3, 5, 8)
    assert "has no factors" in capsys.readouterr().out
    Image.new("RGB", (80, 70)).save(pictures / "000.png")
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    done = dyga(*command)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and f"{name} was made of other data" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()} == before


def test_the_checkout_is_a_clean_one():
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "README.md" in listed
    made = [name for name in listed if name.startswith(("runs/", ".venv/")) or "__pycache__" in name]
    assert not made
