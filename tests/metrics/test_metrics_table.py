import numpy as np
import pytest

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
