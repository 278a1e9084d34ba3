"""Where a result comes from (commit, versions, hardware), atomic writes, and locks."""

import json
import os
import platform
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scikit-learn", "lightgbm", "diffusers", "matplotlib")


def describe(**extra) -> dict:
    """Commit, package versions and hardware, plus `extra` (run, seed, seconds)."""
    return {
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "hardware": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.system(),
        **extra,
    }


def checkout() -> Path | None:
    """The root of the checkout that the package is imported from; None for an installed wheel."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def notebooks_folder() -> Path:
    """The folder of the notebooks. ValueError if the package is an installed wheel."""
    root = checkout()
    if root is None:
        raise ValueError("the notebooks are not part of the installed package: clone the repository and use its ./run_all.sh")
    return root / "notebooks"


def git_commit() -> str:
    """The checkout's commit, with '+' when files differ from it; 'unknown' outside a checkout."""
    root = checkout()
    if root is None:
        return "unknown"
    try:
        top = subprocess.run(["git", "-C", str(root), "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if Path(top.stdout.strip()).resolve() != root:
            return "unknown"  # a copy inside another repository, whose commit says nothing
        ask = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file atomically: readers see the complete old file or the complete new one, also if the process is killed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # it still exists only if the writing failed


def write_json(path: Path, value) -> None:
    """`value` as indented JSON, written atomically; keys keep their order."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


class InUse(RuntimeError):
    """Another process works in the folder."""


@contextmanager
def locked(folder: Path, patience: float = 60.0, name: str = ".lock", temporary: bool = False) -> Iterator[None]:
    """Locks `folder` (created if missing) for one process, by a file of this name. `InUse` if another still holds it after
    `patience` seconds. The file of a `temporary` lock is deleted at the end."""
    from filelock import FileLock, Timeout  # imported here: the command line checks its options with the standard library only

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=patience, poll_interval=0.2)
    except Timeout:
        raise InUse(f"{folder} is in use by another run: wait for it or stop it") from None
    try:
        yield
    finally:
        if temporary:  # before the release, so that nobody locks a file that is about to be deleted
            with suppress(OSError):  # Windows does not delete open files
                (folder / name).unlink()
        lock.release()


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """The value in a JSON file, which `make` computes if there is no such file. One process computes, others wait."""
    if not path.exists():  # an exported run may lie where nothing can be written
        with locked(path.parent, patience=86_400):
            if not path.exists():
                write_json(path, make())
    return json.loads(path.read_text())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
