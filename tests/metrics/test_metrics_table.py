import numpy as np
import pytest
from scipy.stats import t as student

from dyga import metrics


def world() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(400, 3))
    return factors + 0.3 * rng.normal(size=(400, 3)), factors


SIZES = {"num_train": 200, "num_test": 100, "seed": 4}


def test_every_metric_has_its_rows_and_values():
    codes, factors = world()
    table = metrics.evaluate(codes, factors, estimator="lightgbm", progress=False, **SIZES)
    assert table.columns.tolist() == ["metric", "quantity", "value"]
    names = ["factor_vae", "beta_vae", *["dci"] * 3, "mig", "sap", *["modularity_explicitness"] * 2]
    assert table["metric"].tolist() == [*names, *["infomec"] * 3, "knn_purity"]
    assert table["value"].between(0, 1).all()
    value = table.set_index(["metric", "quantity"])["value"]
    dci = metrics.dci(codes, factors, estimator="lightgbm", **SIZES)
    assert value["dci", "completeness"] == dci.completeness
    assert value["factor_vae", "score"] == metrics.factor_vae_score(codes, factors, **SIZES).score
    assert value["infomec", "compactness"] == metrics.infomec(codes, factors, num_train=200, seed=4).compactness


def test_a_choice_of_metrics_keeps_its_order_and_shows_progress(capsys):
    codes, factors = world()
    table = metrics.evaluate(codes, factors, metrics=("tad", "mig"), **SIZES)
    assert table["quantity"].tolist() == ["tad", "captured", "score"]
    assert table["value"][1] == 3
    captured = capsys.readouterr()
    assert "metrics" in captured.err
    assert captured.out == ""


def test_tad_is_of_the_binary_factors():
    codes, factors = world()
    wide = np.column_stack([factors, np.arange(len(factors)) % 5])
    own, among = (metrics.evaluate(codes, f, metrics=("tad",), progress=False)["value"] for f in (factors, wide))
    assert own.tolist() == among.tolist()
    with pytest.raises(ValueError, match="TAD needs binary attributes"):
        metrics.evaluate(codes, wide[:, -1:], metrics=("tad",), progress=False)


def test_unknown_and_no_names():
    codes, factors = world()
    with pytest.raises(ValueError, match=r"metrics must be names from \['factor_vae', .*'tad'\], got \['fid'\]"):
        metrics.evaluate(codes, factors, metrics=("mig", "fid"), **SIZES)
    with pytest.raises(ValueError, match="got none"):
        metrics.evaluate(codes, factors, metrics=(), **SIZES)


def test_bad_codes_are_refused_before_any_work():
    codes, factors = world()
    with pytest.raises(ValueError, match="factors has 399 rows"):
        metrics.evaluate(codes, factors[:-1], **SIZES)


def test_intervals_hold_the_values_of_evaluate_and_chance_is_low(monkeypatch):
    monkeypatch.setattr(metrics.table, "RESAMPLES", (2, 2))
    codes, factors = world()
    found, dci = metrics.evaluate_with_intervals(codes, factors, progress=False, **SIZES)
    plain = metrics.evaluate(codes, factors, estimator="lightgbm", progress=False, **SIZES)
    assert found[["metric", "quantity", "value"]].equals(plain)
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert (found["low"] >= 0).all() and (found["high"] <= 1).all()
    informative = found[found["quantity"].isin(["score", "disentanglement", "informativeness", "explicitness"])]
    assert (informative["chance"] < informative["value"] - 0.1).all()
    assert dci.disentanglement == found["value"][2]
    few = {"metrics": ("mig", "mcc"), "progress": False, **SIZES}
    once, again = (metrics.evaluate_with_intervals(codes, factors, n_jobs=n_jobs, **few).table for n_jobs in (1, 2))
    assert again.equals(once)


@pytest.mark.parametrize(("metric", "quantity"), [("mcc", "pearson"), ("sap", "score"), ("mig", "score"), ("tad", "tad")])
@pytest.mark.parametrize("size", [200, 4_000])  # halves, and for slow metrics eighths
def test_intervals_are_as_wide_as_fresh_data_vary(metric, quantity, size):
    sizes = {"num_train": size, "num_test": size // 2}

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        factors = rng.integers(2 if metric == "tad" else 3, size=(size * 3 // 2, 2))
        return factors + (0.5 if metric == "tad" else 1.0) * rng.normal(size=factors.shape), factors

    fresh = [
        metrics.evaluate(*draw(seed), metrics=(metric,), progress=False, **sizes).set_index("quantity")["value"][quantity]
        for seed in range(40)
    ]
    tables = [
        metrics.evaluate_with_intervals(*draw(seed), metrics=(metric,), progress=False, **sizes).table.set_index("quantity")
        for seed in range(12)
    ]
    widths = np.mean([(table["high"] - table["low"])[quantity] for table in tables])
    count = 4 if metric == "sap" and size == 4_000 else 12
    assert widths == pytest.approx(2 * student.ppf(0.975, count - 1) * np.std(fresh, ddof=1), rel=0.35)


def test_intervals_need_rows_and_a_known_estimator():
    codes, factors = world()
    with pytest.raises(ValueError, match="num_train must be an integer of at least 40, got 39"):
        metrics.evaluate_with_intervals(codes, factors, num_train=39, num_test=20)
    with pytest.raises(ValueError, match="num_test must be an integer of at least 10, got 5"):
        metrics.evaluate_with_intervals(codes, factors, num_train=40, num_test=5)
    with pytest.raises(ValueError, match='estimator must be "sklearn" or "lightgbm"'):
        metrics.evaluate_with_intervals(codes, factors, estimator="fast", **SIZES)
