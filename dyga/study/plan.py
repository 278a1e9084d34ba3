"""The study's plan, plan.toml: its questions, its runs in their order, and its test. Standard library only."""

import csv
import gzip
import json
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dyga.config import Config, make_config, parse_numbers, study_name

PLAN = Path(__file__).with_name("plan.toml")
MEASURED = "measures.json"  # in a run's folder
TABLE = Path("figures", "plan", "study.csv.gz")  # all numbers of all runs, compressed to a tenth


class Question(NamedTuple):
    """Does an idea help? The variants with and without it, several joined by "+", and the one measure that answers."""

    name: str
    with_it: str
    without: str
    measure: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (*self.with_it.split("+"), *self.without.split("+"))


@dataclass(frozen=True)
class Part:
    """Some worlds, variants and seeds in one profile, and the questions that their runs answer; p values are adjusted over them.
    `ordered` names, for some worlds, the factors whose values are read as numbers."""

    name: str
    profile: str
    worlds: tuple[str, ...]
    seeds: tuple[int, ...]
    variants: tuple[str, ...]
    questions: tuple[Question, ...] = ()
    ordered: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The steps of each run."""
        return make_config(self.profile).steps

    def configs(self) -> list[Config]:
        """The settings of its runs, seed by seed."""
        return [make_config(self.profile, w, v, s) for s in self.seeds for w in self.worlds for v in self.variants]


@dataclass(frozen=True)
class Plan:
    """`worlds` has the world on whose images each world's runs are measured; `smallest` the smallest difference that matters, by
    measure; `level` that of the test; `seconds` those of one core for a run, by profile."""

    worlds: Mapping[str, str]
    parts: tuple[Part, ...]
    level: float
    smallest: Mapping[str, float]
    seconds: Mapping[str, float]

    def configs(self) -> list[Config]:
        """The settings of all runs in their order; a run that two parts need stands at its first place."""
        return list(dict.fromkeys(config for part in self.parts for config in part.configs()))

    def ordered(self, world: str) -> list[str]:
        """The factors of a world whose values are read as numbers."""
        return [name for part in self.parts for name in part.ordered.get(world, ())]


def run_folder(config: Config, root: Path) -> Path:
    """The folder of a planned run: that of an ordinary study of its world and profile, so that a run is made once for both."""
    return root / "runs" / study_name(config.profile, config.dataset) / f"{config.variant}-seed{config.seed}"


def key(config: Config) -> tuple[str, str, int, int]:
    """What identifies a run in the table: world, variant, seed, steps."""
    return config.dataset, config.variant, config.seed, config.steps


def in_table(root: Path) -> set[tuple[str, str, int, int]]:
    """The keys of the runs in the table of `root`. They are done, also if they were made elsewhere and have no folder here."""
    if not (root / TABLE).exists():
        return set()
    try:
        with gzip.open(root / TABLE, "rt", newline="") as file:
            return {(row["world"], row["variant"], int(row["seed"]), int(row["steps"])) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError, OSError, EOFError, csv.Error, zlib.error):
        raise damaged_table(root / TABLE) from None


def damaged_table(path: Path) -> ValueError:
    """The error for a file that is not a table of runs."""
    return ValueError(f"{path}: damaged, or no table of planned runs; its columns are world, variant, seed, steps, commit, ...")


def forecast(plan: Plan, root: Path, workers: int) -> str:
    """How many runs are planned and how many `root` has; the hours that the rest takes. A run takes as long as those of its
    profile that are done in `root`, or as the plan says if there is none."""
    here: dict[str, list[float]] = {}
    rest, listed = [], in_table(root)
    for config in plan.configs():
        path = run_folder(config, root) / MEASURED
        if path.exists():
            here.setdefault(config.profile, []).append(json.loads(path.read_text())["seconds"])
        elif key(config) not in listed:
            rest.append(config.profile)
    each = plan.seconds | {profile: sum(found) / len(found) for profile, found in here.items()}
    hours = sum(each[profile] for profile in rest) / 3_600
    origin = {profile: "measured here" if profile in here else "as the plan says" for profile in each}
    known = [f"{profile} {seconds:,.0f} s, {origin[profile]}" for profile, seconds in each.items()]
    return (
        f"the plan: {len(plan.configs())} runs, {len(plan.configs()) - len(rest)} of them done in {root}; the rest takes "
        f"{hours:.1f} hours of one core, about {hours / workers:.1f} with {workers} at a time here (a run: {'; '.join(known)})"
    )


def read_plan(path: Path = PLAN) -> Plan:
    """The plan of a file. ValueError if a question's variants are not all planned, or its measure has no smallest effect."""
    found = tomllib.loads(path.read_text())
    test = found["test"]
    plan = Plan(found["worlds"], tuple(map(_part, found["parts"])), test["level"], test["smallest"], found["seconds"])
    for part in plan.parts:
        for question in part.questions:
            missing = [name for name in question.variants if name not in part.variants]
            if missing:
                raise ValueError(f"{path.name}: {question.name}: {missing[0]} is not among the runs of '{part.name}'")
            if question.measure not in plan.smallest:
                raise ValueError(f"{path.name}: {question.name}: the smallest effect in {question.measure} is not given")
    return plan


def _part(found: dict[str, Any]) -> Part:
    questions = tuple(Question(q["question"], q["with"], q["without"], q["measure"]) for q in found.get("questions", ()))
    seeds = parse_numbers(found["seeds"], "seeds", 0, 10_000)
    names = {"name": found["name"], "profile": found["profile"], "ordered": found.get("ordered", {})}
    return Part(worlds=tuple(found["worlds"]), seeds=seeds, variants=tuple(found["variants"]), questions=questions, **names)
