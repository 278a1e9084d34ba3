"""The study's plan, plan.toml: its questions, its runs in their order, and its test. Standard library only."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dyga.config import Config, make_config, parse_numbers

PLAN = Path(__file__).with_name("plan.toml")


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
