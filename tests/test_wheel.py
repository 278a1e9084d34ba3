"""The package as an installed wheel, outside any checkout."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from dyga import __version__

# Trains and opens a run while the packages of the extras are hidden.
# requests stays visible, since diffusers needs it.
TRAIN = """
import importlib.machinery, sys

extras = {"datasets", "h5py", "IPython", "ipywidgets", "jupyterlab", "nbconvert", "nbformat", "papermill", "psutil", "pyarrow",
          "pygments", "torch_fidelity", "torchvision"}

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in extras else super().find_spec(name, path, target)

sys.meta_path[:] = [Finder if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]

import dyga, dyga.metrics
from dyga.data import load_dataset, prepare_dataset

assert "site" in dyga.__file__
from dyga.__main__ import main

main(["train", "--profile", "smoke", "--variant", "full", "--set", "steps=2, feature_buffer=64", "--folder", "here"])
print(dyga.load_run("here").encode(load_dataset("rooms3d").images[:3]).shape)
try:
    prepare_dataset("shapes3d")
except RuntimeError as error:
    print(error)
"""


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
    cache = str(installed.parent / "cache")
    environment = os.environ | {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_it_holds_the_package_and_its_data_files(installed):
    files = {
        path.relative_to(installed / "dyga") for path in (installed / "dyga").rglob("*") if path.suffix not in (".py", ".pyc")
    }
    assert {str(path) for path in files if (installed / "dyga" / path).is_file()} == {
        "study/plan.toml",
        "study/published.json",
        "study/report.css",
        "study/slurm.sh",
    }
    assert {path.name for path in installed.iterdir()} - {"bin"} == {"dyga", f"dyga-{__version__}.dist-info"}


def test_it_trains_and_opens_a_run_without_the_extras(installed, tmp_path):
    done = run(installed, tmp_path, "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    metrics, shape, error = done.stdout.strip().splitlines()
    assert "dci_disentanglement" in metrics
    assert shape == "(3, 8, 32)"
    assert error == "real data sets need datasets, h5py, pyarrow: install dyga with its extra 'data'"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_the_command_line_outside_a_checkout(installed, tmp_path):
    assert run(installed, tmp_path, "-m", "dyga", "--help").returncode == 0
    listed = run(installed, tmp_path, "-m", "dyga", "data", "list")
    assert listed.returncode == 0 and str(installed.parent / "cache" / "dyga") in listed.stdout, listed.stderr
    done = run(installed, tmp_path, "-m", "dyga", "reproduce", "--profile", "smoke")
    assert done.returncode == 2 and "clone the repository" in done.stderr
    assert not list(tmp_path.iterdir())
