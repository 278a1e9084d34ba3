"""Each metric is compared with a plain loop over its published definition, on well and poorly disentangled codes."""

import math

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

import dyga.metrics as dm

TRAIN, TEST = 1_000, 1_000
SIZES = {"num_train": TRAIN, "num_test": TEST}
# Sampled scores have a standard error near 0.01, and the two implementations draw different rows. Means over seeds are compared.
SEEDS = range(3)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def draw_factors(rng):
    # The values of one factor are not equally frequent, so the mean over rows differs from the mean over values.
    uneven = rng.choice(3, size=TRAIN + TEST, p=[0.6, 0.25, 0.15])
    return np.stack([uneven, *(rng.integers(values, size=len(uneven)) for values in (5, 4, 3))], axis=1)


def known():
    """One unit per factor, a noise unit, and a unit whose variance is so small that some metrics drop it."""
    rng = np.random.default_rng(11)
    factors = draw_factors(rng)
    clean = factors[:, [2, 0, 3, 1]] * [1.0, -1.0, 1.5, 2.0]
    spare = rng.normal(size=(len(factors), 2)) * [1.0, 0.02]
    return np.hstack([clean + 0.15 * rng.normal(size=clean.shape), spare]), factors


def messy():
    """Rotated and nonlinearly distorted factors with noise, different scales and a duplicated unit."""
    rng = np.random.default_rng(12)
    factors = draw_factors(rng)
    sources = np.hstack([(factors - factors.mean(axis=0)) / factors.std(axis=0), rng.normal(size=(len(factors), 1))])
    rotated = sources @ np.linalg.qr(1.2 * np.eye(5) + 0.6 * rng.normal(size=(5, 5)))[0]
    distorted = np.stack(
        [np.tanh(rotated[:, 0]), rotated[:, 1] ** 3 / 3, rotated[:, 2], np.sin(rotated[:, 3]), rotated[:, 4]], axis=1
    )
    noisy = (distorted + 0.15 * rng.normal(size=distorted.shape)) * [1.0, 0.5, 4.0, 1.5, 1.0]
    return np.hstack([noisy, noisy[:, :1]]), factors


@pytest.fixture(scope="module", params=[known, messy], ids=["known", "messy"])
def data(request):
    """Codes (n, 6) and factors (n, 4)."""
    return request.param()


def split(seed):
    rows = np.random.default_rng(1_000 + seed).permutation(TRAIN + TEST)
    return rows[:TRAIN], rows[TRAIN:]


def gap(values):
    second, best = sorted(values)[-2:]
    return best - second


def information(first, second):
    """Mutual information in nats, summed over the pairs of values."""
    total = 0.0
    for a in set(first):
        for b in set(second):
            both = np.mean((first == a) & (second == b))
            if both > 0:
                total += both * math.log(both / (np.mean(first == a) * np.mean(second == b)))
    return total


def binned_information(unit, factors, bins=20):
    """Mutual information of each factor and a unit in bins of equal width."""
    edges = np.linspace(unit.min(), unit.max(), bins + 1)[1:-1]
    binned = np.array([sum(value >= edge for edge in edges) for value in unit])
    return [information(binned, factor) for factor in factors.T]


def rows_by_value(factors):
    return [{value: np.flatnonzero(factor == value) for value in set(factor)} for factor in factors.T]


def naive_factor_vae(codes, factors, seed):
    rng = np.random.default_rng(2_000 + seed)
    whole = [unit.var(ddof=1) for unit in codes.T]
    rows, table, correct = rows_by_value(factors), {}, 0
    for vote in range(TRAIN + TEST):
        factor = int(rng.integers(factors.shape[1]))
        batch = codes[rng.choice(rows[factor][factors[rng.integers(len(codes)), factor]], 64)]
        ratios = {u: batch[:, u].var(ddof=1) / v for u, v in enumerate(whole) if math.sqrt(v) >= 0.05}
        counts = table.setdefault(min(ratios, key=ratios.get), [0] * factors.shape[1])
        if vote < TRAIN:
            counts[factor] += 1
        else:
            correct += counts.index(max(counts)) == factor
    return {"score": correct / TEST}


def naive_beta_vae(codes, factors, seed):
    rng = np.random.default_rng(3_000 + seed)
    rows, points, held = rows_by_value(factors), [], []
    for _ in range(TRAIN + TEST):
        factor, total = int(rng.integers(factors.shape[1])), 0.0
        for first in rng.integers(len(codes), size=64):
            alike = rows[factor][factors[first, factor]]
            total = total + np.abs(codes[first] - codes[alike[rng.integers(len(alike))]])
        points.append(total / 64)
        held.append(factor)
    guesses = LogisticRegression().fit(points[:TRAIN], held[:TRAIN]).predict(points[TRAIN:])
    return {"score": np.mean(guesses == np.array(held[TRAIN:]))}


def naive_sap(codes, factors, seed):
    train, test = split(seed)
    hits = np.zeros((codes.shape[1], factors.shape[1]))
    for u, f in np.ndindex(hits.shape):
        machine = LinearSVC(C=0.01, class_weight="balanced").fit(codes[train][:, [u]], factors[train, f])
        hits[u, f] = np.mean(machine.predict(codes[test][:, [u]]) == factors[test, f])
    return {"score": np.mean([gap(column) for column in hits.T])}


def naive_explicitness(codes, factors, seed):
    train, test = split(seed)
    total = 0.0
    for factor in factors.T:
        for value in set(factor):
            model = LogisticRegression().fit(codes[train], factor[train] == value)
            area = roc_auc_score(factor[test] == value, model.predict_proba(codes[test])[:, 1])
            total += area / len(set(factor)) / factors.shape[1]
    return {"explicitness": total}


def naive_modularity(codes, factors):
    rows = [sorted(binned_information(unit, factors)) for unit in codes.T]
    return {"modularity": np.mean([1 - np.mean([(stray / row[-1]) ** 2 for stray in row[:-1]]) for row in rows])}


def naive_mig(codes, factors):
    matrix = np.array([binned_information(unit, factors) for unit in codes.T])
    return {"score": np.mean([gap(matrix[:, f]) / information(factor, factor) for f, factor in enumerate(factors.T)])}


def balanced_log_loss(inputs, label):
    """Mean log-loss of an unpenalised multinomial logistic regression with equal total weight for each value."""
    weight = np.array([len(label) / np.sum(label == value) / len(set(label)) for value in label])
    likely = LogisticRegression(C=np.inf).fit(inputs, label, sample_weight=weight).predict_proba(inputs)
    return -np.mean([math.log(max(row[value], 1e-15)) for row, value in zip(likely, label, strict=True)])


def naive_infomec(codes, factors):
    scaled = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    nmi = np.zeros((codes.shape[1], factors.shape[1]))
    for u, f in np.ndindex(nmi.shape):
        shared = mutual_info_classif(scaled[:, [u]], factors[:, f], n_neighbors=10, random_state=4_000)[0]
        nmi[u, f] = shared / information(factors[:, f], factors[:, f])
    active = nmi[np.ptp(codes, axis=0) > max(np.ptp(codes, axis=0)) / 20]
    results = {"nmi": nmi}
    for quantity, table in (("modularity", active), ("compactness", active.T)):
        even = 1 / table.shape[1]
        # The formula is 0 / 0 for a unit without information, which counts as evenly distributed.
        shares = [max(row) / sum(row) if sum(row) > 0 else even for row in table]
        results[quantity] = (np.mean(shares) - even) / (1 - even)
    results["explicitness"] = np.mean(
        [1 - balanced_log_loss(scaled, factor) / balanced_log_loss(0 * scaled, factor) for factor in factors.T]
    )
    return results


def naive_tad(codes, attributes):
    total, captured = 0.0, 0
    for a, attribute in enumerate(attributes.T):
        areas = [max(area, 1 - area) for area in (roc_auc_score(attribute, unit) for unit in codes.T)]
        others = [other for b, other in enumerate(attributes.T) if b != a]
        shared = max(information(attribute, other) for other in others) / information(attribute, attribute)
        if max(areas) >= 0.75 and shared <= 0.2:
            total, captured = total + gap(areas), captured + 1
    return {"tad": total, "captured": captured}


def concentration(table):
    """Mean over rows of 1 - entropy, weighted by the row sums. The base of the logarithm is the number of columns."""
    total = 0.0
    for row in table:
        shares = [value / sum(row) for value in row if value > 0]
        total += sum(row) * (1 + sum(share * math.log(share, len(row)) for share in shares))
    return total / sum(map(sum, table))


@pytest.fixture(scope="module")
def boosted(data):
    """DCI from scikit-learn's gradient boosting with explicit sums, computed once for both estimators."""
    (codes, factors), (train, test) = data, split(0)
    models = [GradientBoostingClassifier(random_state=5_000).fit(codes[train], factor[train]) for factor in factors.T]
    columns = [list(model.feature_importances_) for model in models]
    hits = [np.mean(model.predict(codes[test]) == factor[test]) for model, factor in zip(models, factors.T, strict=True)]
    disentanglement = concentration(list(zip(*columns, strict=True)))
    return {"disentanglement": disentanglement, "completeness": concentration(columns), "informativeness": np.mean(hits)}


METRICS = {naive_factor_vae: dm.factor_vae_score, naive_beta_vae: dm.beta_vae_score, naive_sap: dm.sap}
METRICS |= {naive_explicitness: dm.modularity_explicitness, naive_modularity: dm.modularity_explicitness}
METRICS |= {naive_mig: dm.mig, naive_infomec: dm.infomec}


def agree(result, expected, tolerance):
    for quantity, value in expected.items():
        np.testing.assert_allclose(result[quantity], value, rtol=0, atol=tolerance, err_msg=quantity)


@pytest.mark.parametrize("naive", [naive_factor_vae, naive_beta_vae, naive_sap, naive_explicitness])
def test_metrics_of_two_samples(data, naive):
    """Metrics with training and test rows: means over seeds are compared."""
    results = [vars(METRICS[naive](*data, **SIZES, seed=seed)) for seed in SEEDS]
    expected = [naive(*data, seed) for seed in SEEDS]
    means = [{quantity: np.mean([one[quantity] for one in many]) for quantity in expected[0]} for many in (results, expected)]
    agree(*means, 0.05 if naive is naive_beta_vae else 0.03)


@pytest.mark.parametrize("naive", [naive_mig, naive_infomec, naive_modularity])
def test_metrics_of_one_sample(data, naive):
    """Metrics without test rows use all rows. Modularity uses all but one, since that of a noise unit depends on the rows."""
    codes, factors = data
    sizes = {"num_train": len(codes) - 1, "num_test": 1} if naive is naive_modularity else {"num_train": len(codes)}
    agree(vars(METRICS[naive](codes, factors, **sizes)), naive(codes, factors), 0.03)


def test_tad(data):
    """Binarised factors, and one more attribute that depends on another."""
    codes, factors = data
    attributes = (factors >= [1, 2, 2, 2]).astype(int)
    flip = np.random.default_rng(6).random(len(codes)) < 0.1
    attributes = np.hstack([attributes, (attributes[:, 2] ^ flip)[:, None]])
    agree(vars(dm.total_auroc_difference(codes, attributes)), naive_tad(codes, attributes), 0.03)


@pytest.fixture(scope="module")
def fitted(data):
    return vars(dm.dci(*data, **SIZES, estimator="sklearn"))


@pytest.mark.parametrize("quantity", ["disentanglement", "completeness", "informativeness"])
def test_dci(boosted, fitted, quantity):
    """On different splits."""
    agree(fitted, {quantity: boosted[quantity]}, 0.03)
