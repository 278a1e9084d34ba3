"""Planned runs: made and measured once, by one process."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import dyga

from dyga import load_run
from dyga.config import make_config
from dyga.provenance import locked
from dyga.study import answers, plan_runs
from dyga.study.plan import TABLE, Part, Question, forecast, read_plan, run_folder
from dyga.study.workers import run_workers

PART = Part("small", "smoke", ("rooms3d",), (0,), ("encdiff", "full"), (Question("both", "full", "encdiff", "DCI"),))
SMALL = replace(read_plan(), parts=(replace(PART, ordered={"rooms3d": ["scale"]}),), seconds={"smoke": 60})


def worker(folder, config) -> subprocess.CompletedProcess:
    which = [config.dataset, config.profile, config.variant, str(config.seed), "", str(folder)]
    return subprocess.run([sys.executable, "-m", "dyga.study.plan_worker", *which], capture_output=True, text=True)


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path):
    folder = run_folder(PART.configs()[0], tmp_path)
    with locked(folder, name=".plan.lock"):
        done = worker(folder, PART.configs()[0])
    assert done.returncode == 0 and "is in use by another run" in done.stdout, done.stderr
    assert [path.name for path in folder.iterdir()] == [".plan.lock"]


def test_a_measured_run_is_not_made_again(tmp_path):
    folder = run_folder(PART.configs()[0], tmp_path)
    folder.mkdir(parents=True)
    (folder / "measures.json").write_text("{}")
    assert worker(folder, PART.configs()[0]).returncode == 0
    assert not (folder / "config.json").exists()


def test_the_hours_are_those_of_runs_that_are_done_here(tmp_path):
    assert forecast(SMALL, tmp_path, 2).endswith(
        "0.0 hours of one core, about 0.0 with 2 at a time here (a run: smoke 60 s, as the plan says)"
    )
    folder = run_folder(PART.configs()[0], tmp_path)
    folder.mkdir(parents=True)
    (folder / "measures.json").write_text(json.dumps({"seconds": 7_200}))
    said = forecast(SMALL, tmp_path, 2)
    assert "2 runs, 1 of them done" in said and "2.0 hours of one core, about 1.0 with 2" in said and "measured here" in said


def test_the_check_says_how_many_runs_and_hours_and_writes_nothing(tmp_path):
    done = dyga("reproduce", "--variants", "plan", "--check", "--out", str(tmp_path / "new"))
    assert done.returncode == 0 and "the plan: 174 runs, 0 of them done in" in done.stdout and "hours of one core" in done.stdout
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def made(study, tmp_path_factory):
    """The smoke study's runs, measured as the small plan says; nothing is trained."""
    root = tmp_path_factory.mktemp("planned")
    runs = root / "runs" / "rooms3d-smoke"
    for name in ("encdiff-seed0", "full-seed0", "first_stage", "factor_classifier"):
        shutil.copytree(study / "runs" / "rooms3d-smoke" / name, runs / name)
    shutil.copy(study / "runs" / "rooms3d-smoke" / "study.json", runs)

    def first_as_a_process(commands):
        run_workers(commands[:1])
        for *_, world, profile, variant, seed, data_dir, place in commands[1:]:
            plan_runs.make_run(make_config(profile, world, variant, int(seed)), Path(place), Path(data_dir))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_runs, "run_workers", first_as_a_process)
        patch.setattr(plan_runs, "read_plan", lambda: SMALL)
        patch.setattr(answers, "read_plan", lambda: SMALL)
        folder = plan_runs.make_planned(root, study / "data")
    return root, study / "data", folder


def test_finished_runs_of_an_ordinary_study_are_measured_and_answer(made):
    root, data_dir, folder = made
    runs = answers.read_runs(folder / answers.CSV)
    run = load_run(root / "runs" / "rooms3d-smoke" / "full-seed0", data_dir)
    own = runs[runs["variant"] == "full"].set_index("measure")["value"]
    assert own["DCI"] == pytest.approx(run.metrics["dci_disentanglement"], rel=1e-4)
    unit = int(run.active.argmax())
    assert own[f"nmi: shape, unit {unit}"] == pytest.approx(run.metrics["nmi"][unit][4], rel=1e-4)
    wanted = {
        "k-NN purity",
        f"purity: unit {unit}",
        "lead: scale",
        "decoded accuracy: shape",
        "PSNR",
        "R2, linear",
        "active units",
    }
    assert wanted <= set(own.index) and set(runs["steps"]) == {40} and set(runs["commit"]) == {"unknown"}
    assert 0 < own["PSNR"] < 40 and not runs["value"].isna().any()
    assert "**2 of 2 planned runs are done.**" in (folder / "README.md").read_text()


def test_scores_on_other_images_use_the_axes_of_the_runs_own(made):
    """On the run's own images they are the run's own scores."""
    root, data_dir, _ = made
    run = load_run(root / "runs" / "rooms3d-smoke" / "full-seed0", data_dir)
    found = plan_runs._scores_on(run, "rooms3d")
    assert found["dci_disentanglement"] == pytest.approx(run.metrics["dci_disentanglement"], abs=0.02)
    assert found["factor_names"] == run.metrics["factor_names"] and found["active"] == run.metrics["active"]


def test_a_model_of_correlated_images_is_scored_on_independent_ones_too(made, monkeypatch):
    root, data_dir, _ = made
    run = load_run(root / "runs" / "rooms3d-smoke" / "full-seed0", data_dir)
    other = run.metrics | {"dci_disentanglement": 0.987}
    monkeypatch.setattr(plan_runs, "_scores_on", lambda _, world: other if world == "independent" else None)
    values = plan_runs.measure(run, replace(SMALL, worlds={"rooms3d": "independent"}))
    assert values["DCI"] == 0.987 and values["DCI, own images"] == run.metrics["dci_disentanglement"]


def test_a_run_in_the_table_is_done_wherever_it_was_made(made, tmp_path, monkeypatch):
    root, data_dir, folder = made
    (tmp_path / TABLE).parent.mkdir(parents=True)
    shutil.copy(folder / answers.CSV, tmp_path / TABLE)
    assert "2 runs, 2 of them done" in forecast(SMALL, tmp_path, 2)
    runs = answers.read_runs(folder / answers.CSV)
    runs[runs["variant"] == "full"].to_csv(tmp_path / TABLE, index=False)

    def interrupted(commands):
        assert [command[-4:-2] for command in commands] == [["encdiff", "0"]]
        shutil.copytree(root / "runs" / "rooms3d-smoke" / "encdiff-seed0", commands[0][-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(plan_runs, "run_workers", interrupted)
    monkeypatch.setattr(plan_runs, "read_plan", lambda: SMALL)
    with pytest.raises(KeyboardInterrupt):
        plan_runs.make_planned(tmp_path, data_dir)
    pd.testing.assert_frame_equal(answers.read_runs(tmp_path / TABLE), runs)
