"""How work is spread: over GPUs, cores, or a SLURM array. What a study keeps, and whether that was made of its data."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from PIL import Image

from dyga.data import data_folder
from dyga.kept import claim
from dyga.study import report, workers
from dyga.study.reproduce import _fingerprint, _is_of, notebook_paths, reproduce
from dyga.study.study import Study


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH with one folder, which holds nothing yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_without_a_gpu_one_worker_a_core_with_one_thread(path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    slots = workers.worker_slots()
    assert len(slots) == 3 and slots[0]["OMP_NUM_THREADS"] == "1"
    for failure in (
        "echo no devices >&2; exit 9",
        "echo Failed to initialize NVML: Unknown Error; exit 255",
        "echo No devices were found",
    ):
        executable(path / "nvidia-smi", failure)
        assert workers.worker_slots() == slots


def test_one_worker_a_gpu(path, monkeypatch):
    executable(path / "nvidia-smi", "echo 0; echo 1")
    assert workers.worker_slots() == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert workers.worker_slots() == [{"CUDA_VISIBLE_DEVICES": "3"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # no GPU
    assert "CUDA_VISIBLE_DEVICES" not in workers.worker_slots()[0]


def test_workers_run_side_by_side_and_a_failed_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "worker_slots", lambda: [{"SLOT": "a"}, {"SLOT": "b"}])
    script = 'echo "$SLOT" > "$1/slot"; n=0; until [ -f "$2" ]; do sleep 0.1; n=$((n+1)); [ $n -lt 100 ] || exit 1; done'
    executable(tmp_path / "wait", script)

    def job(own: str, other: str) -> list[str]:
        return [str(tmp_path / "wait"), str(tmp_path / own), str(tmp_path / other / "slot"), str(tmp_path / own)]

    workers.run_workers([job("one", "two"), job("two", "one"), job("three", "one")])
    assert {(tmp_path / name / "slot").read_text().strip() for name in ("one", "two")} == {"a", "b"}
    executable(tmp_path / "fail", "echo first; echo out of luck; exit 3")
    with pytest.raises(RuntimeError, match=r"/four failed: out of luck \(see .*four/output.txt\)"):
        workers.run_workers([[str(tmp_path / "fail"), str(tmp_path / "four")]])
    executable(tmp_path / "killed", "kill -9 $$")
    with pytest.raises(RuntimeError, match=r"/five was killed by signal 9 \(9: often too little memory\)$"):
        workers.run_workers([[str(tmp_path / "killed"), str(tmp_path / "five")]])


def test_the_other_workers_run_after_one_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "worker_slots", lambda: [{}])
    executable(tmp_path / "run", 'case "$1" in */good/*) touch "$1/done";; */first/*) echo no luck; exit 1;; *) exit 1;; esac')
    folders = [tmp_path / name / "full-seed0" for name in ("first", "good", "second")]  # runs of several studies share a name
    commands = [[str(tmp_path / "run"), str(folder)] for folder in folders]
    with pytest.raises(RuntimeError) as failed:
        workers.run_workers(commands)
    where = folders[0] / "output.txt"
    assert str(failed.value) == f"first/full-seed0 failed: no luck (see {where}); also failed: second/full-seed0"
    assert (folders[1] / "done").exists()
    executable(tmp_path / "run", "exit 1")
    with pytest.raises(RuntimeError, match=r"^first/full-seed0 failed: no output"):  # not that of the last time
        workers.run_workers(commands[:1])


def test_the_variant_that_is_shown_is_the_best_one(tmp_path, monkeypatch):
    study = Study(variants="encdiff,full,decorrelated_without_skip_dropout", root=str(tmp_path))
    monkeypatch.setattr(
        Study, "finished", lambda own: {(config.variant, config.seed): own.folder(config) for config in own.configs()}
    )
    monkeypatch.setattr("dyga.explore.run.load_run", lambda folder, _: folder.name)
    assert study.shown()[1] == "decorrelated_without_skip_dropout-seed0"


def test_a_home_folder_can_be_abbreviated(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Study(root="~/out").runs == tmp_path / "out" / "runs" / "rooms3d-quick"
    assert data_folder("~/cache") == tmp_path / "cache"


def test_what_is_missing_names_the_notebook_to_run_first(tmp_path):
    """In a notebook the sentence stands alone, without a traceback."""
    study = Study(profile="smoke", root=str(tmp_path))
    for call, number in (
        (study.finished, "02"),
        (study.baselines, "02"),
        (lambda: study.saved_figure("traversals", "06_latent_traversal"), "06"),
        (lambda: study.saved_table("interventions", "06_latent_traversal"), "06"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"^rooms3d-smoke .*\. Run notebook {number}_\w+ first\.$") as caught:
            call()
        assert caught.value._render_traceback_() == [str(caught.value)]


@pytest.mark.parametrize(("task", "calls"), [
    ("0", ["first-stage --dataset cars3d --profile smoke",
           "train --dataset cars3d --profile smoke --variant encdiff --seed 0"]),
    ("20", ["train --dataset cars3d --profile smoke --variant pruned --seed 2"]),
])  # fmt: skip
def test_each_task_of_the_slurm_array_trains_its_own_run(tmp_path, task, calls):
    executable(tmp_path / ".venv" / "bin" / "dyga", f'echo "$@" >> {tmp_path}/calls')
    executable(tmp_path / ".venv" / "bin" / "python", f'cd {ROOT}; exec {sys.executable} "$@"')
    executable(tmp_path / "runs" / "cars3d-smoke" / "first_stage" / "model.safetensors", "")
    places = {"SLURM_ARRAY_TASK_ID": task, "SLURM_SUBMIT_DIR": str(tmp_path)}
    subprocess.run([str(ROOT / "dyga" / "study" / "slurm.sh"), "cars3d", "smoke"], env=os.environ | places, check=True)
    assert (tmp_path / "calls").read_text().splitlines() == calls


def test_the_slurm_array_finds_the_first_stage_of_own_pictures(tmp_path, pictures):
    executable(tmp_path / ".venv" / "bin" / "dyga", f'echo "$@" >> {tmp_path}/calls')
    executable(tmp_path / ".venv" / "bin" / "python", f'cd {ROOT}; exec {sys.executable} "$@"')
    study = Study(f"folder:{pictures}", "smoke", root=str(tmp_path))
    executable(study.runs / "first_stage" / "model.safetensors", "")
    places = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_SUBMIT_DIR": str(tmp_path)}
    script = [str(ROOT / "dyga" / "study" / "slurm.sh"), f"folder:{pictures}", "smoke"]
    subprocess.run(script, env=os.environ | places, check=True, timeout=60)
    assert (tmp_path / "calls").read_text().startswith("train --dataset folder:")


def test_the_slurm_array_ends_if_its_first_stage_fails(tmp_path):
    executable(tmp_path / ".venv" / "bin" / "dyga", f'echo "$@" >> {tmp_path}/calls; exit 1')
    executable(tmp_path / ".venv" / "bin" / "python", f'cd {ROOT}; exec {sys.executable} "$@"')
    for task, said in (("0", ""), ("1", "the first stage failed: see slurm-0.txt\n")):
        places = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_JOB_ID": "12", "SLURM_SUBMIT_DIR": str(tmp_path)}
        script = [str(ROOT / "dyga" / "study" / "slurm.sh"), "cars3d", "smoke"]
        done = subprocess.run(script, env=os.environ | places, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, said)
    assert (tmp_path / "calls").read_text() == "first-stage --dataset cars3d --profile smoke\n"


def test_the_slurm_script_outside_slurm_says_how_to_use_it(tmp_path):
    done = subprocess.run([str(ROOT / "dyga" / "study" / "slurm.sh")], capture_output=True, text=True)
    assert done.returncode and "usage: sbatch dyga/study/slurm.sh DATASET" in done.stderr


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def own(pictures, tmp_path):
    """A study of own pictures with all that it keeps, made of nothing, and a function that opens it anew."""

    def open_study(**options) -> Study:
        return Study(f"folder:{pictures}", "smoke", "encdiff", "0", str(tmp_path), str(tmp_path), **options)

    study = open_study()
    claim(study.runs / "study.json", study._made_of())
    for folder, made_of in study._kept().items():
        claim(folder / "config.json", made_of)
        for name in ("metrics.json", "model.safetensors"):
            (folder / name).write_text("{}")
    return open_study


def test_a_study_is_used_with_the_pictures_that_it_was_made_of(own, pictures):
    assert list(own().finished().values()) == [own().runs / "encdiff-seed0"]
    assert not own()._pending([["train", "--folder", str(folder)] for folder in own()._kept()])
    Image.new("RGB", (64, 64), "blue").save(pictures / "1.png")
    for use in (Study.check, Study.train, Study.finished, Study.baselines, reproduce):
        with pytest.raises(
            ValueError, match=r"folder-pictures-[0-9a-f]{6}-smoke was made of other data \(data was '.*, 3 images, "
        ):
            use(own())
    assert not (own().runs / "notebooks").exists() and not own().figures.exists()


@pytest.mark.parametrize("name", ["first_stage", "factor_classifier", "baselines-seed0", "encdiff-seed0"])
def test_what_came_into_a_study_from_another_is_refused(own, name):
    folder = own().runs / name
    made_of = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(made_of | {"data": "folder:/elsewhere, 3 images, digest 0123456789abcdef"}))
    with pytest.raises(ValueError, match=rf"{name} was made of other data \(data was 'folder:/elsewhere, 3 images"):
        own().finished()
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=rf"{name} holds metrics.json, but no config.json that says what it was made of"):
        own().train()


def test_other_settings_in_a_folder_of_the_same_name_are_refused(own):
    with pytest.raises(ValueError, match=r"was made of other settings \(settings was 'unknown', now 'steps=30'\)"):
        own(settings="steps=30", name=own().name).train()
    with pytest.raises(ValueError, match=r"was made of other settings \(profile was 'smoke', now 'quick'\)"):
        Study(own().dataset, "quick", "encdiff", "0", own().root, own().data_dir, "", own().name).train()


def test_runs_of_a_vq_first_stage_belong_to_it(pictures, tmp_path):
    study = Study(f"folder:{pictures}", "paper", "full", "0", str(tmp_path), str(tmp_path))
    run, shared = study.runs / "full-seed0", study.runs / "first_stage"
    claim(shared / "config.json", study._kept()[shared])
    (shared / "model.safetensors").write_bytes(b"one")
    claim(run / "config.json", study._kept()[run])
    study.check()
    (shared / "model.safetensors").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"full-seed0 was made of other settings \(first_stage_digest was '[0-9a-f]{16}', now '"):
        study.check()
    (run / "first_stage").mkdir()
    (run / "first_stage" / "model.safetensors").write_bytes(b"one")
    (shared / "model.safetensors").unlink()  # about to be trained again
    study.check()


def test_executed_notebooks_are_made_anew_for_other_data_and_results(own, pictures):
    source, settings = notebook_paths()[0], notebook_paths()[2]
    before = [_fingerprint(path, {}, own()) for path in (source, settings)]
    assert [_fingerprint(path, {}, own()) for path in (source, settings)] == before
    for name in ("baselines-seed0/metrics.json", "encdiff-seed0/metrics.json", "first_stage/provenance.json"):
        (own().runs / name).write_text(f'{{"of": "{name}"}}')
        assert _fingerprint(source, {}, own()) == before[0]
        changed = _fingerprint(settings, {}, own())
        assert changed != before[1]
        before[1] = changed
    Image.new("RGB", (64, 64), "blue").save(pictures / "1.png")
    assert _fingerprint(source, {}, own()) != before[0] and _fingerprint(settings, {}, own()) != before[1]


def test_a_notebook_with_other_parameters_and_a_kernel_that_dies(own, tmp_path, monkeypatch):
    def executed(*_, **__):
        raise RuntimeError("Kernel died")

    study = own()
    for folder in (study.runs / "notebooks", tmp_path / "changed"):
        folder.mkdir(parents=True)
    monkeypatch.setattr("papermill.execute_notebook", executed)
    with pytest.raises(RuntimeError, match=r"^01_data: Kernel died$"):
        reproduce(study, (1,))
    assert not list((study.runs / "notebooks").glob(".*"))
    changed = tmp_path / "changed" / "01_data.ipynb"
    changed.write_text(notebook_paths((1,))[0].read_text().replace('"name = ', '"more = 3\\n",\n    "name = '))
    monkeypatch.setattr("dyga.study.reproduce.notebooks_folder", lambda: changed.parent)
    with pytest.raises(ValueError, match=r"01_data.ipynb: its parameters are \[.*'more'.*\]: valid are \['data_dir', "):
        reproduce(study, (1,))


def test_the_report_has_no_notebook_of_other_variants_or_seeds(own, tmp_path):
    executed = tmp_path / "03.ipynb"
    assert not _is_of(executed, own())
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"parameters": asdict(own())}})
    nbformat.write(notebook, executed)
    assert _is_of(executed, own())
    assert not _is_of(executed, replace(own(), seeds="0,1")) and not _is_of(executed, replace(own(), variants="full"))


def test_saved_figures_and_tables_of_other_data_are_not_shown(own, pictures):
    study = own()
    study.save_figure(Figure(), "picture")
    study.save_table(pd.DataFrame({"a": [1]}), "numbers", "Numbers")
    assert study.saved_figure("picture", "01_data") and study.saved_table("numbers", "01_data")["a"].tolist() == [1]
    assert json.loads((study.figures / "picture.json").read_text())["data"] == study.data.identity
    with pytest.raises(FileNotFoundError, match=r"no other yet\. Run notebook 01_data first"):
        study.saved_table("other", "01_data")
    (pictures / "1.png").unlink()
    for show in (own().saved_figure, own().saved_table):
        with pytest.raises(FileNotFoundError, match=r"made of other data .*Run notebook 01_data first"):
            show("numbers", "01_data")


def test_the_report_says_that_the_first_stage_is_no_vqgan(own, tmp_path):
    assert own().first_stage_note() == ""
    (own().runs / "first_stage" / "provenance.json").write_text(json.dumps({"note": "first stage: <no> VQ-GAN"}))
    page = tmp_path / "report.html"
    report.gather([], page, "Title", {}, own().first_stage_note())
    assert page.read_text().count("<p>first stage: &lt;no&gt; VQ-GAN</p>") == 1
    report.gather([], page, "Title", {})
    assert "<p>" not in page.read_text()
