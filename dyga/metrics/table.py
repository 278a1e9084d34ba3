"""All metrics of one set of codes, in one table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from dyga.metrics._checks import Estimator, checked
from dyga.metrics.dci import dci
from dyga.metrics.factor_vae import beta_vae_score, factor_vae_score
from dyga.metrics.infomec import infomec
from dyga.metrics.mcc import mcc
from dyga.metrics.mig import mig
from dyga.metrics.modularity_explicitness import modularity_explicitness
from dyga.metrics.purity import knn_purity
from dyga.metrics.r_squared import r_squared
from dyga.metrics.sap import sap
from dyga.metrics.tad import total_auroc_difference

STANDARD = ("factor_vae", "beta_vae", "dci", "mig", "sap", "modularity_explicitness", "infomec", "knn_purity")
AVAILABLE = (*STANDARD, "mcc", "r_squared", "tad")


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

    `metrics` are the names of the metrics to compute. Not among the defaults are "mcc" and "r_squared", which need ordered factors,
    and "tad", which needs binary ones. The sample sizes, `estimator`, `n_jobs` and `seed` are passed to the metrics that take
    them. `progress` shows a progress bar on stderr. Raises ValueError for unknown names and for input that a metric refuses.
    """
    unknown = [name for name in metrics if name not in AVAILABLE]
    if unknown or not metrics:
        raise ValueError(f"metrics must be names from {list(AVAILABLE)}, got {unknown or 'none'}")
    codes, factors = checked(codes, factors)
    train: dict[str, Any] = {"num_train": num_train, "seed": seed}
    both = {**train, "num_test": num_test}
    calls: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
        "factor_vae": (factor_vae_score, both, ("score",)),
        "beta_vae": (beta_vae_score, both, ("score",)),
        "dci": (
            dci,
            {**both, "estimator": estimator, "n_jobs": n_jobs},
            ("disentanglement", "completeness", "informativeness"),
        ),
        "mig": (mig, train, ("score",)),
        "sap": (sap, both, ("score",)),
        "modularity_explicitness": (modularity_explicitness, both, ("modularity", "explicitness")),
        "infomec": (infomec, train, ("modularity", "compactness", "explicitness")),
        "knn_purity": (knn_purity, train, ("score",)),
        "mcc": (mcc, train, ("pearson", "spearman")),
        "r_squared": (r_squared, {**both, "n_jobs": n_jobs}, ("linear", "boosted")),
        "tad": (total_auroc_difference, {"seed": seed}, ("tad", "captured")),
    }
    records = []
    bar = tqdm(metrics, desc="metrics", disable=not progress)
    for name in bar:
        bar.set_postfix_str(name)
        function, keywords, quantities = calls[name]
        result = function(codes, factors, **keywords)
        records += [(name, quantity, float(getattr(result, quantity))) for quantity in quantities]
    return pd.DataFrame(records, columns=["metric", "quantity", "value"])
