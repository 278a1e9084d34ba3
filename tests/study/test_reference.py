"""The numbers of README and of the results page are those of the tables that come with the project."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from dyga.data import known_factors
from dyga.study import answers
from dyga.study.plan import Question, read_plan
from dyga.study.statistics import stratified_difference

REFERENCE = ROOT / "figures" / "reference"
PAGES = {"README.md": ROOT / "README.md", "results": REFERENCE / "README.md"}


def rows(text: str) -> list[list[str]]:
    """The cells of all tables of a Markdown text, row by row."""
    return [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in text.splitlines() if line.startswith("|")]


def short(value: float, digits: int = 3) -> str:
    """.123 or 1.000."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if value < 1 else f"{value:.{digits}f}"


def spread(values: pd.Series, digits: int = 3) -> str:
    return f"{short(values.mean(), digits)} ± {short(values.std(), digits)}"


def planned(world: str, variant: str, measure: str) -> pd.Series:
    """The values of the study's five runs."""
    runs = answers.read_runs(REFERENCE / answers.CSV)
    own = runs[(runs["world"] == world) & (runs["variant"] == variant) & (runs["steps"] == 1_100) & (runs["measure"] == measure)]
    assert set(own["seed"]) == {40, 41, 42, 43, 44} and len(own) == 5
    return own["value"]


@pytest.mark.parametrize("variant", ["encdiff", "full", "decorrelated_without_skip_dropout", "pruned"])
def test_scores_of_the_study(variant):
    scores = [spread(planned(world, variant, name)) for name in ("DCI", "MIG") for world in ("rooms3d", "arm3d", "faces2d")]
    assert [f"`{variant}`", *scores] in rows(PAGES["README.md"].read_text())


@pytest.mark.parametrize("world", ["rooms3d", "arm3d", "faces2d"])
@pytest.mark.parametrize("variant", ["encdiff", "full", "pruned"])
def test_decoded_accuracy(world, variant):
    named = [f"decoded accuracy: {name}" for name in known_factors(world)[1]]
    assert [variant, *(spread(planned(world, variant, name), 2) for name in named)] in rows(PAGES["results"].read_text())


def test_readme_gives_the_answers_of_the_study():
    plan = read_plan()
    found = answers.answers(answers.read_runs(REFERENCE / answers.CSV), plan).set_index(["question", "world"])
    readme = " ".join(PAGES["README.md"].read_text().split())
    for question in ("decorrelation", "anchoring", "skip dropout", "pruning and merging"):
        row = found.loc[question, answers.ALL]
        assert answers.numbers(row) in readme, question


def test_mig_of_pruned():
    runs = answers.read_runs(REFERENCE / answers.CSV)
    (part,) = [part for part in read_plan().parts if part.name == "primary"]
    question = Question("MIG", "pruned", "decorrelated_without_skip_dropout", "MIG")
    found = answers.differences(runs, part, question)
    strata_of = {"All worlds": list(found.values())} | {world: [values] for world, values in found.items()}
    for world, strata in strata_of.items():
        mean = stratified_difference([values.to_numpy() for values in strata])
        interval = answers.numbers({"difference": mean.mean, "low": mean.low, "high": mean.high, "adjusted p": np.nan})
        assert f"{world}: {interval}" in PAGES["results"].read_text()
        assert world != "All worlds" or f"MIG rises: {interval} (not planned)" in PAGES["README.md"].read_text()


def test_how_far_anchoring_moves_features():
    runs, page = pd.read_csv(REFERENCE / "anchor_shift.csv"), PAGES["results"].read_text()
    assert len(runs) == 40 and set(runs["variant"]) == {"anchoring", "full"} and set(runs["seed"]) == {40, 41, 42, 43, 44}
    moved, most, count = (runs[name].mean() for name in ("shift", "shift_95", "anchors"))
    assert f"by {moved:.2%} of its unit's standard deviation (median; 95% of the features by less than {most:.2%})" in page
    assert f"A unit has {count:.0f} anchors on average" in page
    assert f"moves features by only {moved:.1%} of their spread" in PAGES["README.md"].read_text()


def test_what_the_second_number_of_merged_units_adds():
    runs, page = pd.read_csv(REFERENCE / "pruned_numbers.csv"), PAGES["results"].read_text()
    assert runs.groupby("world")["seed"].apply(list).tolist() == [[40, 41, 42, 43, 44]] * 4
    gain = runs.assign(gain=runs["dci_all_numbers"] - runs["dci_first_component"]).groupby("world")["gain"].mean()
    assert all(f"{short(gain[world])} on {world}" in page for world in gain.index)
    assert f"This is {short(gain.mean())} on average, of the .103 by which pruning and merging lower DCI." in page


def test_the_worlds():
    page = rows(PAGES["results"].read_text())
    runs = pd.read_csv(REFERENCE / "worlds_seed30.csv")
    assert len(runs) == 24 and set(runs["seed"]) == {30}
    for run in runs.to_dict("records"):
        names = ("factor_vae_score", "dci_disentanglement", "dci_completeness", "mig", "isolated_one_unit", "tad")
        scores = ["–" if np.isnan(run[name]) else short(run[name]) for name in names]
        steps = "–" if np.isnan(run["steps"]) else f"{run['steps']:,.0f}"
        captured = "–" if np.isnan(run["captured"]) else f"{run['captured']:.0f}"
        assert [run["world"], run["method"], steps, *scores, captured] in page, run


@pytest.mark.parametrize("world", ["rooms3d", "arm3d", "faces2d"])
def test_the_rows_with_11000_steps_are_the_pretrained_models(world):
    runs = pd.read_csv(REFERENCE / "worlds_seed30.csv")
    (run,) = runs[(runs["world"] == world) & (runs["steps"] == 11_000)].to_dict("records")
    folder = ROOT / "data" / "pretrained" / world
    measured = json.loads((folder / "metrics.json").read_text())
    for name in ("factor_vae_score", "dci_disentanglement", "dci_completeness", "mig"):
        assert run[name] == pytest.approx(measured[name], abs=1e-4)
    records = json.loads((folder / "interventions.json").read_text())
    isolated = [record["isolated"] for record in records if record["moved"] == "interchange, one unit"]
    assert run["isolated_one_unit"] == pytest.approx(np.nanmean(isolated), abs=1e-4)


def test_the_default_run():
    page = rows(PAGES["results"].read_text())
    for name in ("scores", "baselines"):
        table = pd.read_csv(REFERENCE / f"{name}.csv")
        assert len(table) >= 3
        for run in table.to_dict("records"):
            columns = ("FactorVAE score", "DCI disentanglement", "DCI completeness", "MIG", "k-NN purity")
            assert [run.get("method", run.get("variant")), *(short(run[column]) for column in columns)] in page, run


def test_binary_attributes():
    page, runs = rows(PAGES["results"].read_text()), pd.read_csv(REFERENCE / "faces2d_tad.csv")
    assert runs.groupby("variant")["seed"].agg(set).eq({40, 41, 42, 43, 44}).all() and runs["variant"].nunique() == 7
    for variant, own in runs.groupby("variant"):
        assert [variant, spread(own["TAD"], 2), spread(own["captured"], 1)] in page


def test_variants_of_version_0_1():
    page, runs = rows(PAGES["results"].read_text()), pd.read_csv(REFERENCE / "ablation_quick.csv")
    for variant in ("decorrelated", "two_scalars", "decorrelated_quantised"):
        own = runs[runs["variant"] == variant]
        names = ("FactorVAE score", "DCI", "completeness", "MIG", "interchange, one unit")
        assert [variant, *(spread(own[name]) for name in names)] in page
