"""`dyga bench`: speed and quality of the anchors compared with scikit-learn, response time of the explorers, and speed of a
training step."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import psutil
import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dyga.config import Config
from dyga.data import load_dataset
from dyga.explore.run import GRID_SIZE, Run
from dyga.explore.widgets import TraversalExplorer, strip
from dyga.extensions import build_model
from dyga.method.anchors import GaussianAnchors
from dyga.method.diffusion import to_tensor
from dyga.method.feature_extractor import UnitMLPs

# scikit-learn is fitted to one unit with at most this many rows, and its time is multiplied by the number of units.
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


def bench_anchors(sizes: Sequence[int], units: int = 20, dim: int = 32, seed: int = 0) -> pd.DataFrame:
    """One row per size.

    Seconds of a refit of all units, with scalars given and with features alone, and the least they could be: the FLOPs of its
    matrix products over the measured rate. Of unit 0, beside scikit-learn's full-covariance mixture with as many Gaussians:
    held-out log-likelihood per row, BIC per row, and distortion (mean squared distance to the anchor's mean over the variance).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            rate = _matmul_rate(torch.device("cpu"), torch.float64, size=768)
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
        "BIC / n": float(anchors.mixture().free_parameters()[0]) * np.log(rows) / rows - 2 * fit,
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


def _seconds(call, device: torch.device | None = None) -> tuple[float, object]:
    wait = torch.cuda.synchronize if device is not None and device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = call()
    wait()
    return time.perf_counter() - start, result


def bench_explorers(run: Run, moves: int = 60) -> pd.DataFrame:
    """Milliseconds from a slider's move to the new picture in the kernel, and to the strip of eight, median and 95th
    percentile, for moves that were not decoded before; and for moves that were."""
    explorer = TraversalExplorer(run, run.data.images)
    strips = [_seconds(lambda u=u.index: strip(run.traverse(explorer.chooser.image, u)))[0] for u in run.active_units[:20]]
    slider, values = explorer.rows[0].slider, np.random.default_rng(0).permutation(np.arange(0, GRID_SIZE, 2))[:moves]

    def move(value: int) -> None:
        slider.value = int(value)

    first, again = ([_seconds(lambda v=v: move(v))[0] for v in values] for _ in range(2))
    measured = {"new picture": first, "seen picture": again, "strip of eight": strips}
    rows = [{"what": k, "median ms": 1e3 * np.median(v), "95% ms": 1e3 * np.quantile(v, 0.95)} for k, v in measured.items()]
    return pd.DataFrame(rows)


def bench_training(config: Config, batch: int, repeats: int = 5) -> pd.DataFrame:
    """One row per part of a training step, and one for the whole: milliseconds (median of `repeats`), images a second, forward
    and backward FLOPs an image, and their rate as a share of what a large matrix product reaches here in the same precision.

    Images are rooms3d's and latents random: neither the data set nor a first stage is needed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = device.type == "cuda" and config.precision == "bfloat16"
    model = build_model(config).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    source, generator = load_dataset("rooms3d").images, torch.Generator(device).manual_seed(0)
    latents = torch.randn(batch, *model.latent_shape, device=device)
    time_steps = torch.randint(1_000, (batch,), device=device)
    units = torch.randn(batch, config.units, config.unit_dim, device=device, requires_grad=True)
    fitted = GaussianAnchors(config.units, config.unit_dim, config.max_anchors).fit(units.detach().cpu())
    model.anchors.load_state_dict(fitted.state_dict())
    rows = np.random.default_rng(0).integers(len(source), size=(repeats + 2, batch))
    drawn = iter(rows)

    def data() -> Tensor:
        return to_tensor(source[next(drawn)]).to(device)

    images = to_tensor(source[rows[0]]).to(device)
    if device.type == "cuda":
        model.compile_parts()

    def whole() -> None:
        optimiser.zero_grad()
        model(images, latents, generator).total.backward()
        optimiser.step()

    parts = {
        "data": data,
        "encoder": lambda: model.encode(images).float().sum().backward(),
        "U-Net": lambda: model.denoiser(latents, time_steps, units).float().sum().backward(),
        "anchors": lambda: model.align(units).sum().backward(),
        "optimiser": optimiser.step,
        "whole step": whole,
    }
    rate = _matmul_rate(device, torch.bfloat16 if half else torch.float32)
    table = []
    for name, part in parts.items():
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            with FlopCounterMode(display=False) as counter:
                part()
            seconds = float(np.median([_seconds(part, device)[0] for _ in range(repeats)]))
        flops = counter.get_total_flops()
        row = {"part": name, "ms": 1e3 * seconds, "images/s": batch / seconds, "GFLOP/image": flops / batch / 1e9}
        table.append(row | {"share of matmul rate": flops / seconds / rate})
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss
    return pd.DataFrame(table).assign(**{"memory, GB": memory / 1e9})


def _matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 4_096) -> float:
    """FLOP/s of a large matrix product on the device, the best of several."""
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(_seconds(lambda: matrix @ matrix, device)[0] for _ in range(10))
