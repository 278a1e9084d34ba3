"""What several tests share: one smoke study, trained once, through the command line that users call."""

import io
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

from dyga.__main__ import main
from dyga.data import load_dataset

ROOT = Path(__file__).parent.parent
# Tests compare bits with those of the study's workers, which have one thread each.
os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
settings.register_profile("dyga", deadline=None, derandomize=True)
settings.load_profile("dyga")


def pytest_configure(config: pytest.Config) -> None:
    """Tests run on the CPU, where the same seed gives the same bits; those of `-m gpu` use the GPU."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


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
    """A folder with the runs and figures of the whole smoke profile, all notebooks executed: one for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "study"
    with FileLock(shared / "study.lock"):
        if not (out / "printed.txt").exists():
            done = dyga_process("reproduce", "--profile", "smoke", "--out", str(out))
            assert done.returncode == 0, done.stdout + done.stderr
            (out / "printed.txt").write_text(done.stdout)
    return out


@pytest.fixture(scope="module")
def run(study):
    """The smoke study's pruned run."""
    from dyga import load_run  # here, since the process that distributes the tests needs no torch

    return load_run(study / "runs" / "rooms3d-smoke" / "pruned-seed0")


def save_images(folder: Path, rows: Iterable[int]) -> Path:
    """A new folder with these images of rooms3d as PNG files; returns it."""
    folder.mkdir(parents=True)
    images = load_dataset().images
    for number, row in enumerate(rows):
        Image.fromarray(images[row]).save(folder / f"{number:02d}.png")
    return folder


# Files whose tests change the study for a while, or watch it.
WITH_THE_STUDY = ("test_ablation", "test_browser", "test_notebooks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first process makes the study; the second one runs files without it meanwhile. Files with the study come next, so that
    short files are left for the end."""

    def place(item: pytest.Item) -> int:
        return 0 if item.path.stem in WITH_THE_STUDY else 2 if item.path in with_study else 1

    with_study = {item.path for item in items if "study" in getattr(item, "fixturenames", ())}
    items.sort(key=place)


class ByFile(LoadScopeScheduling):
    """Tests of one file run in one process, and those of `WITH_THE_STUDY` in the same one."""

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.split("::")[0]).stem
        return "study" if name in WITH_THE_STUDY else name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log) -> ByFile:
    return ByFile(config, log)
