"""The study's plan."""

import tomllib

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy.stats import nct
from scipy.stats import t as student

from dyga.data import arm3d, rooms3d
from dyga.study.plan import PLAN, read_plan

WORLDS = ["rooms3d", "arm3d", "faces2d", "faces2d_correlated"]


def test_the_plan_asks_six_primary_questions_of_four_worlds_and_held_out_seeds():
    plan = read_plan()
    primary, _, longer = plan.parts
    assert [len(part.questions) for part in plan.parts] == [6, 2, 0]
    assert primary.seeds == (40, 41, 42, 43, 44) and len(primary.variants) == 7
    assert list(primary.worlds) == WORLDS and plan.worlds["faces2d_correlated"] == "faces2d"
    assert [question.measure for question in primary.questions] == ["DCI"] * 5 + ["k-NN purity"]
    assert {config.steps for config in primary.configs()} == {1_100} and {c.steps for c in longer.configs()} == {4_400}
    assert all(len(q.with_it.split("+")) == len(q.without.split("+")) for part in plan.parts for q in part.questions)


def test_an_unfinished_study_has_whole_seeds():
    configs = read_plan().configs()
    assert len(configs) == len(set(configs)) == 4 * 7 * 5 + 2 * 5 + 4 * 3 * 2
    assert [c.seed for c in configs[:140]] == sorted(c.seed for c in configs[:140])
    assert {(c.dataset, c.variant) for c in configs[:28]} == {(c.dataset, c.variant) for c in configs[28:56]}
    assert {c.variant for c in configs[140:150]} == {"decorrelated_subspace"} and configs[150].profile == "longer"


@pytest.mark.parametrize("world", (arm3d, rooms3d), ids=lambda world: world.__name__)
def test_ordered_factors_are_factors_of_their_worlds(world):
    ordered = read_plan().ordered(world.__name__.removeprefix("dyga.data."))
    assert len(ordered) == 2 and set(ordered) <= set(world.FACTORS.names)


@pytest.mark.parametrize("found", tomllib.loads(PLAN.read_text())["parts"][0]["questions"], ids=lambda q: q["question"])
def test_the_numbers_of_seeds_follow_from_the_published_runs(found):
    """The power of a two-sided t test, computed here by the noncentral t distribution."""
    runs, plan = pd.read_csv(ROOT / "figures" / "reference" / "ablation_quick.csv"), tomllib.loads(PLAN.read_text())

    def side(names: str):
        return runs[runs["variant"].isin(names.split("+"))].groupby("seed")[found["measure"]].mean()

    spread = (side(found["with"]) - side(found["without"])).std()
    assert found["published"]["spread"] == pytest.approx(spread, abs=5e-5)

    def needed(worlds: int, level: float) -> int:
        for seeds in range(2, 1_000):
            degrees, effect = worlds * (seeds - 1), plan["test"]["smallest"][found["measure"]]
            seen = nct.sf(student.ppf(1 - level / 2, degrees), degrees, effect / spread * np.sqrt(worlds * seeds))
            if np.nan_to_num(seen, nan=1.0) >= plan["test"]["power"]:
                return seeds
        raise AssertionError

    assert found["published"]["seeds"] == [needed(1, 0.05), needed(4, 0.05)]
    assert found["published"]["seeds_holm"] == [needed(1, 0.05 / 6), needed(4, 0.05 / 6)]


def test_a_plan_that_cannot_answer_its_questions_is_refused(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.read_text().replace('    "pruned",\n', ""))
    with pytest.raises(ValueError, match=r"plan.toml: pruning and merging: pruned is not among the runs of 'primary'"):
        read_plan(path)
    path.write_text(PLAN.read_text().replace('"k-NN purity" = 0.02, ', ""))
    with pytest.raises(ValueError, match="the smallest effect in k-NN purity is not given"):
        read_plan(path)
