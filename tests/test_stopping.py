"""Ctrl-C and signals: everything ends within five seconds, one line says how to continue, and the same command continues."""

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
from conftest import ROOT, dyga

SECONDS = 5
SAID = "interrupted: run the same command again to continue\n"


class Command:
    """A command in a session of its own, as in a terminal. Everything that it starts inherits the environment variable `mark`,
    whatever session it is in."""

    def __init__(self, *command: str | Path, output: Path, cwd: Path = ROOT, **environment: str):
        self.mark, self.output = uuid.uuid4().hex, output
        environment = os.environ | {"STOPPING_TEST": self.mark} | environment
        with output.open("w") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=cwd,
                env=environment,
                start_new_session=True,
                # Tests that were started in the background of a shell inherit that SIGINT is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def running(self) -> list[str]:
        """The command lines of what runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("STOPPING_TEST") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
        return found

    def kill(self) -> None:
        """Ends what still runs, after a failed check."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("STOPPING_TEST") == self.mark:
                    process.kill()
        self.process.wait()

    def wait_for(self, condition, seconds: float = 300) -> None:
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


def test_reproduce_stops_in_each_phase_and_goes_on(study, tmp_path):
    """A study of one variant is interrupted again and again, and ends with the results of the one that was left alone."""
    out, output = tmp_path / "out", tmp_path / "output.txt"
    runs, command = out / "runs" / "rooms3d-smoke", ["reproduce", "--profile", "smoke", "--variants", "encdiff"]
    command += ["--notebooks", "02", "--out", str(out)]
    trained, baselines = runs / "encdiff-seed0", runs / "baselines-seed0"
    for name in ("first_stage", "factor_classifier"):  # no phase waits for these two workers
        shutil.copytree(study / "runs" / "rooms3d-smoke" / name, runs / name)

    def stops(how: tuple[signal.Signals, bool], at: Callable[[], bool]) -> None:
        process = Command(sys.executable, "-m", "dyga", *command, output=output)
        try:
            process.wait_for(at)
            process.stop(*how)
        finally:
            process.kill()
        assert not [path for pattern in ("*.part", "*.tmp", "*.failed.ipynb", ".*.ipynb") for path in out.rglob(pattern)]

    def running() -> bool:
        return "02_training: running" in output.read_text()

    terminal, main, other = (signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)
    # The preparation of the data, and notebooks.
    stops(terminal, lambda: (out / "data").exists())
    stops(terminal, running)
    # Workers: training and baselines, then evaluation; the report.
    started = trained / "log.jsonl", baselines / "PCA.json"
    stops(terminal, lambda: running() and all(path.exists() and path.stat().st_size for path in started))
    stops(other, lambda: running() and (trained / "codes.safetensors").exists())
    stops(main, lambda: "02_training: done" in output.read_text())
    done = dyga(*command)
    assert done.returncode == 0 and (runs / "report.html").exists(), done.stderr
    for folder in (trained, baselines):
        alone = study / "runs" / "rooms3d-smoke" / folder.name / "metrics.json"
        assert _without_times(folder / "metrics.json") == _without_times(alone)


def _without_times(path: Path) -> str:
    return re.sub(r'"seconds": [\d.]+', "", path.read_text())
