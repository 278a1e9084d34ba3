"""Answers to the plan's questions, from made-up runs whose effects are known."""

import gzip

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from dyga.study import answers
from dyga.study.plan import TABLE, in_table, read_plan
from dyga.study.statistics import holm, stratified_difference

PLAN = read_plan()
REFERENCE = ROOT / "figures" / "reference"


def made_up(noise: float = 0.01, **effects: float) -> pd.DataFrame:
    """All planned runs. Worlds and seeds differ a lot; a variant's effect is the same everywhere, for every measure."""
    rng, rows = np.random.default_rng(0), []
    level = {(world, seed): rng.normal(0.5, 0.2) for world in PLAN.worlds for seed in range(40, 45)}
    for config in PLAN.configs():
        for measure in PLAN.smallest:
            value = level[config.dataset, config.seed] + effects.get(config.variant, 0) + rng.normal(0, noise)
            rows.append((config.dataset, config.variant, config.seed, config.steps, "abc", measure, value))
    return pd.DataFrame(rows, columns=list(answers.COLUMNS))


def answered(runs: pd.DataFrame, world: str = answers.ALL) -> dict[str, str]:
    found = answers.answers(runs, PLAN)
    return found[found["world"] == world].set_index("question")["answer"].to_dict()


def test_known_effects_are_found_and_no_effect_is_said_to_be_none():
    found = answered(made_up(anchoring=0.08, full=0.08, pruned=-0.1))
    assert found["anchoring"] == found["anchoring sharpens borders"] == found["both of the paper's ideas"] == "helps"
    assert found["pruning and merging"] == found["decorrelation"] == "hurts"
    assert found["skip dropout"].startswith("no effect larger than .0")
    assert all(
        name.startswith(("helps", "hurts", "no effect")) for name in answered(made_up(0.003, anchoring=0.08), "arm3d").values()
    )


def test_a_small_effect_that_is_certain_has_its_bound():
    runs = made_up(noise=0.001, anchoring=0.004, full=0.004)
    row = answers.answers(runs, PLAN).set_index(["question", "world"]).loc[("anchoring", answers.ALL)]
    bound = float(row["answer"].removeprefix("helps, by at most "))
    assert row["high"] <= bound <= row["high"] + 0.001 and row["adjusted p"] < 0.05


def test_noise_leaves_the_question_undecided():
    assert set(answered(made_up(noise=0.2)).values()) == {"undecided"}


def test_the_bound_is_never_rounded_below_the_interval():
    found = answers.answers(made_up(), PLAN)
    none = found[found["answer"].str.startswith("no effect")]
    bounds = none["answer"].str.removeprefix("no effect larger than ").astype(float)
    assert len(none) > 20 and (bounds >= none["high"]).all() and (-bounds <= none["low"]).all() and (bounds <= 0.02).all()


def test_pairs_are_of_a_world_and_a_seed_and_p_is_adjusted_over_the_questions_of_the_part():
    runs = made_up(noise=0.05, anchoring=0.05).sample(frac=1, random_state=0)
    found = answers.answers(runs, PLAN).set_index(["question", "world"])
    wide = runs[(runs["steps"] == 1_100) & (runs["measure"] == "DCI")].pivot(
        index=["world", "seed"], columns="variant", values="value"
    )
    pairs = (wide["anchoring"] + wide["full"] - wide["encdiff"] - wide["skip_dropout"]) / 2
    expected = stratified_difference([pairs[world].to_numpy() for world in PLAN.worlds])
    row = found.loc["anchoring", answers.ALL]
    assert (row["difference"], row["low"], row["p"]) == pytest.approx((expected.mean, expected.low, expected.p))
    assert found.loc[("anchoring", "arm3d"), "difference"] == pytest.approx(pairs["arm3d"].mean())
    primary = found[found["part"] == "primary"].xs("rooms3d", level="world")
    assert primary["adjusted p"].tolist() == pytest.approx(holm(primary["p"]).tolist()) and len(primary) == 6


def test_missing_runs_leave_no_answer():
    runs = made_up(anchoring=0.08, full=0.08)
    some = runs[~((runs["world"] == "faces2d") & (runs["seed"] == 44) & (runs["variant"] == "full"))]
    assert set(list(answered(some).values())[:6]) == set(list(answered(some, "arm3d").values())[:6]) == {"interim"}
    text = answers.section(some, PLAN)
    assert "**173 of 174 planned runs are done.**" in text and "Anchoring" not in text
    assert "1 of 140 runs are missing. There are no results before all are done." in text and text.count("are missing") == 1
    for world in ("faces2d", "arm3d"):  # also of a world whose own runs are all there
        assert "Anchoring" not in " ".join(answers.of_world(some, world))
    assert "**Anchoring: helps.** DCI +.0" in answers.of_world(runs, "arm3d")[3]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    "text",
    ["<<<<<<< HEAD\nrooms3d,full,40,1100\n", "world,variant\nrooms3d,full\n", "world,variant,seed,steps\nrooms3d,full,x,1\n"],
)
def test_a_damaged_table_of_runs_is_named(tmp_path, text, compressed):
    path = tmp_path / TABLE
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    for read in (lambda: in_table(tmp_path), lambda: answers.read_runs(path)):
        with pytest.raises(ValueError, match=r"study\.csv\.gz: damaged, or no table of planned runs; its columns are world,"):
            read()


def test_no_run_is_no_result():
    text = answers.section(answers.read_runs(REFERENCE / "absent.csv"), PLAN)
    assert "**0 of 174 planned runs are done.**" in text and "Anchoring" not in text


def test_the_figure_has_a_dot_for_every_pair():
    drawn = answers.figure(made_up(), PLAN)
    dots = sum(len(each.get_offsets()) for each in drawn.axes[0].collections)
    assert isinstance(drawn, Figure) and dots == 6 * 20 + 2 * 10


def test_the_figure_leaves_out_parts_with_missing_runs():
    drawn = answers.figure(made_up().query("variant != 'decorrelated_subspace'"), PLAN)
    assert sum(len(each.get_offsets()) for each in drawn.axes[0].collections) == 6 * 20


def test_results_are_written_into_the_page_once(tmp_path):
    runs = made_up(anchoring=0.08)
    runs.to_csv(tmp_path / answers.CSV, index=False)
    (tmp_path / "README.md").write_text("# Results\n\nWords.\n\n## Older\n\nNumbers.\n")
    for _ in range(2):
        answers.write(tmp_path)
        page = (tmp_path / "README.md").read_text()
        assert page.count("## The study\n") == 1 and page.endswith("\n\n## Older\n\nNumbers.\n")
        assert answers.section(answers.read_runs(tmp_path / answers.CSV), PLAN) in page
    assert {"study.png", "study.json", "study_answers.csv"} <= {path.name for path in tmp_path.iterdir()}
    assert "](study.png)" in page


def test_there_is_no_figure_before_all_runs_of_a_part_are_done(tmp_path):
    made_up()[1:].query("seed < 44").to_csv(tmp_path / answers.CSV, index=False)
    answers.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {answers.CSV, "README.md"}
    page = (tmp_path / "README.md").read_text()
    assert "study.png" not in page and "(study.csv.gz)" in page and page.count("are missing") == 2


def test_the_results_page_says_what_the_table_of_runs_says():
    """All numbers of its section "The study" are computed anew. `answers.write(folder)` brings the page up to date."""
    page = (REFERENCE / "README.md").read_text()
    assert answers.with_section(page, answers.read_runs(REFERENCE / answers.CSV), PLAN) == page
