"""`dyga bench anchors`: speed and quality of the anchors, as ratios within one run on one thread. `dyga bench explorers`: how
long a reader waits for a picture."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .anchoring import GaussianAnchors
from .models.feature_extractor import UnitMLPs
from .runs import Run
from .widgets import TraversalExplorer, strip

SIZES = (2_000, 10_000, 48_000, 480_000)
# scikit-learn is fitted to one unit of at most so many rows, and its time multiplied by the units: minutes instead of hours.
SKLEARN_ROWS = 48_000


def clustered_curves(rows: int, units: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scalars (rows, units) in ten clusters, and features (rows, units, dim) that unit MLPs make of them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlps = UnitMLPs(units, [64, 128, dim], final_relu=False)
    centres = torch.linspace(-1.6, 1.6, 10)
    scalars = centres[torch.randint(10, (rows, units), generator=generator)]
    scalars = scalars + 0.05 * torch.randn(rows, units, generator=generator)
    with torch.no_grad():
        return scalars, torch.cat([mlps(part) for part in scalars.split(8_192)])


def matmul_rate(size: int = 768, repeats: int = 10) -> float:
    """FLOP/s of float64 matrix products, the best of some: what an anchor fit could reach at most."""
    matrix = torch.randn(size, size, dtype=torch.float64)
    best = min(_seconds(lambda: matrix @ matrix)[0] for _ in range(repeats))
    return 2 * size**3 / best


def bench_anchors(sizes: Sequence[int] = SIZES, units: int = 20, dim: int = 32, seed: int = 0) -> pd.DataFrame:
    """One row per size.

    Seconds of a refit of all units, with scalars given and with features alone, and the least they could be: the FLOPs of its
    matrix products over the measured rate. Of unit 0, beside scikit-learn's full-covariance mixture with as many Gaussians:
    held-out log-likelihood per row, BIC per row, and distortion (mean squared distance to the anchor's mean over the variance).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            rate = matmul_rate()
            held_out = clustered_curves(10_000, units, dim, seed + 1)[1]
            return pd.DataFrame([_bench_size(n, units, dim, seed, held_out, rate) for n in sizes])
    finally:
        torch.set_num_threads(threads)


def _bench_size(n: int, units: int, dim: int, seed: int, held_out: Tensor, rate: float) -> dict:
    scalars, features = clustered_curves(n, units, dim, seed)
    alone, _ = _seconds(lambda: GaussianAnchors(units, dim).fit(features, seed))
    seconds, anchors = _seconds(lambda: GaussianAnchors(units, dim).fit(features, seed, scalars=scalars))
    with FlopCounterMode(display=False) as counter:
        GaussianAnchors(units, dim).fit(features, seed, scalars=scalars)
    own, test = features[:, 0].double().numpy(), held_out[:, 0].double().numpy()
    count = int(anchors.counts[0])
    fit = float(anchors.log_likelihood(features[:SKLEARN_ROWS])[:, 0].mean())
    rows = min(n, SKLEARN_ROWS)
    row = {
        "n": n,
        "seconds": seconds,
        "seconds, features alone": alone,
        "least seconds": counter.get_total_flops() / rate,
        "anchors": count,
        "log-likelihood": float(anchors.log_likelihood(held_out)[:, 0].mean()),
        "BIC / n": float(anchors.parameter_counts[0]) * np.log(rows) / rows - 2 * fit,
        "distortion": _distortion(test, anchors.means[0].double().numpy(), anchors.assign(held_out)[:, 0].numpy()),
    }
    mixture = GaussianMixture(count, max_iter=60, reg_covar=1e-6 * own.var(), init_params="k-means++", random_state=seed)
    theirs, _ = _seconds(lambda: mixture.fit(own[:rows]))
    return row | {
        "scikit-learn: seconds": theirs * units * n / rows,
        "scikit-learn: log-likelihood": mixture.score(test),
        "scikit-learn: BIC / n": mixture.bic(own[:rows]) / rows,
        "scikit-learn: distortion": _distortion(test, mixture.means_, mixture.predict(test)),
        "times as fast": theirs * units * n / rows / seconds,
    }


def _distortion(points: np.ndarray, means: np.ndarray, assigned: np.ndarray) -> float:
    return float(((points - means[assigned]) ** 2).sum(axis=1).mean() / points.var(axis=0).sum())


def _seconds(call) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def bench_explorers(run: Run, moves: int = 60) -> pd.DataFrame:
    """Milliseconds from a slider's move to the new picture in the kernel, and to the strip of eight, median and 95th
    percentile, for moves that were not decoded before; and for moves that were."""
    explorer = TraversalExplorer(run, run.data.images)
    strips = [_seconds(lambda u=u.index: strip(run.traverse(explorer.chooser.image, u)))[0] for u in run.active_units[:20]]
    slider, values = explorer.rows[0].slider, np.random.default_rng(0).permutation(np.arange(0, 201, 2))[:moves]

    def move(value: int) -> None:
        slider.value = int(value)

    first, again = ([_seconds(lambda v=v: move(v))[0] for v in values] for _ in range(2))
    measured = {"new picture": first, "seen picture": again, "strip of eight": strips}
    rows = [{"what": k, "median ms": 1e3 * np.median(v), "95% ms": 1e3 * np.quantile(v, 0.95)} for k, v in measured.items()]
    return pd.DataFrame(rows)
