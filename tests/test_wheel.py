"""The package as an installed wheel, outside any checkout."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the installed wheel and nothing else of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "dyga", source / "dyga", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True, capture_output=True)
    (wheel,) = folder.glob("dyga-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, capture_output=True)
    return folder / "site"


def run(installed, cwd, *command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(cwd / "cache"), "OMP_NUM_THREADS": "2"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_it_trains_and_opens_a_run(installed, tmp_path):
    done = run(installed, tmp_path, "-m", "dyga", "train", "--profile", "smoke", "--set", "steps=4", "--folder", "here")
    assert done.returncode == 0 and "dci_disentanglement" in done.stdout, done.stderr
    code = """if True:
        import dyga, dyga.metrics
        from dyga.data import load_dataset
        assert "site" in dyga.__file__
        run = dyga.load_run("here")
        print(run.codes(load_dataset("rooms3d").images[:3]).shape)
    """
    done = run(installed, tmp_path, "-c", code)
    assert done.stdout.strip() == "(3, 8)", done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"here", "cache"}


def test_what_needs_a_checkout_says_so(installed, tmp_path):
    assert run(installed, tmp_path, "-m", "dyga", "--help").returncode == 0
    done = run(installed, tmp_path, "-m", "dyga", "reproduce", "--profile", "smoke")
    assert done.returncode == 2 and "clone the repository" in done.stderr and not list(tmp_path.iterdir())
