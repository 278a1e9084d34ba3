"""All metrics of one set of codes, in one table; on request with intervals and chance levels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import t as student
from tqdm.auto import tqdm

from dyga.metrics._checks import Estimator, as_array, check_count, check_estimator, checked, split_rows, varied_rows
from dyga.metrics.dci import DCI, dci
from dyga.metrics.factor_vae import beta_vae_score, factor_vae_score
from dyga.metrics.infomec import infomec
from dyga.metrics.mcc import mcc
from dyga.metrics.mig import mig
from dyga.metrics.modularity_explicitness import modularity_explicitness
from dyga.metrics.purity import knn_purity
from dyga.metrics.r_squared import r_squared
from dyga.metrics.sap import sap
from dyga.metrics.tad import binary_columns, total_auroc_difference


class Metric(NamedTuple):
    """A metric's function, the arguments that it takes, and the quantities of its result."""

    function: Callable[..., Any]
    takes: tuple[str, ...]
    quantities: tuple[str, ...]


BOTH = ("num_train", "num_test")
METRICS = {
    "factor_vae": Metric(factor_vae_score, BOTH, ("score",)),
    "beta_vae": Metric(beta_vae_score, BOTH, ("score",)),
    "dci": Metric(dci, (*BOTH, "estimator", "n_jobs"), ("disentanglement", "completeness", "informativeness")),
    "mig": Metric(mig, BOTH[:1], ("score",)),
    "sap": Metric(sap, BOTH, ("score",)),
    "modularity_explicitness": Metric(modularity_explicitness, BOTH, ("modularity", "explicitness")),
    "infomec": Metric(infomec, BOTH[:1], ("modularity", "compactness", "explicitness")),
    "knn_purity": Metric(knn_purity, BOTH[:1], ("score",)),
    "mcc": Metric(mcc, BOTH[:1], ("pearson", "spearman")),
    "r_squared": Metric(r_squared, (*BOTH, "n_jobs"), ("linear", "boosted")),
    "tad": Metric(total_auroc_difference, (), ("tad", "captured")),
}
AVAILABLE = tuple(METRICS)
STANDARD = AVAILABLE[: AVAILABLE.index("mcc")]
RESAMPLES, FEW = (12, 2), (4, 8)  # number of resamples, and k for parts of 1 / k of the rows
SLOW, MANY = ("dci", "sap", "modularity_explicitness", "infomec"), 4_000  # FEW from MANY training rows on
MIN_TRAIN, MIN_TEST = 40, 10  # the halves of fewer rows are too small for the nearest neighbours


class Scores(NamedTuple):
    """Result of `evaluate_with_intervals`: `table` (metric, quantity, value, low, high, chance), and the result of `dci`,
    which is None if it was not asked for."""

    table: pd.DataFrame
    dci: DCI | None


def evaluate(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    metrics: Sequence[str] = STANDARD,
    num_train: int = 10_000,
    num_test: int = 5_000,
    estimator: Estimator = "sklearn",
    n_jobs: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Table (metric, quantity, value) of codes (n, units) for factors (n, factors).

    `metrics` are the names of the metrics to compute. Not among the defaults are "mcc" and "r_squared", which need ordered
    factors, and "tad", which is computed from the binary ones. The sample sizes, `estimator`, `n_jobs` and `seed`
    are passed to the metrics that take them. `progress` shows a progress bar on stderr. Raises ValueError for unknown names and
    for input that a metric refuses.
    """
    _check_names(metrics)
    codes, _ = checked(codes, factors)
    options = {"num_train": num_train, "num_test": num_test, "estimator": estimator, "n_jobs": n_jobs}
    records = []
    bar = tqdm(metrics, desc="metrics", disable=not progress)
    for name in bar:
        bar.set_postfix_str(name)
        result = _compute(name, codes, factors, seed, options)
        records += [(name, quantity, float(getattr(result, quantity))) for quantity in METRICS[name].quantities]
    return pd.DataFrame(records, columns=["metric", "quantity", "value"])


def evaluate_with_intervals(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    metrics: Sequence[str] = STANDARD,
    num_train: int = 10_000,
    num_test: int = 5_000,
    estimator: Estimator = "lightgbm",
    n_jobs: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """The values of `evaluate` with the same arguments, each with a 95% interval from `low` to `high` and its `chance` level.

    A resample is a random part, without replacement, of num_train + num_test random rows; of num_train rows for metrics without
    a test; of all rows for TAD. Copies of rows, which the bootstrap makes, would be each other's nearest neighbours and could be
    in both the training and the test rows. The standard error is the standard deviation over resamples divided by sqrt(k - 1)
    for parts of 1 / k of the rows (Politis and Romano 1994); for halves it is that of the bootstrap. The interval is the value
    plus and minus Student's quantile times this, cut off at 1 (not for TAD) and, if no resample is negative, at 0. The chance
    level is the score of the same codes with their rows permuted. There are 12 halves. With 4,000 training rows or more the slow
    metrics (DCI, SAP, InfoMEC, modularity and explicitness) have 4 eighths, and their chance level is that of an eighth.

    `n_jobs` processes compute metrics and resamples in parallel; the result does not depend on their number. Raises ValueError
    for unknown names, num_train below 40, num_test below 10, and input that a metric refuses.
    """
    _check_names(metrics)
    check_count(num_train, "num_train", least=MIN_TRAIN)
    check_count(num_test, "num_test", least=MIN_TEST)
    check_estimator(estimator)
    codes, labels = checked(codes, factors)
    factors = as_array(factors)
    # Also the check that no factor is constant in the rows drawn.
    rows = np.concatenate(split_rows(labels, seed, num_train, num_test))
    rng = np.random.default_rng(seed)
    plans = {name: FEW if name in SLOW and num_train >= MANY else RESAMPLES for name in metrics}
    # The slow metrics come first, so that no process waits for another at the end.
    order = sorted(metrics, key=lambda name: name not in SLOW)
    tasks = [(name, kind) for kind in ("value", "chance") for name in order]
    tasks += [(name, i) for name in order for i in range(plans[name][0])]

    def call(name: str, kind: str | int):
        whole = kind == "value" or (kind == "chance" and plans[name] == RESAMPLES)
        part = 1 if whole else plans[name][1]
        options = {"num_train": num_train // part, "num_test": num_test // part, "estimator": estimator, "n_jobs": 1}
        takes = METRICS[name].takes  # TAD takes no sizes: it is computed on all rows
        drawn = rows if "num_test" in takes else rows[:num_train] if takes else np.arange(len(codes))
        own = slice(None) if whole else varied_rows(labels, rng.permutation(drawn)[: len(drawn) // part])
        order = rng.permutation(len(codes[own])) if kind == "chance" else slice(None)
        return delayed(_compute)(name, codes[own][order], factors[own], seed, options)

    computed = Parallel(n_jobs=n_jobs, return_as="generator")(call(*task) for task in tasks)
    bar = tqdm(computed, "metrics and intervals", len(tasks), disable=not progress, mininterval=1, ascii=True)
    results = dict(zip(tasks, bar, strict=True))
    records = []
    for name in metrics:
        for quantity in METRICS[name].quantities:
            value, by_chance = (float(getattr(results[name, kind], quantity)) for kind in ("value", "chance"))
            scores = [float(getattr(results[name, i], quantity)) for i in range(plans[name][0])]
            error = np.std(scores, ddof=1) / np.sqrt(plans[name][1] - 1)
            reach = student.ppf(0.975, len(scores) - 1) * error
            least, most = (0.0 if min(*scores, value) >= 0 else -np.inf), (np.inf if name == "tad" else 1.0)
            records.append((name, quantity, value, max(value - reach, least), min(value + reach, most), by_chance))
    table = pd.DataFrame(records, columns=["metric", "quantity", "value", "low", "high", "chance"])
    return Scores(table, results.get(("dci", "value")))


def _check_names(metrics: Sequence[str]) -> None:
    unknown = [name for name in metrics if name not in AVAILABLE]
    if unknown or not metrics:
        raise ValueError(f"metrics must be names from {list(AVAILABLE)}, got {unknown or 'none'}")


def _compute(name: str, codes: np.ndarray, factors: np.ndarray, seed: int, options: dict[str, Any]) -> Any:
    function, takes, _ = METRICS[name]
    if name == "tad":
        factors = as_array(factors)
        factors = factors[:, binary_columns(factors) or slice(None)]  # without any, TAD says what it needs
    return function(codes, factors, **{option: options[option] for option in takes}, seed=seed)
