"""The command line (dyga --help). Options are checked before torch is loaded."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from dyga.config import (
    DATASETS,
    OWN,
    PROFILES,
    VARIANTS,
    Config,
    check_images,
    check_writable,
    describe_settings,
    existing_dataset,
    make_config,
    parse_changes,
    parse_number,
    parse_numbers,
    study_name,
)
from dyga.kept import CLASSIFIER, FIRST_STAGE
from dyga.processes import end_interrupted, end_on_signals, end_with_parent
from dyga.provenance import checkout
from dyga.study import reproduce_command, score_command

ROOT = checkout() or Path.cwd()
# The commands that make a folder of a study, and the folder's name.
FOLDERS = {
    "train": "{variant}-seed{seed}",
    "first-stage": FIRST_STAGE,
    "factor-classifier": CLASSIFIER,
    "baselines": "baselines-seed{seed}",
}


class Parser(argparse.ArgumentParser):
    """argparse with one line for an error, which lists what is valid."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments"):
            options = sorted(o for a in self._actions for o in a.option_strings if o.startswith("--"))
            message += f": valid are {', '.join(options)}"
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command. Exit code 2 with one line for bad input, 1 for a failure, 130 for Ctrl-C."""
    if arguments is None:  # as a command, not from Python
        end_on_signals()
        end_with_parent()
    parser = Parser(prog="dyga", description="Latent units via diffusion models: reproduce, train, evaluate.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")
    known = _options()
    for name, function in COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__, allow_abbrev=False)
        for users, option, described in known:
            if name in users.split():
                command.add_argument(option, **described)
        if name in OWN_OPTIONS:
            OWN_OPTIONS[name](command)
    options, unknown = parser.parse_known_args(arguments)
    if options.command == "data" and len(unknown) == 1 and not unknown[0].startswith("-"):
        options.dataset = unknown.pop()  # argparse does not expect a name after an option
    if unknown:
        commands.choices[options.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        _check(options)
        COMMANDS[options.command](options)
    except (ValueError, FileNotFoundError) as error:
        _fail(2, error)
    except ModuleNotFoundError as error:
        _fail(1, f"the package {error.name} is missing: install dyga again, with its extras 'notebooks' and 'data'")
    except (RuntimeError, OSError, FloatingPointError) as error:
        _fail(1, error)
    except KeyboardInterrupt:
        end_interrupted()


def _fail(code: int, message: object) -> NoReturn:
    print(f"dyga: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(code)


def _options() -> list[tuple[str, str, dict]]:
    """Each option: the commands that have it, its name, and its arguments of argparse."""
    known = f"{', '.join(DATASETS)}; or own data: {'; '.join(f'{own}, {what}' for own, what in OWN.items())}"
    run = _study_folder(make_config()) / "pruned-seed0"
    profile, variant, runs = ", ".join(PROFILES), ", ".join(VARIANTS), " ".join(FOLDERS)
    a_set = "change a setting; may be repeated ('dyga settings' lists all)"
    a_suite = "also print the eight standard metrics, DCI by this estimator"
    return [
        ("bench", "what", dict(choices=["anchors", "explorers", "train"], help="what to measure")),
        ("bench", "--sizes", dict(default="2000,10000,48000,480000", help="anchors: numbers of feature rows")),
        ("bench", "--run", dict(default=run, help="explorers: a run folder (default: the default run's pruned-seed0)")),
        ("bench", "--profile", dict(default="paper", help=f"train: {profile} (default: paper)")),
        ("bench", "--batch", dict(default="32", help="train: images per step")),
        ("data", "what", dict(choices=["list", "prepare"], help="list what there is, or download and prepare one")),
        ("data", "dataset", dict(nargs="?", default="rooms3d", metavar="NAME", help=known)),
        ("evaluate", "folder", dict(metavar="RUN", help="a run folder")),
        ("evaluate", "--suite", dict(choices=("sklearn", "lightgbm"), help=a_suite)),
        ("export", "run", dict(metavar="RUN", help="a run folder")),
        ("export", "folder", dict(metavar="FOLDER", help="where to: a new or empty folder")),
        ("export", "--half", dict(action="store_true", help="weights of 16 bits: half the size")),
        (f"reproduce {runs}", "--dataset", dict(default="rooms3d", help=f"{known} (default: %(default)s)")),
        (f"reproduce {runs} settings", "--profile", dict(default="quick", help=f"{profile} (default: %(default)s)")),
        ("train settings", "--variant", dict(default="pruned", help=f"{variant} (default: %(default)s)")),
        ("train baselines", "--seed", dict(default="0", help="a number (default: %(default)s)")),
        (runs, "--folder", dict(help="where to (default: runs/<dataset>-<profile>/...)")),
        (f"reproduce {runs} settings bench", "--set", dict(action="append", default=[], metavar="NAME=VALUE", help=a_set)),
        (
            f"reproduce {runs} evaluate export data",
            "--data-dir",
            dict(help="an existing folder for data and caches (default: data/; reproduce with --out: OUT/data)"),
        ),
    ]


def _check(options: argparse.Namespace) -> None:
    """ValueError for anything wrong that can be seen before the work starts."""
    if "dataset" in options and options.command != "score":
        options.dataset = existing_dataset(options.dataset)
    if "set" in options:
        wrong = [text for text in options.set if "=" not in text]
        if wrong:
            raise ValueError(f"--set {wrong[0]}: valid is NAME=VALUE, as steps=3000")
        options.set = ", ".join(options.set)
        parse_changes(options.set)
    if getattr(options, "data_dir", None):
        folder = Path(options.data_dir).expanduser().resolve()
        if not folder.is_dir():
            raise ValueError(f"--data-dir {options.data_dir}: there is no such folder")
        options.data_dir = folder
    if options.command in CHECKS:
        CHECKS[options.command](options)
    elif options.command == "settings":
        options.config = make_config(options.profile, variant=options.variant, changes=options.set)
    elif options.command == "bench":
        options.sizes = parse_numbers(options.sizes, "sizes", 100, 1_000_000)
        options.batch = parse_number(options.batch, "batch", 2, 65_536)
        options.config = make_config(options.profile, changes=options.set)
    elif options.command in FOLDERS:
        seed = parse_number(getattr(options, "seed", "0"), "seed", 0, 10_000)
        variant = getattr(options, "variant", "encdiff")
        config = options.config = make_config(options.profile, options.dataset, variant, seed, options.set)
        check_images(config)
        name = FOLDERS[options.command].format(variant=variant, seed=config.seed)
        options.folder = Path(options.folder).expanduser() if options.folder else _study_folder(config) / name
        check_writable(options.folder, "--folder")


def train(options: argparse.Namespace) -> None:
    """Train one variant with one seed, then evaluate it."""
    from tqdm import tqdm

    from dyga.explore.run import load_run
    from dyga.study.evaluation import evaluate
    from dyga.training.gradients import make_accelerator
    from dyga.training.loop import train

    config, main_process = options.config, make_accelerator().is_main_process
    folder = options.folder
    with tqdm(
        total=config.steps, desc=folder.name, mininterval=10, delay=1, ascii=True, unit="step", disable=not main_process
    ) as bar:
        for record in train(config, folder, options.data_dir):
            bar.update(record["step"] - bar.n)
            bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
    if main_process:
        _print_metrics(evaluate(load_run(folder, options.data_dir)))


def first_stage(options: argparse.Namespace) -> None:
    """Train the first stage that a study's runs share."""
    from dyga.training.first_stage import train_first_stage

    train_first_stage(options.config, options.folder, options.data_dir)


def factor_classifier(options: argparse.Namespace) -> None:
    """Train the classifier that reads factors from decoded images."""
    from dyga.study.interventions import train_factor_classifier

    train_factor_classifier(options.config, options.folder, options.data_dir)


def baselines(options: argparse.Namespace) -> None:
    """Fit and measure PCA, ICA and beta-TCVAE on the same data."""
    from dyga.study.baselines import run_baselines

    for method, values in run_baselines(options.config, options.folder, options.data_dir).items():
        print(method, end="  ")
        _print_metrics(values)


def evaluate(options: argparse.Namespace) -> None:
    """Measure a trained run: codes and metrics.json; with --suite print the eight standard metrics."""
    from dyga.explore.run import load_run
    from dyga.study.evaluation import evaluate, suite

    run = load_run(options.folder, options.data_dir)
    _print_metrics(evaluate(run))
    if options.suite:
        print(suite(run, options.suite).to_string(index=False, float_format="{:.3f}".format))


def export(options: argparse.Namespace) -> None:
    """Write one folder with a trained run and its model card, to give away; load_run opens it anywhere."""
    from dyga.explore.run import load_run

    folder = load_run(options.run, options.data_dir).export(options.folder, options.half)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


def data(options: argparse.Namespace) -> None:
    """List the data sets, or download, check and prepare one."""
    from dyga.data import CATALOG, RENDERED, data_folder, prepare_dataset

    if options.what == "list":
        where = data_folder(options.data_dir)
        for name in RENDERED:
            print(f"{name:18}  {DATASETS[name].images:,} images, rendered by this package at the first use (kept in {where})")
        for name, source in CATALOG.items():
            state = "prepared" if (where / name / "state.json").exists() else "not prepared"
            first, names = source.files[0], " and ".join(file.name for file in source.files)
            manual = f"from {first.page}, to be downloaded manually ({names} in {where})"
            origin = f"from {first.url.split('/')[2]}" if first.url else manual
            print(f"{name:18}  {source.count:,} images, {origin}, licence: {source.licence}; {state}")
        for own, what in OWN.items():
            print(f"{own:18}  {what}")
        return
    dataset = prepare_dataset(options.dataset, options.data_dir)
    pairs = zip(dataset.factor_names, dataset.factor_sizes, strict=True)
    print(f"{options.dataset}: {len(dataset.images):,} images; {', '.join(f'{n} {s}' for n, s in pairs) or 'no factors'}")


def bench(options: argparse.Namespace) -> None:
    """Measure the anchors against scikit-learn's, how fast the explorers answer, or a training step."""
    from dyga.explore.run import load_run
    from dyga.study.bench import bench_anchors, bench_explorers, bench_training

    if options.what == "train":
        print(bench_training(options.config, options.batch).to_string(index=False, float_format="{:.4g}".format))
        return
    if options.what == "explorers":
        print(bench_explorers(load_run(options.run)).to_string(index=False, float_format="{:.1f}".format))
        return
    print(bench_anchors(options.sizes).set_index("n").T.to_string(float_format="{:.4g}".format))


def _study_folder(config: Config) -> Path:
    return ROOT / "runs" / study_name(config.profile, config.dataset, config.changes)


def _print_metrics(values: dict) -> None:
    shown = {name: value for name, value in values.items() if isinstance(value, float)}
    print("  ".join(f"{name} {value:.3f}" for name, value in shown.items()) or values.get("note", ""))


def settings(options: argparse.Namespace) -> None:
    """List every setting: value, the paper's value, meaning, and why a profile departs from the paper."""
    rows = describe_settings(options.config)
    widths = {key: max(len(row[key]) for row in rows) for key in ("name", "value", "paper")}
    print("  ".join(key.ljust(width) for key, width in widths.items()) + "  meaning")
    for row in rows:
        reason = f"  [{row['reason']}]" if row["reason"] else ""
        print("  ".join(row[key].ljust(width) for key, width in widths.items()) + f"  {row['meaning']}{reason}")


COMMANDS = {
    "reproduce": reproduce_command.reproduce,
    "train": train,
    "first-stage": first_stage,
    "factor-classifier": factor_classifier,
    "baselines": baselines,
    "evaluate": evaluate,
    "export": export,
    "score": score_command.score,
    "settings": settings,
    "data": data,
    "bench": bench,
}
# What `_options` and `_check` leave to the two commands with a file of their own.
OWN_OPTIONS = {"reproduce": reproduce_command.add_options, "score": score_command.add_options}
CHECKS = {"reproduce": reproduce_command.check_options, "score": score_command.check_options}

if __name__ == "__main__":
    main()
