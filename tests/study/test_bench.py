from functools import partial

import numpy as np
import pytest
import torch
from conftest import dyga

from dyga import load_run
from dyga.config import make_config
from dyga.study import bench
from dyga.study.bench import bench_anchors, bench_explorers, bench_training, clustered_curves


def test_clustered_curves_are_ten_clusters_and_the_same_for_a_seed():
    scalars, features = clustered_curves(2_000, units=3, dim=5, seed=1)
    assert features.shape == (2_000, 3, 5)
    assert len(np.unique(np.round((scalars[:, 0].numpy() + 1.6) / (3.2 / 9)).clip(0, 9))) == 10
    assert torch.equal(features, clustered_curves(2_000, units=3, dim=5, seed=1)[1])
    assert not torch.equal(features, clustered_curves(2_000, units=3, dim=5, seed=2)[1])


def test_bench_reports_both_sides_and_restores_the_threads():
    threads = torch.get_num_threads()
    table = bench_anchors(sizes=(600,), units=2, dim=6)
    assert torch.get_num_threads() == threads
    row = table.iloc[0]
    assert row["n"] == 600 and 1 <= row["anchors"] <= 32
    assert np.isfinite(table.to_numpy(float)).all()
    assert 0 < row["distortion"] < 1 and row["least seconds"] < row["seconds"]
    assert row["times as fast"] == pytest.approx(row["scikit-learn: seconds"] / row["seconds"])


def test_the_explorers_bench_times_new_and_seen_pictures(study):
    folder = study / "runs" / "rooms3d-smoke" / "pruned-seed0"
    table = bench_explorers(load_run(folder), moves=5).set_index("what")
    assert list(table.index) == ["new picture", "seen picture", "strip of eight"]
    assert (table["median ms"] <= table["95% ms"]).all()
    assert table.loc["seen picture", "median ms"] < table.loc["new picture", "median ms"]
    done = dyga("bench", "explorers", "--run", str(folder.parent / "absent"))
    assert done.returncode == 2 and "cannot be opened as a run" in done.stderr


def test_the_training_bench_accounts_for_every_part(monkeypatch):
    monkeypatch.setattr(bench, "_matmul_rate", partial(bench._matmul_rate, size=1_024))
    table = bench_training(make_config("smoke"), batch=4, repeats=2).set_index("part")
    assert list(table.index) == ["data", "encoder", "U-Net", "anchors", "optimiser", "whole step"]
    assert np.allclose(table["images/s"], 4_000 / table["ms"])
    networks = table.loc[["encoder", "U-Net"], "GFLOP/image"].sum()
    assert networks <= table.loc["whole step", "GFLOP/image"] < 1.3 * networks
    assert table.loc["data", "GFLOP/image"] == 0 and 0 < table.loc["whole step", "share of matmul rate"] < 1
    assert "unknown profile 'x'" in dyga("bench", "train", "--profile", "x").stderr


def test_wrong_sizes():
    for sizes in ("a", "1", "2000-3000000000"):
        done = dyga("bench", "anchors", "--sizes", sizes)
        assert done.returncode == 2
        assert "valid are numbers from 100 to 1000000" in done.stderr
    assert "invalid choice: 'x' (choose from" in dyga("bench", "x").stderr
