"""Paired differences over seeds, with confidence intervals and with p values adjusted for the number of questions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import nct
from scipy.stats import t as student


@dataclass(frozen=True)
class PairedDifference:
    """Mean of one variant's score minus another's, its 95% interval from `low` to `high`, the number of pairs, and `p` of the
    two-sided paired t test (1 with one seed)."""

    mean: float
    low: float
    high: float
    count: int
    p: float

    def __str__(self) -> str:
        if self.count < 2:
            return f"{self.mean:+.3f} (one seed: no interval)"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def verdict(mean: float, p: float, level: float = 0.05) -> str:
    """'helps' or 'hurts' if p is below `level`, otherwise 'undecided'."""
    if not p < level:
        return "undecided"
    return "helps" if mean > 0 else "hurts"


def holm(p: Sequence[float]) -> np.ndarray:
    """p values of several questions -> p values adjusted for their number (Holm 1979), so that the chance of any false answer
    stays below the level of the test."""
    p = np.asarray(p, float)
    order = p.argsort(kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted[order.argsort(kind="stable")]


def paired_difference(scores: Sequence[float], reference: Sequence[float]) -> PairedDifference:
    """Student's 95% interval of `scores` minus `reference`, seed by seed.

    With one seed the interval is infinite. ValueError unless both have the same number of finite values, at least one.
    """
    scores, reference = np.asarray(scores, float), np.asarray(reference, float)
    if scores.shape != reference.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores has shape {scores.shape} and reference {reference.shape}: valid are equal ones, (seeds,)")
    return stratified_difference([scores - reference])


def stratified_difference(strata: Sequence[np.ndarray]) -> PairedDifference:
    """The mean over strata, such as worlds, of their mean differences. Each stratum is an array of differences (seeds,). The
    variance is pooled from the deviations within strata. One stratum gives the paired t test.

    Without two differences in a stratum the interval is infinite. ValueError unless all differences are finite and each stratum
    has one.
    """
    if not strata or not all(len(each) and np.isfinite(each).all() for each in strata):
        raise ValueError("scores and reference must be finite, with at least one difference in each stratum")
    counts, mean = np.array([len(each) for each in strata]), float(np.mean([np.mean(each) for each in strata]))
    count, freedom = int(counts.sum()), int((counts - 1).sum())
    if not freedom:
        return PairedDifference(mean, -math.inf, math.inf, count, 1.0)
    pooled = sum(float(np.square(each - np.mean(each)).sum()) for each in strata) / freedom
    error = math.sqrt(pooled * float((1 / counts).sum())) / len(counts)
    half = float(student.ppf(0.975, freedom)) * error
    p = 2 * float(student.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return PairedDifference(mean, mean - half, mean + half, count, p)


def seeds_needed(scores: Sequence[float], reference: Sequence[float]) -> int | None:
    """How many paired seeds a two-sided t test at 5% needs to see half of the mean difference with a power of 80%, if the
    differences spread as these do; None if more than 10,000, or if all differences are 0. ValueError as in `paired_difference`,
    and with fewer than two."""
    found = paired_difference(scores, reference)
    if found.count < 2:
        raise ValueError("the spread of differences needs at least two seeds")
    spread = float((np.asarray(scores, float) - np.asarray(reference, float)).std(ddof=1))
    if not spread:
        return 2 if found.mean else None
    effect = abs(found.mean) / 2 / spread
    counts = np.unique(np.geomspace(2, 10_000, 2_000).astype(int))
    limits = student.ppf(0.975, counts - 1)
    seen = nct.sf(limits, counts - 1, effect * np.sqrt(counts))
    # For large effects the library returns NaN; the power is 1 there.
    enough = counts[np.nan_to_num(seen, nan=1.0) >= 0.8]
    return int(enough[0]) if len(enough) else None
