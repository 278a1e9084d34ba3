"""What several tests share: one smoke study, trained once, through the command line that users call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")


def dyga(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Runs the command line and captures what it prints."""
    command = [sys.executable, "-m", "dyga", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A folder with the runs and figures of the whole smoke profile, all notebooks executed; one for all processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    out = shared / "study"
    with FileLock(shared / "study.lock"):
        if not (out / "printed.txt").exists():
            done = dyga("reproduce", "--profile", "smoke", "--out", str(out))
            assert done.returncode == 0, done.stdout + done.stderr
            (out / "printed.txt").write_text(done.stdout)
    return out
