"""All metrics of one set of codes in one call."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from dyga.metrics._checks import checked
from dyga.metrics.dci import Estimator, dci
from dyga.metrics.factor_vae import beta_vae_score, factor_vae_score
from dyga.metrics.infomec import infomec
from dyga.metrics.mig import mig
from dyga.metrics.modularity_explicitness import modularity_explicitness
from dyga.metrics.purity import knn_purity
from dyga.metrics.sap import sap
from dyga.metrics.tad import total_auroc_difference

STANDARD = ("factor_vae", "beta_vae", "dci", "mig", "sap", "modularity_explicitness", "infomec", "knn_purity")
AVAILABLE = (*STANDARD, "tad")


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

    `metrics` names which to compute; "tad" is left out by default because it needs binary factors. The
    other arguments go to the metrics that take them, and a progress bar goes to stderr. Raises ValueError
    as the metrics do, and for unknown names.
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
