"""R2: the share of each ordered factor's variance that regressions from the codes explain."""

from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from lightgbm import LGBMRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from dyga.metrics._checks import check_count, checked, checked_integers, split_rows


@dataclass(frozen=True)
class RSquared:
    """Result of `r_squared`: the scores `linear` and `boosted`, at most 1, are means over factors.

    `linear_per_factor` and `boosted_per_factor` (factors,) are R2 on the test rows, negative where the mean predicts better.
    """

    linear: float
    boosted: float
    linear_per_factor: np.ndarray
    boosted_per_factor: np.ndarray


def r_squared(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 5_000,
    n_jobs: int = 1,
    seed: int = 0,
) -> RSquared:
    """R2 of regressions from codes (n, units) to ordered factors (n, factors).

    Least squares and gradient boosting (LightGBM's defaults) predict each factor from all units, `n_jobs` factors at a time. Both
    are fitted on `num_train` rows and tested on `num_test` others. The factors' values are taken as numbers: the score means
    nothing for factors without an order. Raises ValueError for invalid input or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    check_count(num_test, "num_test", least=2)
    train, test = split_rows(labels, seed, num_train, num_test)
    values = checked_integers(factors, "factors").astype(float)
    fits = (delayed(_scores)(codes[train], value[train], codes[test], value[test], seed) for value in values.T)
    linear, boosted = np.array(Parallel(n_jobs=n_jobs)(fits)).T
    return RSquared(float(linear.mean()), float(boosted.mean()), linear, boosted)


def _scores(train: np.ndarray, value: np.ndarray, test: np.ndarray, test_value: np.ndarray, seed: int) -> list[float]:
    """R2 of least squares and of boosting, for one factor."""
    boosting = LGBMRegressor(n_jobs=1, random_state=seed, deterministic=True, force_row_wise=True, verbose=-1)
    return [r2_score(test_value, model.fit(train, value).predict(test)) for model in (LinearRegression(), boosting)]
