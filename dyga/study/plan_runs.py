"""Makes the planned runs and measures them: the table of all measures of all runs."""

import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from dyga import metrics
from dyga.config import Config
from dyga.data import load_dataset, prepare_dataset
from dyga.explore.run import Run, load_run
from dyga.kept import CLASSIFIER, FIRST_STAGE
from dyga.provenance import git_commit, locked, write_atomically, write_json
from dyga.study import ablation, answers
from dyga.study.evaluation import evaluate, evaluation_rows, sample_sizes, score
from dyga.study.interventions import intervention_scores, train_factor_classifier
from dyga.study.plan import MEASURED, TABLE, Plan, in_table, key, read_plan, run_folder
from dyga.study.study import Study
from dyga.study.workers import run_workers
from dyga.training.first_stage import train_first_stage
from dyga.training.loop import train

COMMIT = "commit.txt"  # in a run's folder: where its training began


def make_planned(root: Path, data_dir: Path | None) -> Path:
    """Makes the runs that are missing, in worker processes and in the plan's order, then the tables, figure and text of the
    answers in `root`/figures/plan, which is returned. Runs that its table holds already are not made again. Several processes may
    do this side by side: each run is made by one. An interruption still writes the table. ValueError if a folder holds runs of
    other data or settings."""
    plan, commands, listed = read_plan(), [], in_table(root)
    for part in plan.parts:
        for world in part.worlds:
            prepare_dataset(world, data_dir)
            seeds = ",".join(map(str, part.seeds))
            Study(world, part.profile, ",".join(part.variants), seeds, str(root), str(data_dir or "")).claim()
    for config in plan.configs():
        folder, which = run_folder(config, root), [config.dataset, config.profile, config.variant, str(config.seed)]
        if not (folder / MEASURED).exists() and key(config) not in listed:
            where = [str(data_dir or ""), str(folder)]
            commands.append([sys.executable, "-m", "dyga.study.plan_worker", *which, *where])
    try:
        run_workers(commands)
    finally:
        (root / TABLE).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(root / TABLE, gzip.compress(table(plan, root).to_csv(index=False).encode(), mtime=0))
    answers.write((root / TABLE).parent)
    return (root / TABLE).parent


def make_run(config: Config, folder: Path, data_dir: Path | None) -> None:
    """Trains, evaluates and measures a run. Its measures.json also has the commit with which its training began, and the seconds
    of training and measuring. What the runs of its study share is made first. An interrupted run continues where it was."""
    if not (folder / "config.json").exists():
        write_atomically(folder / COMMIT, git_commit())
    for _ in train(config, folder, data_dir):
        pass
    run = load_run(folder, data_dir)
    with locked(folder.parent, patience=3_600, name=".plan.lock"):
        train_first_stage(run.config, folder.parent / FIRST_STAGE, data_dir)
        train_factor_classifier(run.config, folder.parent / CLASSIFIER, data_dir)
    start = time.monotonic()
    evaluate(run)
    values = {name: float(f"{value:.5g}") for name, value in measure(run, read_plan()).items()}
    commit = (folder / COMMIT).read_text() if (folder / COMMIT).exists() else "unknown"
    seconds = round(run.log[-1]["seconds"] + time.monotonic() - start, 1)
    write_json(folder / MEASURED, {"commit": commit, "seconds": seconds, "measures": values})


def measure(run: Run, plan: Plan) -> dict[str, float]:
    """What the plan asks of a run, by name: scores, and values per factor ("lead: scale"), per active unit ("purity: unit 5") and
    for both ("nmi: scale, unit 5").

    A model whose images have correlated factors is scored on the images of another world, with the axes of its own ones; its
    scores on its own images have ", own images" in their names.
    """
    config, names, scores = run.config, run.data.factor_names, run.metrics
    decoded = ablation.decoded_scores(run)
    values = ablation.named(scores | decoded, names)
    if plan.worlds[config.dataset] != config.dataset:
        scores = _scores_on(run, plan.worlds[config.dataset])
        measured = ablation.named(scores, names)
        values |= {f"{name}, own images": values[name] for name in measured} | measured
    values |= {"informativeness": scores["dci_informativeness"], "active units": float(sum(scores["active"]))}
    for unit in np.flatnonzero(scores["active"]).tolist():
        values[f"purity: unit {unit}"] = scores["knn_purity_per_unit"][unit]
        values |= {f"nmi: {name}, unit {unit}": scores["nmi"][unit][i] for i, name in enumerate(names)}
    read = {f"decoded accuracy: {r['factor']}": r["decoded_accuracy"] for r in intervention_scores(run)}
    values |= read | {"decoded accuracy": float(np.mean([*read.values()])), "PSNR": decoded["psnr"]}
    return values | _regressions(run, plan.ordered(config.dataset))


def _scores_on(run: Run, world: str) -> dict:
    data = load_dataset(world, run.data_dir)
    rows = evaluation_rows(run.config, data)
    features = np.concatenate([run.encode(data.images[rows[i : i + 500]]) for i in range(0, len(rows), 500)])
    return score(run.project(features), features, data.factors[rows], data.factor_names, run.config)


def _regressions(run: Run, ordered: list[str]) -> dict[str, float]:
    """R2 of the ordered factors, each and their mean."""
    if not ordered:
        return {}
    saved, columns = run.projection, [run.data.factor_names.index(name) for name in ordered]
    sizes = sample_sizes(run.config, len(saved["rows"]))
    found = metrics.r_squared(saved["codes"], run.data.factors[saved["rows"]][:, columns], **sizes)
    values = {"R2, linear": found.linear, "R2, boosted": found.boosted}
    for method, each in (("linear", found.linear_per_factor), ("boosted", found.boosted_per_factor)):
        values |= {f"R2, {method}: {name}": value for name, value in zip(ordered, each.tolist(), strict=True)}
    return values


def table(plan: Plan, root: Path) -> pd.DataFrame:
    """One row per finished run and measure: world, variant, seed, steps, commit, measure, value. Runs without a folder here come
    from the table that is there already."""
    listed, rows = answers.read_runs(root / TABLE), []
    listed = dict(list(listed.groupby(["world", "variant", "seed", "steps"])))
    for config in plan.configs():
        path, run = run_folder(config, root) / MEASURED, key(config)
        if path.exists():
            found = json.loads(path.read_text())
            rows += [(*run, found["commit"], name, value) for name, value in found["measures"].items()]
        elif run in listed:
            rows += listed[run].itertuples(index=False)
    return pd.DataFrame(rows, columns=list(answers.COLUMNS))
