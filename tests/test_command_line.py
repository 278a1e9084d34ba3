"""Bad input: exit code 2, one line that lists what is valid, nothing written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, dyga
from PIL import Image

from dyga.__main__ import COMMANDS
from dyga.config import DATASETS
from dyga.config.schema import SETTINGS

WRONG = {
    "option": (["--colour", "red"], "unrecognized arguments: --colour red: valid are --check, --data-dir"),
    "profile": (["--profile", "fast"], "unknown profile 'fast': valid are quick, smoke, long, longer, paper"),
    "no value": (["--profile"], "argument --profile: expected one argument"),
    "dataset": (["--dataset", "mnist"], "unknown data set 'mnist': valid are rooms3d, arm3d, faces2d, "),
    "folder": (["--dataset", "folder:/no/such"], "data set folder:/no/such: there is no such folder"),
    "variant": (
        ["--variants", "full,best"],
        "unknown variant 'best': valid are encdiff, skip_dropout, anchoring",
    ),
    "seed": (["--seeds", "0-x"], "seeds '0-x': valid are numbers from 0 to 10000, as 0,1 or 0-4"),
    "notebook": (["--notebooks", "3,12"], "notebooks '3,12': valid are numbers from 1 to 9"),
    "data folder": (["--data-dir", "/no/such"], "--data-dir /no/such: there is no such folder"),
    "unknown setting": (["--set", "stepps=3"], "unknown setting 'stepps': the nearest valid ones are steps"),
    "no setting": (["--set", "steps"], "--set steps: valid is NAME=VALUE, as steps=3000"),
    "wrong type": (["--set", "steps=many"], "setting steps='many': valid is a whole number"),
    "out of range": (["--set", "units=0"], "setting units=0: valid is at least 1"),
    "impossible": (["--set", "steps=5", "--set", "heads=3"], "impossible settings: heads must divide every entry"),
    "large batch": (["--set", "batch=500000", "--set", "feature_buffer=500000"], "batch=500000: rooms3d has 480,000 images"),
    "equal variants": (
        ["--set", "anchoring=0", "--variants", "skip_dropout,full"],
        "the variants skip_dropout and full are the same",
    ),
    "plan": (["--variants", "plan", "--seeds", "1"], "--seeds: --variants plan fixes it; valid beside it are --out"),
    "study's name": (["--name", "a/b"], "name 'a/b': valid are letters, digits"),
    "out is a file": (["--out", str(ROOT / "LICENSE")], "is not a folder that can be written to"),
}


def tree(folder: Path) -> set:
    found = set()
    for parent, folders, files in os.walk(folder):
        # What other tests write meanwhile.
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ("__pycache__", "data", "screenshots")]
        found |= {Path(parent, name) for name in (*folders, *files)}
    return found


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
        (["train", "--seed", "0,1"], "seed '0,1': valid is one number from 0 to 10000"),
        (["bench", "train", "--batch", "32,64"], "batch '32,64': valid is one number from 2 to 65536"),
        (["train", "--set", "steps=0"], "setting steps=0: valid is at least 1"),
        (["first-stage", "--set", "unit=3"], "unknown setting 'unit': the nearest valid ones are units"),
        (["bench", "train", "--set", "loss=l3"], "setting loss='l3': valid is l1, mse"),
        (["settings", "--set", "steps=0"], "setting steps=0: valid is at least 1"),
        (["evaluate", "/no/such"], "/no/such: cannot be opened as a run"),
        (["data", "prepare", "x"], "unknown data set 'x': valid are rooms3d, arm3d, faces2d,"),
        (["data", "fetch"], "invalid choice: 'fetch'"),
        (["score", "codes.npy"], "one of the arguments --factors --dataset is required"),
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
    assert all(re.search(rf"^ +{name}\b", done.stdout, re.MULTILINE) for name in COMMANDS)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    done = dyga("train", "--profile", "smoke", "--folder", str(tmp_path / "run"))
    assert (
        done.returncode == 1
        and done.stderr == "dyga: the package tqdm is missing: install dyga again, with its extras 'notebooks' and 'data'\n"
    )
    assert not (tmp_path / "run").exists()


def test_benches_print_their_tables(monkeypatch):
    asked = []

    def table(*arguments) -> pd.DataFrame:
        asked.append(arguments)
        return pd.DataFrame({"n": [600], "ms": [1.2345]})

    for name in ("bench_anchors", "bench_explorers", "bench_training"):
        monkeypatch.setattr(f"dyga.study.bench.{name}", table)
    monkeypatch.setattr("dyga.explore.run.load_run", lambda folder: folder)
    printed = [
        dyga("bench", what, *more).stdout for what, *more in (["anchors", "--sizes", "600"], ["explorers", "--run", "here"])
    ]
    printed.append(dyga("bench", "train", "--profile", "smoke", "--batch", "8").stdout)
    assert all("1.2" in text for text in printed)
    assert asked[:2] == [((600,),), ("here",)] and asked[2][0].profile == "smoke" and asked[2][1] == 8


def test_data_says_what_is_there():
    assert "480,000 images; floor_hue 10, wall_hue 10" in dyga("data", "prepare").stdout
    listed = dyga("data", "list").stdout
    assert all(name in listed for name in DATASETS) and "CC BY 4.0" in listed and "not prepared" in listed


def test_settings_lists_every_setting_with_its_meaning_and_reason():
    done = dyga("settings", "--profile", "long", "--variant", "full", "--set", "units=16")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(SETTINGS) <= set(lines)
    assert "16" in lines["units"] and "20" in lines["units"] and "[changed by hand]" in lines["units"]
    assert "[three times the steps of quick]" in lines["steps"]


def test_a_changed_run_on_own_pictures_with_the_papers_settings(tmp_path):
    """Everything of the paper profile, made small by hand, to the end: first stage, training, evaluation."""
    pictures = tmp_path / "my pictures"
    pictures.mkdir()
    for number in range(12):
        Image.fromarray(np.random.default_rng(number).integers(256, size=(70, 80, 3), dtype=np.uint8)).save(
            pictures / f"{number}.png"
        )
    small = "steps=3, batch=4, first_stage_steps=2, feature_buffer=64, unet_channels=32,32, attention_levels=1, image_size=32"
    where = ["--dataset", f"folder:{pictures}", "--profile", "paper", "--set", small, "--data-dir", str(tmp_path)]
    done = dyga("first-stage", *where, "--folder", str(tmp_path / "study" / "first_stage"))
    assert done.returncode == 0, done.stderr
    done = dyga("train", *where, "--variant", "full", "--folder", str(tmp_path / "study" / "full-seed0"))
    assert done.returncode == 0 and "no disentanglement metric applies" in done.stdout, done.stderr
    config = json.loads((tmp_path / "study" / "full-seed0" / "config.json").read_text())
    assert config["steps"] == 3 and config["unet_channels"] == [32, 32] and "first_stage_steps=2" in config["changes"]
