"""run_all.sh from other folders, through links, and in folders with unusual names."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from dyga.provenance import git_commit


@pytest.fixture
def copy(tmp_path):
    """An unzipped copy inside another repository, in a folder whose name has a space and an umlaut."""
    outer = tmp_path / "äußerer Ordner"
    folder = outer / "dyga copy"
    folder.mkdir(parents=True)
    for name in ("run_all.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    for name in ("dyga", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q", str(outer)], check=True)
    return folder


def check(script, cwd, *arguments, **environment) -> subprocess.CompletedProcess:
    command = [str(script), "--check", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


def test_relative_paths_are_those_of_the_callers_folder(copy, tmp_path):
    (tmp_path / "here" / "my pictures").mkdir(parents=True)
    (tmp_path / "here" / "dyga").mkdir()  # not the package
    done = check(copy / "run_all.sh", tmp_path / "here", "--dataset", "folder:my pictures", "--out", "out")
    assert done.returncode == 0, done.stderr
    done = check(copy / "run_all.sh", tmp_path, "--dataset", "folder:my pictures")
    assert done.returncode == 2 and "folder:my pictures: there is no such folder" in done.stderr


def test_through_links_and_with_cdpath(copy, tmp_path):
    link = tmp_path / "bin" / "run"
    link.parent.mkdir()
    link.symlink_to(copy / "run_all.sh")
    (tmp_path / "again").symlink_to(os.path.relpath(link, tmp_path))
    for script in (link, tmp_path / "again"):
        done = check(script, tmp_path, CDPATH=f".:{tmp_path}")
        assert done.returncode == 0 and not done.stdout, done.stderr


def test_python_with_a_space_and_the_users_home(copy, tmp_path):
    python = tmp_path / "my python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "pictures").mkdir()
    done = check(copy / "run_all.sh", tmp_path, "--dataset", "folder:~/pictures", PYTHON=str(python), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr


FAKE_PYTHON = """#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip install"*) echo begins >> installations; while ! [ -e go ]; do sleep 0.05; done; echo ends >> installations ;;
esac
"""


@pytest.mark.skipif(not shutil.which("flock"), reason="only with flock, as on Linux")
def test_two_calls_at_once_set_up_one_after_the_other(copy, tmp_path):
    """A Python that installs nothing, and ends an installation only when it may."""
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    outputs, calls = [tmp_path / "first.txt", tmp_path / "second.txt"], []
    for output, ready in zip(outputs, (lambda: (copy / "installations").exists(), lambda: outputs[1].read_text()), strict=True):
        with output.open("w") as file:
            calls.append(subprocess.Popen([copy / "run_all.sh", "test"], env=os.environ | {"PYTHON": str(python)}, stdout=file))
        while not ready():
            assert calls[-1].poll() is None
            time.sleep(0.05)
    (copy / "go").touch()
    assert [call.wait() for call in calls] == [0, 0]
    assert (copy / "installations").read_text().split() == ["begins", "ends"] * 2  # of the packages, and of the project: once
    assert outputs[1].read_text() == "Waiting for another set-up of .venv ...\n" and "Set-up done." in outputs[0].read_text()


def test_the_commit_of_another_repository_is_not_named(copy):
    code = "from dyga.provenance import git_commit; print(git_commit())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "unknown"
    assert len(git_commit()) >= 7
