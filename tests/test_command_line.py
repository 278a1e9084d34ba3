"""Bad input: exit code 2, one line that lists what is valid, nothing written."""

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, dyga

from dyga.config import DATASETS

WRONG = {
    "option": (["--colour", "red"], "unrecognized arguments: --colour red: valid are --check, --data-dir"),
    "profile": (["--profile", "fast"], "unknown profile 'fast': valid are quick, smoke, long, longer, paper"),
    "no value": (["--profile"], "argument --profile: expected one argument"),
    "dataset": (["--dataset", "mnist"], "unknown data set 'mnist': valid are rooms3d, shapes3d, mpi3d_toy, "),
    "folder": (["--dataset", "folder:/no/such"], "--dataset folder:/no/such: there is no such folder"),
    "variant": (
        ["--variants", "full,best"],
        "unknown variant 'best': valid are encdiff, skip_dropout, anchoring",
    ),
    "seed": (["--seeds", "0-x"], "seeds '0-x': valid are numbers from 0 to 10000, as 0,1 or 0-4"),
    "notebook": (["--notebooks", "3,12"], "notebooks '3,12': valid are numbers from 1 to 8"),
    "data folder": (["--data-dir", "/no/such"], "--data-dir /no/such: there is no such folder"),
    "out is a file": (["--out", str(ROOT / "LICENSE")], "is not a folder that can be written to"),
}


def tree(folder: Path) -> set:
    return {path for path in folder.rglob("*") if not {".git", ".venv", "__pycache__"} & set(path.parts)}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name, tmp_path):
    arguments, message = WRONG[name]
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    before = tree(ROOT)
    done = dyga("reproduce", *out, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert tree(ROOT) == before and not tree(tmp_path)


def test_wrong_input_is_found_before_the_set_up(tmp_path):
    """The script checks options with a bare Python, so that nobody waits for a set-up to learn of a typing error."""
    copy = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    done = subprocess.run([copy / "run_all.sh", "--profile", "fast"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "valid are quick, smoke, long, longer, paper" in done.stderr
    status = subprocess.run(["git", "-C", str(copy), "status", "--porcelain", "--ignored"], capture_output=True)
    assert status.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--variant", "x"], "unknown variant 'x'"),
        (["train", "--seed", "0,1"], "valid is one number"),
        (["evaluate", "/no/such"], "/no/such: not a run folder"),
        (["data", "prepare", "x"], "unknown data set 'x': valid are rooms3d, shapes3d,"),
        (["data", "fetch"], "invalid choice: 'fetch'"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_input_of_the_other_commands(arguments, message):
    done = dyga(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_names_every_command():
    done = dyga("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("reproduce", "train", "first-stage", "evaluate", "data"))


def test_data_says_what_is_there():
    assert "480,000 images; floor_hue 10, wall_hue 10" in dyga("data", "prepare").stdout
    listed = dyga("data", "list").stdout
    assert all(name in listed for name in DATASETS) and "CC BY 4.0" in listed and "not prepared" in listed
