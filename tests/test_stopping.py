"""Ctrl-C and signals: everything ends within five seconds, one line says how to go on, and the same command goes on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, dyga

SECONDS = 5
SAID = "interrupted: the same command goes on from here\n"


class Command:
    """A command in a session of its own, as in a terminal. Everything that it starts inherits the environment variable `mark`,
    whatever session it is in."""

    def __init__(self, *command: str | Path, output: Path, cwd: Path = ROOT, **environment: str):
        self.mark, self.output = uuid.uuid4().hex, output
        environment = os.environ | {"STOPPING_TEST": self.mark} | environment
        with output.open("w") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=cwd, env=environment, start_new_session=True
            )

    def running(self) -> list[str]:
        """The command lines of what runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("STOPPING_TEST") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
        return found

    def wait_for(self, condition, seconds: float = 120) -> None:
        """Waits until `condition` holds; fails if the command ends before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)

    def stop(self, number: signal.Signals, everyone: bool) -> None:
        """Sends one signal, to the process group as a terminal does or to the main process, and checks how all ends."""
        deadline = time.monotonic() + SECONDS
        (os.killpg if everyone else os.kill)(self.process.pid, number)
        code = self.process.wait(SECONDS)
        while (left := self.running()) and time.monotonic() < deadline:
            time.sleep(0.1)
        printed = self.output.read_text()
        assert not left
        assert code == 130 and printed.endswith(SAID) and printed.count(SAID) == 1 and "Traceback" not in printed, printed


@pytest.fixture
def scratch(study, tmp_path):
    """The smoke study, to be changed, in its place, since its notebooks depend on the folder; it is put back afterwards."""
    shutil.copytree(study, tmp_path / "copy", symlinks=True)
    yield study
    shutil.rmtree(study)
    shutil.copytree(tmp_path / "copy", study)


def test_reproduce_stops_in_each_phase_and_goes_on(scratch, tmp_path):
    runs, output = scratch / "runs" / "rooms3d-smoke", tmp_path / "output.txt"
    trained, baselines, first_stage = runs / "encdiff-seed0", runs / "baselines-seed0", runs / "first_stage"

    def results() -> dict[Path, str]:
        """All that was measured, but for the times."""
        return {path: re.sub(r'"seconds": [\d.]+', "", path.read_text()) for path in runs.glob("*/metrics.json")}

    measured = results()

    def stops(how: tuple[signal.Signals, bool], *removed: Path, at: Callable[[], bool]) -> None:
        for path in removed:
            (shutil.rmtree if path.is_dir() else os.remove)(path)
        command = Command(sys.executable, "-m", "dyga", "reproduce", "--profile", "smoke", "--out", scratch, output=output)
        command.wait_for(at)
        command.stop(*how)
        assert not [path for pattern in ("*.part", "*.tmp", "*.failed.ipynb", ".*.ipynb") for path in scratch.rglob(pattern)]

    terminal, main, other = (signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)
    # The preparation of the data, the report, and notebooks.
    stops(terminal, scratch / "data" / "rooms3d.npz", at=lambda: list((scratch / "data").glob("*.part")))
    stops(main, runs / "report.html", at=lambda: "07_report: up to date" in output.read_text())
    stamps = [runs / "notebooks" / f"{name}.stamp" for name in ("04_metrics", "05_downstream_probes")]
    stops(terminal, *stamps, at=lambda: "05_downstream_probes: running" in output.read_text())
    # Workers: evaluation and first stage, training and baselines.
    unfinished = trained / "metrics.json", trained / "codes.safetensors", first_stage
    stops(other, *unfinished, at=lambda: (trained / "codes.safetensors").exists() and first_stage.exists())
    started = trained / "log.jsonl", baselines / "PCA.json"
    stops(main, trained, baselines, at=lambda: all(path.exists() and path.stat().st_size for path in started))
    done = dyga("reproduce", "--profile", "smoke", "--out", str(scratch))
    assert done.returncode == 0, done.stderr
    assert results() == measured
