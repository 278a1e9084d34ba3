"""What several tests share: one smoke study, trained once, through the command line that users call."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from dyga.__main__ import main

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")


def dyga(*arguments: str) -> subprocess.CompletedProcess:
    """The command line without a process of its own: its exit code, and what it prints."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as stopped:
            code = stopped.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def dyga_process(*arguments: str, **options) -> subprocess.CompletedProcess:
    """The command line as a process, and what it prints."""
    command = [sys.executable, "-m", "dyga", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A folder with the runs and figures of the whole smoke profile, all notebooks executed."""
    out = tmp_path_factory.mktemp("study")
    done = dyga_process("reproduce", "--profile", "smoke", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "printed.txt").write_text(done.stdout)
    return out


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file run in one process. So do all tests with the study, which some of them change for a while."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("study" if "study" in item.fixturenames else item.path.stem))
