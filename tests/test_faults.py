"""When things break: a full disk, a folder that is none, a damaged file, two runs in one place, no network. One line each, and
the same command goes on afterwards to the same result."""

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from conftest import ROOT, dyga

from dyga.config import make_config
from dyga.data import CATALOG
from dyga.data.catalog import RemoteFile
from dyga.provenance import kept_json, locked
from dyga.training.loop import train

COMMAND = ("train", "--profile", "smoke", "--variant", "encdiff", "--folder")


def one_line(done: subprocess.CompletedProcess) -> str:
    """The last words on stderr, below the progress bar."""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_full_disk_and_a_damaged_resume_state(study, tmp_path):
    """No file could be larger than half a megabyte, so the first checkpoint fails. Nothing is left half-written. A damaged resume
    state is named, and without it the run goes on to the same end."""
    folder = tmp_path / "runs" / "rooms3d-smoke" / "encdiff-seed0"
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, unlimited[1]))
    try:
        done = dyga(*COMMAND, str(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert done.returncode == 1 and "File too large" in one_line(done)
    assert {path.name for path in folder.iterdir()} == {".lock", "config.json", "log.jsonl"}
    (folder / "resume.pt").write_bytes(b"nonsense")
    done = dyga(*COMMAND, str(folder))
    assert done.returncode == 2 and "resume.pt: damaged" in one_line(done) and "delete it" in one_line(done)
    (folder / "resume.pt").unlink()
    list(train(make_config("smoke", variant="encdiff"), folder))
    finished = study / "runs" / "rooms3d-smoke" / "encdiff-seed0"
    assert (folder / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_a_file_in_the_folder_s_place(tmp_path):
    (tmp_path / "file").write_text("")
    done = dyga(*COMMAND, str(tmp_path / "file" / "run"))
    assert done.returncode == 2 and f"{tmp_path / 'file'} is not a folder that can be written to" in one_line(done)


def test_a_folder_that_may_only_be_read(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    # The superuser may write anywhere, unless that right is taken away.
    as_anyone = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for arguments, code, words in (
        (["reproduce", "--profile", "smoke", "--out", str(folder)], 2, f"--out {folder}: {folder} is not a folder that can be"),
        ([*COMMAND, str(folder / "run")], 2, f"--folder {folder / 'run'}: {folder} is not a folder that can be"),
    ):
        command = [*as_anyone, sys.executable, "-m", "dyga", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code and words in one_line(done)
    assert not list(folder.iterdir())


def test_two_runs_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(RuntimeError, match="is in use by another run: wait for it or stop it"):
        with locked(tmp_path, patience=0.1):
            pass


def test_what_is_kept_is_made_by_one_and_read_by_the_others(tmp_path):
    calls = []

    def slow() -> dict:
        calls.append(1)
        time.sleep(0.5)
        return {"made": len(calls)}

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: kept_json(tmp_path / "run" / "kept.json", slow), range(3))) == [{"made": 1}] * 3


def test_no_network_is_said(tmp_path, monkeypatch):
    closed = RemoteFile("3dshapes.h5", "http://127.0.0.1:9/3dshapes.h5", "0" * 64)
    monkeypatch.setitem(CATALOG, "shapes3d", replace(CATALOG["shapes3d"], files=(closed,)))
    done = dyga("data", "prepare", "shapes3d", "--data-dir", str(tmp_path))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "3dshapes.h5: stopped after 0 bytes" in done.stderr
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
