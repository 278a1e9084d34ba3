"""The ablation's measures and answers."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from dyga import load_run
from dyga.config import VARIANTS
from dyga.study import ablation


def made_up(**means: float) -> pd.DataFrame:
    """Three seeds a variant with small, different noise; the error is one less the score."""
    rng = np.random.default_rng(0)
    rows = [{"variant": v, "seed": s, "DCI": m + rng.normal(0, 0.005)} for v, m in means.items() for s in (4, 7, 5)]
    return pd.DataFrame(rows).assign(**{"reconstruction error": lambda t: 1 - t["DCI"]})


def test_every_comparison_is_of_as_many_known_variants_on_either_side():
    assert all(
        len(with_it.split("+")) == len(without.split("+")) and {*with_it.split("+"), *without.split("+")} <= set(VARIANTS)
        for _, with_it, without in ablation.COMPARISONS
    )


def test_answers_are_paired_by_seed_whatever_the_order():
    runs = made_up(encdiff=0.5, skip_dropout=0.6).sample(frac=1, random_state=1)
    (row,) = ablation.answers(runs, ("DCI",)).to_dict("records")
    wide = runs.pivot(index="seed", columns="variant", values="DCI")
    assert row["difference"] == pytest.approx((wide["skip_dropout"] - wide["encdiff"]).mean())
    assert (row["does it help?"], row["verdict"], row["seeds"]) == ("skip dropout", "helps", 3)
    assert row["low"] < 0.1 < row["high"] and row["seeds for half"] >= 2


def test_a_smaller_error_helps():
    found = ablation.answers(made_up(encdiff=0.5, anchoring=0.7), ("DCI", "reconstruction error"))
    assert found["verdict"].tolist() == ["helps", "helps"]
    assert found["difference"].iloc[0] == pytest.approx(found["difference"].iloc[1])


def test_verdicts_count_the_questions_of_a_measure():
    few = made_up(encdiff=0.5, anchoring=0.52)
    (alone,) = ablation.answers(few, ("DCI",)).to_dict("records")
    assert alone["p"] == alone["adjusted p"]
    found = ablation.answers(made_up(encdiff=0.5, anchoring=0.52, skip_dropout=0.5, full=0.51), ("DCI", "reconstruction error"))
    assert (found["adjusted p"] >= found["p"]).all() and (found["adjusted p"] > found["p"]).any()
    smallest = found[found["measure"] == "DCI"].sort_values("p").iloc[0]
    assert smallest["adjusted p"] == pytest.approx(min(1, smallest["p"] * (found["measure"] == "DCI").sum()))


def test_a_mean_effect_averages_seed_by_seed():
    means = dict(encdiff=0.5, anchoring=0.6, skip_dropout=0.5, full=0.7)
    runs = made_up(**means, decorrelated_without_anchoring=0.5, decorrelated=0.8)
    found = ablation.answers(runs, ("DCI",)).set_index("does it help?")["difference"]
    parts = found[["anchoring", "anchoring, on top of skip dropout", "anchoring, on top of skip dropout and decorrelation"]]
    assert found["anchoring, mean of the three below"] == pytest.approx(parts.mean())
    incomplete = runs[(runs["variant"] != "full") | (runs["seed"] != 4)]
    counts = ablation.answers(incomplete, ("DCI",)).set_index("does it help?")["seeds"]
    assert counts["anchoring, mean of the three below"] == 2 and counts["anchoring"] == 3


def test_a_missing_value_of_one_variant_leaves_no_mean_of_the_others():
    runs = made_up(encdiff=0.5, full=0.7)
    runs.loc[(runs["variant"] == "full") & (runs["seed"] == 4), "DCI"] = np.nan
    means = ablation.by_seed(runs, ["encdiff", "full"], ["DCI"])["DCI"]
    assert np.isnan(means[4]) and means[[5, 7]].between(0.57, 0.63).all()


def test_a_single_unit_leads_by_all_it_has():
    row = ablation.named({"nmi": [[0.5, 0.0]]}, ["scale", "shape"])
    assert row == {"best: scale": 0.5, "lead: scale": 0.5, "best: shape": 0.0, "lead: shape": 0.0}


def test_seeds_that_only_one_side_has_do_not_count():
    runs = made_up(encdiff=0.5, anchoring=0.7)
    few = runs[(runs["variant"] == "encdiff") | (runs["seed"] == 4)]
    assert ablation.answers(few, ("DCI",)).empty
    assert ablation.in_words(ablation.answers(few, ("DCI",))) == [
        "Several seeds of a variant with and without an idea are needed for an answer."
    ]


def test_in_words():
    (line,) = ablation.in_words(ablation.answers(made_up(encdiff=0.5, anchoring=0.7), ("DCI",)))
    assert line.startswith("- **Anchoring**: DCI +0.") and line.endswith("(helps), 3 seeds.")


def test_a_run_is_measured_once(study, monkeypatch):
    run = load_run(study / "runs" / "rooms3d-smoke" / "encdiff-seed0", study / "data")
    row = ablation.measure(run)
    path = run.folder / "ablation.json"
    assert set(ablation.MEASURES.values()) <= set(row) and json.loads(path.read_text()) == row
    assert row["DCI"] == run.metrics["dci_disentanglement"] and 0 < row["reconstruction error"] < 1
    best = np.sort(np.array(run.metrics["nmi"]), axis=0)
    assert row["lead: shape"] == pytest.approx(best[-1, 4] - best[-2, 4])
    monkeypatch.setattr(ablation, "_measure", None)
    assert ablation.table({("encdiff", 0): run}).loc[0, "MIG"] == row["MIG"]
    path.unlink()
    (run.folder / "interventions.json").unlink(missing_ok=True)


def test_the_runs_of_version_0_1_answer_every_question():
    runs = pd.read_csv(ROOT / "figures" / "reference" / "ablation_quick.csv")
    assert set(ablation.MEASURES.values()) <= set(runs) and runs.groupby("variant").size().min() >= 5
    asked = {question for question, *_ in ablation.COMPARISONS}
    assert asked <= set(ablation.answers(runs, ("DCI",))["does it help?"])
