"""Options and checks of `dyga score`. Standard library only, so that they are checked at once; `scoring` does the work."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

from dyga.config import check_writable, parse_number


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    command.add_argument(
        "codes", type=Path, metavar="CODES", help="(n, units) or (n, units, dim): .npy, .npz, .csv, .safetensors"
    )
    known = command.add_mutually_exclusive_group(required=True)
    known.add_argument("--factors", type=Path, metavar="FILE", help="integers (n, factors): .npy, .npz, .csv, .safetensors")
    known.add_argument("--dataset", default="", metavar="NAME", help="data whose order defines the factors; no images needed")
    command.add_argument("--report", type=Path, metavar="FILE.html", help="also write one HTML page")
    command.add_argument(
        "--gaussians",
        type=Path,
        metavar="FILE.npz",
        help="file of the authors' Gaussians; the notes then say what their alignment does",
    )
    command.add_argument("--dci-estimator", choices=("lightgbm", "sklearn"), default="lightgbm", help="(default: lightgbm)")
    command.add_argument("--num-train", default="10000", metavar="N", help="rows for training (default: 10000)")
    command.add_argument("--num-test", default="5000", metavar="N", help="rows for tests (default: 5000)")
    command.add_argument("--seed", default="0", help="a number")


def check_options(options: argparse.Namespace) -> None:
    """ValueError for what is wrong with the options or the report's place; makes numbers of the options' texts."""
    for name, least, most in (("num_train", 40, 1_000_000), ("num_test", 10, 1_000_000), ("seed", 0, 10_000)):
        setattr(options, name, parse_number(getattr(options, name), f"--{name.replace('_', '-')}", least, most))
    path = options.report
    if path:
        if path.suffix != ".html":
            raise ValueError(f"--report {path}: valid is the name of a file that ends in .html")
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise ValueError(f"--report {path}: it is not a file that can be written to")
        check_writable(path.parent, "--report")
        if find_spec("nbconvert") is None:
            raise ValueError("--report needs nbconvert: install dyga with its extra 'notebooks'")


def score(options: argparse.Namespace) -> None:
    """Measure anyone's codes: metrics with intervals and chance levels, and a diagnosis of the units."""
    from dyga.study.scoring import score_file

    scored = score_file(
        options.codes,
        options.factors,
        options.dataset,
        gaussians=options.gaussians,
        num_train=options.num_train,
        num_test=options.num_test,
        estimator=options.dci_estimator,
        seed=options.seed,
    )
    print(scored.text())
    if options.report:
        scored.write_page(options.report)
        print(f"report: {options.report}")
