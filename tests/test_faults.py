"""When things break: a full disk, a folder that is none, a damaged file, two runs in one place, no network. One line each, and
the same command goes on afterwards to the same result."""

import os
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT, dyga

from dyga.__main__ import main
from dyga.data import CATALOG
from dyga.data.catalog import RemoteFile
from dyga.provenance import locked

COMMAND = ("train", "--profile", "smoke", "--variant", "pruned", "--folder")


def one_line(done: subprocess.CompletedProcess) -> str:
    """The last words on stderr, below the progress bar."""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def interrupted(study, tmp_path):
    """A run folder whose disk was full at the first checkpoint: no file could be larger than half a megabyte."""
    folder = tmp_path / "runs" / "rooms3d-smoke" / "pruned-seed0"
    done = subprocess.run(
        [sys.executable, "-m", "dyga", *COMMAND, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )
    assert done.returncode == 1 and "File too large" in one_line(done)
    return folder


def finishes_like(study, folder):
    done = dyga(*COMMAND, str(folder))
    assert done.returncode == 0, done.stderr
    finished = study / "runs" / "rooms3d-smoke" / "pruned-seed0"
    assert (folder / "metrics.json").read_text() == (finished / "metrics.json").read_text()


def test_a_full_disk_leaves_nothing_half_written_and_the_run_goes_on_when_there_is_room(study, interrupted):
    assert {path.name for path in interrupted.iterdir()} == {".lock", "config.json", "log.jsonl"}
    finishes_like(study, interrupted)


def test_a_damaged_resume_state_is_named_and_deleting_it_helps(study, interrupted):
    (interrupted / "resume.pt").write_bytes(b"nonsense")
    done = dyga(*COMMAND, str(interrupted))
    assert done.returncode == 2 and "resume.pt: damaged" in one_line(done) and "delete it" in one_line(done)
    (interrupted / "resume.pt").unlink()
    finishes_like(study, interrupted)


def test_a_file_in_the_folder_s_place(tmp_path):
    (tmp_path / "file").write_text("")
    done = dyga(*COMMAND, str(tmp_path / "file" / "run"))
    assert done.returncode == 1 and str(tmp_path / "file") in one_line(done)


def test_a_folder_that_may_only_be_read(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    # The superuser may write anywhere, unless that right is taken away.
    as_anyone = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for arguments, code, words in (
        (["reproduce", "--profile", "smoke", "--out", str(folder)], 2, f"--out {folder}: {folder} is not a folder that can be"),
        ([*COMMAND, str(folder / "run")], 1, f"Permission denied: '{folder / 'run'}'"),
    ):
        command = [*as_anyone, sys.executable, "-m", "dyga", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code and words in one_line(done)
    assert not list(folder.iterdir())


def test_two_runs_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(RuntimeError, match="is in use by another run: wait for it or stop it"):
        with locked(tmp_path, patience=0.1):
            pass


def test_no_network_is_said(tmp_path, monkeypatch, capsys):
    closed = RemoteFile("3dshapes.h5", "http://127.0.0.1:9/3dshapes.h5", "0" * 64)
    monkeypatch.setitem(CATALOG, "shapes3d", replace(CATALOG["shapes3d"], files=(closed,)))
    with pytest.raises(SystemExit) as stopped:
        main(["data", "prepare", "shapes3d", "--data-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and len(error.splitlines()) == 1 and "3dshapes.h5: stopped after 0 bytes" in error
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
