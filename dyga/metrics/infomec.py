"""InfoMEC: modularity, compactness and explicitness, the first two from nearest-neighbour mutual information."""

from dataclasses import dataclass

import numpy as np
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dyga.metrics._checks import check_count, checked, convergence_warnings_ignored, split_rows, standardised, train_rows
from dyga.metrics.mig import factor_entropy


@dataclass(frozen=True)
class InfoMEC:
    """Result of `infomec`: three scores of at most 1, the matrix `nmi` (units, factors), and `active` (units,) bool."""

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

    `nmi` is the mutual information, estimated with `neighbours` nearest neighbours on `num_train` rows, divided by H(factor).
    A unit is active if its range exceeds 1/20 of the largest range. Modularity is the largest share of a unit's information that
    belongs to one factor, averaged over active units and rescaled to 0 for an even distribution. Compactness is the same over
    factors. Explicitness is 1 - log-loss / log(values) of an unpenalised, class-balanced multinomial logistic regression. The
    protocol evaluates it on the training rows; with `num_test` it is evaluated on that many other rows and can be negative.

    A unit or factor without information counts as evenly distributed (0). Constant codes have modularity and compactness 0. If
    there is information, modularity is 1 for a single factor and compactness is 1 for a single active unit. Raises ValueError for
    invalid input or fewer than num_train + num_test rows.
    """
    codes, labels = checked(codes, factors)
    check_count(neighbours, "neighbours")
    check_count(num_train, "num_train", least=neighbours + 1)
    if num_test:
        rows, test = split_rows(labels, seed, num_train, num_test)
    else:
        rows = test = train_rows(labels, seed, num_train)
    test_codes, test_labels = standardised(codes[test], reference=codes[rows]), labels[test]
    codes, labels = codes[rows], labels[rows]
    span = np.ptp(codes, axis=0)
    active = span > span.max() / 20
    standard = standardised(codes, reference=codes)

    nmi = np.zeros((codes.shape[1], labels.shape[1]))
    varied = span > 0
    for factor, label in enumerate(labels.T if varied.any() else []):
        if len(np.unique(label)) == len(label):  # scikit-learn needs a value that occurs twice
            continue
        nmi[varied, factor] = mutual_info_classif(
            standard[:, varied], label, discrete_features=False, n_neighbors=neighbours, random_state=seed
        )
    nmi /= factor_entropy(labels)
    pairs = zip(labels.T, test_labels.T, strict=True)
    explicitness = float(np.mean([_explicitness(standard, label, test_codes, test_label) for label, test_label in pairs]))
    return InfoMEC(_largest_share(nmi[active]), _largest_share(nmi[active].T), explicitness, nmi, active)


def _largest_share(nmi: np.ndarray) -> float:
    """Mean over rows of the largest entry's share of the row sum, rescaled to 0 for equal entries and 1 for one nonzero entry."""
    total = nmi.sum(axis=1) if nmi.size else np.zeros(1)
    if not total.any():
        return 0.0
    columns = nmi.shape[1]
    if columns == 1:
        return float(np.mean(total > 0))
    share = np.where(total > 0, nmi.max(axis=1) / np.where(total > 0, total, 1.0), 1 / columns)
    return float((share.mean() - 1 / columns) / (1 - 1 / columns))


def _explicitness(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray) -> float:
    """1 - log-loss / log(values) on the test rows of one factor. Test rows with a value absent from training are left out."""
    known = np.isin(test_label, train_label)
    values = np.unique(train_label)
    with convergence_warnings_ignored():  # without a penalty, separable classes never converge
        model = LogisticRegression(C=np.inf, class_weight="balanced").fit(train, train_label)
    # With balanced classes the null model predicts a uniform distribution, so its log-loss is exactly log(values).
    return 1.0 - log_loss(test_label[known], model.predict_proba(test[known]), labels=values) / np.log(len(values))
