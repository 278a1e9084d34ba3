"""InfoMEC: modularity, compactness and explicitness from nearest-neighbour mutual information."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dyga.metrics._checks import checked, checked_count, split_rows, train_rows
from dyga.metrics.mig import factor_entropy


@dataclass(frozen=True)
class InfoMEC:
    """Three numbers, at most 1; `nmi` (units, factors); `active` (units,) bool."""

    modularity: float
    compactness: float
    explicitness: float
    nmi: np.ndarray
    active: np.ndarray


def infomec(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    num_train: int = 10_000,
    num_test: int = 0,
    neighbours: int = 10,
    seed: int = 0,
) -> InfoMEC:
    """InfoMEC (Hsu et al. 2023) of continuous codes (n, units) for factors (n, factors).

    `nmi` is the mutual information by `neighbours` nearest neighbours over H(factor), on `num_train` rows.
    Modularity is the mean over active units (range above 1/20 of the widest) of the largest share of a
    unit's information that is about one factor, rescaled so that an even spread is 0; compactness the same
    over factors; explicitness is 1 - log-loss / log(values) of an unpenalised, class-balanced multinomial
    logistic regression, by the protocol on the same rows, or with `num_test` on so many others. A unit or
    factor without information counts as evenly spread (0); constant codes give modularity and compactness
    0; with a single factor modularity is 1, with a single active unit compactness is 1, where there is
    information. Raises ValueError for unfit input or fewer
    than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    checked_count(neighbours, "neighbours")
    checked_count(num_train, "num_train", least=neighbours + 1)
    rows, test = split_rows(labels, seed, num_train, num_test) if num_test else (train_rows(labels, seed, num_train), None)
    held_out = None if test is None else (codes[test], labels[test])
    codes, labels = codes[rows], labels[rows]
    span = np.ptp(codes, axis=0)
    active = span > span.max() / 20
    deviation = codes.std(axis=0)
    centre, scale = codes.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
    standard = (codes - centre) / scale
    scored, answers = (standard, labels) if held_out is None else ((held_out[0] - centre) / scale, held_out[1])

    nmi = np.zeros((codes.shape[1], labels.shape[1]))
    varied = span > 0
    for factor, label in enumerate(labels.T if varied.any() else []):
        nmi[varied, factor] = mutual_info_classif(
            standard[:, varied], label, discrete_features=False, n_neighbors=neighbours, random_state=seed
        )
    nmi /= factor_entropy(labels)
    pairs = zip(labels.T, answers.T, strict=True)
    explicitness = float(np.mean([_predictable_share(standard, label, scored, answer) for label, answer in pairs]))
    return InfoMEC(_largest_share(nmi[active]), _largest_share(nmi[active].T), explicitness, nmi, active)


def _largest_share(nmi: np.ndarray) -> float:
    """Mean over rows of the largest entry's share of the row, from 0 (even) to 1 (one entry has it all)."""
    total = nmi.sum(axis=1) if nmi.size else np.zeros(1)
    if not total.any():
        return 0.0
    columns = nmi.shape[1]
    if columns == 1:
        return float(np.mean(total > 0))
    share = np.where(total > 0, nmi.max(axis=1) / np.where(total > 0, total, 1.0), 1 / columns)
    return float((share.mean() - 1 / columns) / (1 - 1 / columns))


def _predictable_share(codes: np.ndarray, label: np.ndarray, scored: np.ndarray, answer: np.ndarray) -> float:
    """Explicitness of a regression fitted to `label`; on `scored` codes, rows with values that it never saw are left out."""
    known = np.isin(answer, label)
    values = np.unique(label)
    with warnings.catch_warnings():
        # The protocol stops after the default 100 iterations: separable classes never converge unpenalised.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=np.inf, class_weight="balanced").fit(codes, label)
    # With balanced classes the null model's optimum is uniform, so its log-loss is log(values) exactly.
    return 1.0 - log_loss(answer[known], model.predict_proba(scored[known]), labels=values) / np.log(len(values))
