import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from conftest import ROOT, dyga

from dyga.checkpoint import load_model, load_resume
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.method.diffusion import LatentUnitDiffusion, independence_penalties, to_tensor
from dyga.seeds import step_seed
from dyga.training import loop as training
from dyga.training.loop import check_settings, learning_rate, train

TINY = dataclasses.replace(make_config("smoke", variant="decorrelated"), steps=20, refit_every=8, checkpoint_every=10)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def records(folder):
    timing = ("seconds", "anchor_seconds")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    list(train(TINY, folder))
    return folder


def test_same_seed_same_bits(trained, tmp_path):
    list(train(TINY, tmp_path))
    assert weights(tmp_path) == weights(trained)
    list(train(dataclasses.replace(TINY, seed=1), tmp_path / "other"))
    assert weights(tmp_path / "other") != weights(trained)


def test_an_interrupted_run_ends_with_the_same_bits(trained, tmp_path):
    loop = train(TINY, tmp_path)
    next(loop)
    loop.close()
    assert (tmp_path / "resume.pt").exists() and not (tmp_path / "model.safetensors").exists()
    list(train(TINY, tmp_path))
    assert weights(tmp_path) == weights(trained)
    assert records(tmp_path) == records(trained)
    assert not (tmp_path / "resume.pt").exists()


def test_a_complete_run_is_not_trained_again(trained):
    assert list(train(TINY, trained)) == []


def test_a_folder_of_other_settings_is_refused(trained):
    with pytest.raises(ValueError, match="holds a run of other settings"):
        next(train(dataclasses.replace(TINY, lr=1.0), trained))
    check_settings(TINY, trained)


def test_training_changes_every_part(trained):
    torch.manual_seed(step_seed(TINY.seed, 0))
    start = LatentUnitDiffusion(TINY).state_dict()
    model = LatentUnitDiffusion(TINY)
    load_model(trained / "model.safetensors", model)
    same = [name for name, tensor in model.state_dict().items() if torch.equal(tensor, start[name])]
    assert not [name for name in same if "weight" in name or "bias" in name]
    assert model.anchors.fitted and (model.anchors.counts > 0).all()


def test_averaged_weights_differ_from_the_last(trained, tmp_path):
    list(train(dataclasses.replace(TINY, ema=0.9), tmp_path))
    assert weights(tmp_path) != weights(trained)


def test_features_are_drawn_to_anchors_in_the_named_share_of_the_training_only():
    model = LatentUnitDiffusion(dataclasses.replace(make_config("smoke"), units=2, anchoring_from=0.3, anchoring_until=0.6))
    features = torch.randn(50, 2, 32)
    model.anchors.fit(features)
    drawn = []
    for model.progress in (0.0, 0.3, 0.6, 0.61, 1.0):
        drawn.append(not torch.equal(model.align(features), features))
    assert drawn == [False, True, True, False, False]


def test_rounding_grows_over_its_share_of_the_training():
    model = LatentUnitDiffusion(make_config("smoke", variant="decorrelated_quantised"))
    assert model.rounding == 1
    grown = []
    for model.progress in (0.0, 0.3, 0.55, 0.8, 1.0):
        grown.append(model.rounding)
    assert np.allclose(grown, [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("variant", ["planar", "planar_subspace"])
def test_units_of_two_scalars_learn_and_go_on_after_a_kill(variant, tmp_path):
    config = dataclasses.replace(TINY, variant=variant, unit_scalars=2, alignment=make_config(variant=variant).alignment)
    list(train(config, tmp_path / "whole"))
    for record in train(config, tmp_path / "cut"):
        if record["step"] == 10:
            break
    list(train(config, tmp_path / "cut"))
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_quantised_run_ends_with_ten_exact_features_a_unit_or_fewer(tmp_path):
    config = dataclasses.replace(TINY, levels=10, anchoring=0.0)
    list(train(config, tmp_path))
    model = LatentUnitDiffusion(config).eval()
    load_model(tmp_path / "model.safetensors", model)
    levels = model.feature_extractor.levels
    assert levels.fitted and levels.counts.max() <= 10
    with torch.no_grad():
        features = model.feature_extractor(to_tensor(load_dataset("rooms3d").images[np.arange(300)]))
    for unit in range(config.units):
        assert len(features[:, unit].round(decimals=4).unique(dim=0)) <= levels.counts[unit]


def test_the_loop_tells_the_model_how_far_it_is(tmp_path, monkeypatch):
    seen, forward = [], LatentUnitDiffusion.forward
    monkeypatch.setattr(LatentUnitDiffusion, "forward", lambda self, *a: seen.append(self.progress) or forward(self, *a))
    list(train(dataclasses.replace(TINY, steps=4), tmp_path))
    assert seen == [0, 0.25, 0.5, 0.75]


def test_learning_rate_warms_up_and_decays():
    config = make_config("quick")
    rates = [learning_rate(config, step) for step in range(config.steps)]
    assert rates[0] == pytest.approx(config.lr / config.warmup)
    assert rates[config.warmup] == max(rates) == config.lr
    assert 0 < rates[-1] < config.lr / 100
    assert learning_rate(make_config("paper"), 0) == 1e-4


def test_independence_penalties_from_their_definitions():
    torch.manual_seed(0)
    scalars = torch.randn(100, 4)
    scalars[:, 1] = scalars[:, 0] * 2 + 1
    correlation = torch.corrcoef(scalars.T)
    expected = (correlation**2).sum() - 4
    decorrelation, kurtosis = independence_penalties(scalars)
    assert decorrelation == pytest.approx(float(expected) / 4, rel=1e-3)
    standard = (scalars - scalars.mean(dim=0)) / scalars.std(dim=0)
    assert kurtosis == pytest.approx(float((standard**4).mean()), rel=1e-3)


def test_two_scalars_a_unit_are_penalised_least_on_a_ring():
    angle = torch.rand(4_000, 2) * 2 * math.pi
    ring, other = torch.stack([angle.cos(), angle.sin()], dim=-1).unbind(dim=1)
    whole = independence_penalties(torch.cat([ring, other], dim=1), unit_scalars=2)
    torn = independence_penalties(torch.cat([ring, other], dim=1)[:, [0, 2, 1, 3]], unit_scalars=2)
    assert whole[0] == pytest.approx(float(torn[0]), abs=1e-4) and whole[0] < 0.01
    assert whole[1] == pytest.approx(1, abs=0.02) and torn[1] == pytest.approx(1.25, abs=0.02)


def test_pruned_scalars_have_no_penalties():
    torch.manual_seed(0)
    scalars = torch.randn(100, 3) @ torch.randn(3, 3)
    nothing = torch.zeros(100, 1)
    alone = independence_penalties(scalars)
    padded = independence_penalties(
        torch.cat([scalars[:, :1], nothing, nothing, nothing, nothing, scalars[:, 1:2], scalars[:, 2:], nothing], dim=1),
        unit_scalars=2,
    )
    assert padded[0] == pytest.approx(float(alone[0]) * 3 / 4, rel=1e-4)  # over the number of all units, pruned ones too
    assert padded[1] == pytest.approx(float(alone[1]), rel=1e-4)


def test_unmixed_even_factors_have_less_kurtosis_than_any_rotation_of_them():
    factors = torch.cartesian_prod(torch.linspace(-1, 1, 30), torch.linspace(-1, 1, 30))
    at_rest = independence_penalties(factors)[1]
    assert at_rest == pytest.approx(1.8, abs=0.05)
    for angle in (0.2, 0.5, math.pi / 4):
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        decorrelation, kurtosis = independence_penalties(factors @ turn)
        assert decorrelation < 1e-4 and kurtosis > at_rest + 0.03


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged checkpoint"):
        load_model(tmp_path / "model.safetensors", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="there is no such checkpoint"):
        load_model(tmp_path / "none", torch.nn.Linear(1, 1))
    (tmp_path / "resume.pt").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"resume.pt: damaged .*; delete it"):
        load_resume(tmp_path / "resume.pt")


def test_a_checkpoint_of_another_configuration_is_refused(trained):
    with pytest.raises(ValueError, match="checkpoint of another configuration"):
        load_model(trained / "model.safetensors", torch.nn.Linear(1, 1))


def test_sigkill_at_some_moment_changes_nothing(study, tmp_path):
    """A run of the command line, killed twice, ends with the study's metrics.json."""
    folder = tmp_path / "runs" / "rooms3d-smoke" / "pruned-seed0"
    command = ["train", "--profile", "smoke", "--variant", "pruned", "--folder", str(folder)]
    for at_least in (12, 25):
        process = subprocess.Popen(
            [sys.executable, "-m", "dyga", *command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        log = folder / "log.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) * 10 >= at_least:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = dyga(*command)
    assert done.returncode == 0, done.stderr
    finished = study / "runs" / "rooms3d-smoke" / "pruned-seed0" / "metrics.json"
    assert (folder / "metrics.json").read_text() == finished.read_text()


def test_two_processes_train_as_one_does_and_one_of_them_writes(study, tmp_path):
    folder = tmp_path / "pruned-seed0"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dyga", "train"]
    command = [sys.executable, *launch, "--profile", "smoke", "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    alone = study / "runs" / "rooms3d-smoke" / "pruned-seed0"
    logs = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (folder, alone)]
    assert [r["step"] for r in logs[0]] == [r["step"] for r in logs[1]]
    ours, theirs = ([r["diffusion"] for r in log] for log in logs)
    assert ours != theirs and np.allclose(ours, theirs, rtol=0.15)
    assert logs[0][-1]["anchors"] != [0] * 8
    assert done.stdout.count("factor_vae_score") == 1
    assert {p.name for p in folder.iterdir()} == {p.name for p in alone.iterdir()} - {"output.txt", "control.json"}


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    accelerator = types.SimpleNamespace(device=torch.device("cpu"), process_index=0, num_processes=3)
    with pytest.raises(ValueError, match="batch 16 cannot be shared by 3 processes"):
        training._Training(TINY, tmp_path, None, accelerator)


def test_out_of_memory_means_smaller_micro_batches(tmp_path, capsys):
    accelerator = training.make_accelerator(TINY)
    run = training._Training(TINY, tmp_path, None, accelerator)
    whole, sizes = run._gradients, []

    def small_machine(step, *batch):
        sizes.append(run.micro_batch)
        if run.micro_batch > 5:
            raise torch.OutOfMemoryError("no room")
        return whole(step, *batch)

    run._gradients = small_machine
    losses = run._step(0, *next(run.batches.along([run._rows(0)])))
    assert sizes == [16, 8, 4] and torch.isfinite(losses).all() and losses[0] > 0
    assert "out of memory: going on with 4 images at a time" in capsys.readouterr().err
    assert run.reservoir[:16].abs().sum(dim=(1, 2)).gt(0).all() and not run.reservoir[16:].any()


def test_no_memory_at_all_is_said(tmp_path):
    run = training._Training(TINY, tmp_path, None, training.make_accelerator(TINY))

    def no_machine(step, *batch):
        raise torch.OutOfMemoryError("no room")

    run._gradients = no_machine
    with pytest.raises(RuntimeError, match="out of memory with one image at a time"):
        run._step(0, *next(run.batches.along([run._rows(0)])))


def test_all_but_the_anchors_can_be_compiled_and_is(monkeypatch):
    """Four whole graphs, by a backend that takes no time: on a GPU inductor makes them."""
    config = make_config("smoke", variant="decorrelated_quantised")
    model = LatentUnitDiffusion(config)
    model.feature_extractor.levels.fit(torch.randn(100, config.units, 1))
    model.anchors.fit(torch.randn(100, config.units, config.unit_dim))
    compile_module, graphs = torch.nn.Module.compile, []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend, fullgraph=True))
    images, latents = torch.randn(4, 3, 64, 64), torch.randn(4, *model.latent_shape)

    def loss() -> torch.Tensor:
        torch.manual_seed(0)
        return model(images, latents, torch.Generator().manual_seed(0)).total

    eager = loss()
    model.compile_parts()
    assert torch.allclose(loss(), eager) and len(graphs) == 4
