"""What several tests share: one smoke study, trained once, through the command line that users call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")


def dyga(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Runs the command line and captures what it prints."""
    command = [sys.executable, "-m", "dyga", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A folder with the runs and figures of the whole smoke profile, all notebooks executed."""
    out = tmp_path_factory.mktemp("study")
    done = dyga("reproduce", "--profile", "smoke", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "printed.txt").write_text(done.stdout)
    return out


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file run in one process. So do all tests with the study, which some of them change for a while."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("study" if "study" in item.fixturenames else item.path.stem))
