"""How work is spread: over GPUs, cores, or a SLURM array."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from dyga.study import Study, workers


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


def test_workers_run_side_by_side_and_a_failed_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "worker_slots", lambda: [{"SLOT": "a"}, {"SLOT": "b"}])
    script = 'echo "$SLOT" > "$1/slot"; n=0; until [ -f "$2" ]; do sleep 0.1; n=$((n+1)); [ $n -lt 100 ] || exit 1; done'
    executable(tmp_path / "wait", script)

    def job(own: str, other: str) -> list[str]:
        return [str(tmp_path / "wait"), str(tmp_path / own), str(tmp_path / other / "slot"), str(tmp_path / own)]

    workers.run_workers([job("one", "two"), job("two", "one"), job("three", "one")])
    assert {(tmp_path / name / "slot").read_text().strip() for name in ("one", "two")} == {"a", "b"}
    executable(tmp_path / "fail", "echo first; echo out of luck; exit 3")
    with pytest.raises(RuntimeError, match=r"four failed: out of luck \(see .*four/output.txt\)"):
        workers.run_workers([[str(tmp_path / "fail"), str(tmp_path / "four")]])


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


def test_the_slurm_script_outside_slurm_says_how_to_use_it(tmp_path):
    done = subprocess.run([str(ROOT / "dyga" / "study" / "slurm.sh")], capture_output=True, text=True)
    assert done.returncode and "usage: sbatch dyga/study/slurm.sh DATASET" in done.stderr
