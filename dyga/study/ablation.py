"""Ablation: paired comparisons of variants with and without an idea, over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dyga import metrics
from dyga.explore.run import Run
from dyga.metrics.mig import gap_of_best_two
from dyga.provenance import kept_json
from dyga.seeds import sample_rows
from dyga.study.interventions import intervention_scores
from dyga.study.statistics import holm, paired_difference, seeds_needed, verdict

# (question, with, without). Scores of variants joined by "+" are averaged seed by seed: the mean effect over what the idea is
# added to.
COMPARISONS = (
    (
        "anchoring, mean of the three below",
        "anchoring+full+decorrelated",
        "encdiff+skip_dropout+decorrelated_without_anchoring",
    ),
    ("anchoring", "anchoring", "encdiff"),
    ("anchoring, on top of skip dropout", "full", "skip_dropout"),
    ("anchoring, on top of skip dropout and decorrelation", "decorrelated", "decorrelated_without_anchoring"),
    (
        "skip dropout, mean of the three below",
        "skip_dropout+full+decorrelated",
        "encdiff+anchoring+decorrelated_without_skip_dropout",
    ),
    ("skip dropout", "skip_dropout", "encdiff"),
    ("skip dropout, on top of anchoring", "full", "anchoring"),
    ("skip dropout, on top of anchoring and decorrelation", "decorrelated", "decorrelated_without_skip_dropout"),
    ("both of the paper's ideas", "full", "encdiff"),
    ("decorrelation and kurtosis, on top of both", "decorrelated", "full"),
    ("anchors' subspaces, decorrelated", "decorrelated_subspace", "decorrelated"),
    ("ten values per unit, decorrelated", "decorrelated_quantised", "decorrelated"),
    ("two scalars per unit", "two_scalars", "decorrelated"),
    ("pruning and merging, decorrelated, no skip dropout", "pruned", "decorrelated_without_skip_dropout"),
)
MEASURES = {
    "factor_vae_score": "FactorVAE score",
    "dci_disentanglement": "DCI",
    "dci_completeness": "completeness",
    "mig": "MIG",
    "knn_purity": "k-NN purity",
    "infomodularity": "InfoM",
    "infocompactness": "InfoC",
    "infoexplicitness": "InfoE",
    "interchange_one": "interchange, one unit",
    "interchange_all": "interchange, all units",
    "reconstruction": "reconstruction error",
}
LOWER_IS_BETTER = ("reconstruction error",)


def measure(run: Run) -> dict:
    """Every measure of `MEASURES` by its title, and per factor the best unit's NMI ("best: scale") and its lead over the second
    best ("lead: scale"); kept in the run's ablation.json.

    Interchange is the share of interchanges in which only the target factor changed, averaged over factors
    (`intervention_scores`). The reconstruction error is the mean absolute difference of 256 images, in shares of the range.
    ValueError without factors or the study's factor classifier and first stage.
    """
    path = run.folder / "ablation.json"
    if not path.exists():
        intervention_scores(run)  # kept before `kept_json` locks the folder, which this does too
    return kept_json(path, lambda: _measure(run))


def _measure(run: Run) -> dict:
    saved, data = run.projection, run.data
    info = metrics.infomec(saved["codes"], data.factors[saved["rows"]], num_train=run.metrics["num_train"], seed=0)
    information = {
        "infomodularity": info.modularity,
        "infocompactness": info.compactness,
        "infoexplicitness": info.explicitness,
    }
    return named(run.metrics | information | decoded_scores(run), data.factor_names)


def decoded_scores(run: Run) -> dict[str, float]:
    """What decoded images say: isolated interchange, and of 256 images the mean absolute error and the mean PSNR."""
    data, records = run.data, intervention_scores(run)
    isolated = {r["moved"]: [s["isolated"] for s in records if s["moved"] == r["moved"]] for r in records}
    images = data.images[sample_rows(len(data.images), min(256, len(data.images)), seed=9)]
    errors = run.decode(run.encode(images)).astype(float) - images
    squares = np.square(errors).mean(axis=(1, 2, 3)).clip(min=1e-2)  # an image without error would have an infinite PSNR
    return {
        "interchange_one": float(np.nanmean(isolated["interchange, one unit"])),
        "interchange_all": float(np.nanmean(isolated["interchange, all units"])),
        "reconstruction": float(np.abs(errors).mean() / 255),
        "psnr": float((10 * np.log10(255**2 / squares)).mean()),
    }


def named(values: Mapping, factor_names: Sequence[str]) -> dict[str, float]:
    """Those of the `MEASURES` that `values` has, by their titles, and from its `nmi` (units, factors) each factor's best unit and
    that unit's lead."""
    nmi = np.array(values["nmi"])
    best, lead = nmi.max(axis=0), gap_of_best_two(nmi)
    row: dict = {title: float(values[name]) for name, title in MEASURES.items() if name in values}
    for name, highest, gap in zip(factor_names, best, lead, strict=True):
        row |= {f"best: {name}": float(highest), f"lead: {name}": float(gap)}
    return row


def table(runs: Mapping[tuple[str, int], Run]) -> pd.DataFrame:
    """One row per run, {(variant, seed): run}: variant, seed, and what `measure` gives."""
    return pd.DataFrame([{"variant": variant, "seed": seed} | measure(run) for (variant, seed), run in runs.items()])


def answers(runs: pd.DataFrame, measures: tuple[str, ...]) -> pd.DataFrame:
    """One row per comparison and measure of a `table`: the mean paired difference over the seeds that both variants have, its 95%
    interval ("low", "high"), "p" of the paired t test, "adjusted p" (Holm, over the comparisons of the same measure), the verdict
    by adjusted p at 5%, and "seeds for half": how many seeds would show half of the difference (5%, power 80%).

    A positive difference is an improvement: the sign of the reconstruction error is reversed. Comparisons with fewer than
    two common seeds, or values, are left out.
    """
    rows = []
    for question, with_it, without in COMPARISONS:
        a, b = (by_seed(runs, names.split("+"), list(measures)) for names in (with_it, without))
        seeds = a.index.intersection(b.index)
        if len(seeds) < 2:
            continue
        for name in measures:
            sign = -1 if name in LOWER_IS_BETTER else 1
            pairs = sign * pd.concat([a.loc[seeds, name], b.loc[seeds, name]], axis=1).dropna()
            if len(pairs) < 2:
                continue
            difference = paired_difference(*pairs.to_numpy().T)
            needed = seeds_needed(*pairs.to_numpy().T)
            asked = {"does it help?": question, "with": with_it, "without": without, "measure": name, "seeds": difference.count}
            interval = {"difference": difference.mean, "low": difference.low, "high": difference.high}
            rows.append(asked | interval | {"p": difference.p, "seeds for half": needed})
    found = pd.DataFrame(rows)
    if len(found):
        found.insert(9, "adjusted p", found.groupby("measure")["p"].transform(holm))
        found.insert(10, "verdict", [verdict(*pair) for pair in zip(found["difference"], found["adjusted p"], strict=True)])
    return found


def by_seed(runs: pd.DataFrame, variants: list[str], measures: list[str]) -> pd.DataFrame:
    """The variants' mean of each measure, for the seeds that all of them have; NaN if a variant lacks the measure."""
    rows = runs[runs["variant"].isin(variants)].groupby("seed")
    means = rows[measures].mean().where(rows[measures].count() == len(variants))
    return means[rows.size() == len(variants)]


def in_words(found: pd.DataFrame, measures: tuple[str, ...] = ("DCI", "MIG")) -> list[str]:
    """A sentence per question of `answers`, as Markdown list items."""
    lines = []
    for question, part in found.groupby("does it help?", sort=False) if len(found) else ():
        said = [
            f"{r['measure']} {r['difference']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}] ({r['verdict']})"
            for r in part.to_dict("records")
            if r["measure"] in measures
        ]
        lines.append(f"- **{question[0].upper()}{question[1:]}**: {'; '.join(said)}, {part['seeds'].iloc[0]} seeds.")
    return lines or ["Several seeds of a variant with and without an idea are needed for an answer."]
