"""Which units recur over the seeds of a study: trust without labels."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dyga import metrics
from dyga.explore.cards import explained, sampled_scalars
from dyga.explore.run import Run


def recurrence(runs: Mapping[tuple[str, int], Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Which active units of runs, by variant and seed, recur in the other seeds of their variant: one row per unit, and one per
    variant. Both are empty if no variant has two seeds.

    Units are compared by their scalars (`mutual`), since a unit that holds a ring is not one number. The mean correlation and
    UDR are by absolute rank correlation of the codes, as in the paper (`dyga.metrics.udr`).
    """
    units, variants = [], []
    for variant in dict.fromkeys(variant for variant, _ in runs):
        seeds = {seed: run for (name, seed), run in runs.items() if name == variant}
        if len(seeds) < 2:
            continue
        active = [run.active for run in seeds.values()]
        ranking = metrics.udr([run.projection["codes"] for run in seeds.values()], active=active)
        found = metrics.udr([sampled_scalars(run) for run in seeds.values()], active=active, similarity=mutual)
        others = len(seeds) - 1
        for place, (seed, run) in enumerate(seeds.items()):
            for unit in run.active_units:
                share = found.recurrence[place][unit.index]
                row = {"variant": variant, "seed": seed, "unit": str(unit), "recurs in": f"{share * others:.0f} of {others}"}
                row["mean similarity"] = np.nanmean(found.similarity[place][unit.index])
                units.append(row | {"mean correlation": np.nanmean(ranking.similarity[place][unit.index])})
        shares = np.concatenate(found.recurrence)
        sizes = len(seeds), np.mean([mask.sum() for mask in active])
        variants.append([variant, *sizes, np.mean(shares[~np.isnan(shares)] == 1), ranking.score.mean()])
    return pd.DataFrame(units), pd.DataFrame(variants, columns=["variant", "seeds", "active units", "recurring", "UDR"])


def mutual(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Similarity of the units of two models by their scalars (n, units, scalars): the root of the share of variance that each
    unit of a pair explains of the other, the smaller of both. For one scalar that depends linearly on the other it is their
    absolute correlation. A ring and one of its two coordinates have .71."""
    return np.sqrt(np.minimum(explained(one, other), explained(other, one).T))


def in_words(variants: pd.DataFrame) -> list[str]:
    """A sentence per variant of the second table of `recurrence`, for the report's list."""
    text = "- *{0}*: {3:.0%} of the active units recur in every other seed ({1} seeds, {2:.3g} active units each, UDR {4:.2f})."
    return [text.format(*row) for row in variants.itertuples(index=False)]
