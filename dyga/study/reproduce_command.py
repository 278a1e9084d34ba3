"""Options, checks and start of `dyga reproduce`. Standard library only, so that they are checked before the set-up."""

import argparse
from pathlib import Path

from dyga.config import (
    DEFAULT_VARIANTS,
    VARIANTS,
    check_images,
    check_name,
    check_variants,
    check_writable,
    make_config,
    parse_numbers,
    parse_variants,
)
from dyga.provenance import checkout, notebooks_folder
from dyga.study.plan import forecast, read_plan
from dyga.study.workers import worker_slots

LAST_NOTEBOOK = 9
PLAN = "plan"  # given instead of variants: every run of the study's plan
FIXED = {"dataset": "rooms3d", "profile": "quick", "set": "", "seeds": "0", "notebooks": None, "name": ""}


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the command's own arguments to its parser."""
    sets = "all (the first seven), ablation (every one), or plan (every run of dyga/study/plan.toml)"
    command.add_argument(
        "--variants", default=",".join(DEFAULT_VARIANTS), help=f"{', '.join(VARIANTS)}, {sets} (default: %(default)s)"
    )
    command.add_argument("--seeds", default="0", help="as 0,1 or 0-4 (default: %(default)s)")
    command.add_argument("--notebooks", help="as 03,04 (default: all but 09, which needs no study)")
    command.add_argument("--name", default="", help="the study's folder (default: <dataset>-<profile>+<what was set>)")
    command.add_argument("--out", help="a folder for runs/, figures/ and data/ instead of this checkout")
    command.add_argument("--check", action="store_true", help="check the options, write nothing; for the plan, print its hours")


def check_options(options: argparse.Namespace) -> None:
    """ValueError for wrong options or a place that cannot be written to; makes --out absolute."""
    if options.variants == PLAN:
        changed = [f"--{name}" for name, value in FIXED.items() if getattr(options, name) != value]
        if changed:
            raise ValueError(f"{changed[0]}: --variants plan fixes it; valid beside it are --out, --data-dir, --check")
    else:
        notebooks_folder()  # refuses an installed package before anything is loaded
        variants = parse_variants(options.variants)
        configs = [make_config(options.profile, options.dataset, variant, changes=options.set) for variant in variants]
        check_variants(configs)
        check_images(configs[0])
    if options.name:
        check_name(options.name)
    parse_numbers(options.seeds, "seeds", 0, 10_000)
    if options.notebooks:
        parse_numbers(options.notebooks, "notebooks", 1, LAST_NOTEBOOK)
    options.out = options.out and str(Path(options.out).expanduser().resolve())
    check_writable(_root(options))


def _root(options: argparse.Namespace) -> Path:
    return Path(options.out) if options.out else checkout() or Path.cwd()


def reproduce(options: argparse.Namespace) -> None:
    """Train the variants and regenerate every figure, table and the report."""
    root = _root(options)
    data_dir = str(options.data_dir or (root / "data" if options.out else ""))
    if options.variants == PLAN:
        print(forecast(read_plan(), root, len(worker_slots())), flush=True)
    if options.check:
        return
    if options.variants == PLAN:
        from dyga.study.plan_runs import make_planned

        print(f"answers: {make_planned(root, Path(data_dir) if data_dir else None)}")
        return
    from dyga.study.reproduce import reproduce
    from dyga.study.study import Study

    study = Study(
        options.dataset, options.profile, options.variants, options.seeds, str(root), data_dir, options.set, options.name
    )
    numbers = parse_numbers(options.notebooks, "notebooks", 1, LAST_NOTEBOOK) if options.notebooks else None
    page = reproduce(study, numbers)
    print(f"report: {page}\nfigures: {study.figures}")
