"""The numbers of README and of the results page are those of the tables that come with the project."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from dyga.study.statistics import paired_difference

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


@pytest.mark.parametrize("variant", ["encdiff", "full", "pruned"])
def test_held_out_seeds(variant):
    runs = pd.read_csv(REFERENCE / "heldout_quick.csv")
    own = runs[runs["variant"] == variant]
    assert len(own) == 3 and set(own["seed"]) == {30, 31, 32}
    scores = [spread(own[name]) for name in ("FactorVAE score", "DCI", "completeness", "MIG")]
    isolated = [spread(own[f"interchange, {units}"]) for units in ("one unit", "all units")]
    assert [variant, "1,100", *scores, spread(own["interchange, one unit"], 2)] in rows(PAGES["README.md"].read_text())
    psnr = f"{own['PSNR'].mean():.1f} ± {short(own['PSNR'].std(), 1)}"
    assert [variant, *scores, spread(own["k-NN purity"]), *isolated, psnr] in rows(PAGES["results"].read_text())


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


@pytest.mark.parametrize("images", ["faces2d", "faces2d_correlated"])
def test_the_correlated_faces(images):
    page, runs = rows(PAGES["results"].read_text()), pd.read_csv(REFERENCE / "correlated_quick.csv")
    names = ["FactorVAE score", "DCI", "completeness", "MIG", "TAD"]
    own = runs[runs["images"] == images].pivot(index="seed", columns="variant", values=names)
    assert list(own.index) == [30, 31, 32, 33, 34] and own.notna().all(axis=None)
    for variant in ("full", "decorrelated"):
        assert [images, variant, *(spread(own[name, variant]) for name in names)] in page
    found = [paired_difference(own[name, "decorrelated"].to_numpy(), own[name, "full"].to_numpy()) for name in names]
    differences = [f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]".replace("-", "−") for d in found]
    assert [images, "difference [95%]", *differences] in page
