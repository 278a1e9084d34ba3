import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from conftest import ROOT, save_images

from dyga.checkpoint import load_model, load_resume, save_resume
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.extensions import Extension, build_model
from dyga.method.diffusion import LatentUnitDiffusion
from dyga.seeds import step_seed
from dyga.training import loop as training
from dyga.training.loop import MADE_OF_MODEL, learning_rate, train
from dyga.training.monitor import Monitor

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


@pytest.mark.parametrize(("refit_every", "step"), [(8, 8), (16, 10)])
def test_a_training_that_diverges_is_ended(refit_every, step, tmp_path):
    """Before features that are not finite reach the anchors, or their loss the log."""
    with pytest.raises(FloatingPointError, match=rf"has diverged \(not finite at step {step}\): lower lr"):
        list(train(dataclasses.replace(TINY, lr=1e30, refit_every=refit_every), tmp_path))
    assert not (tmp_path / "model.safetensors").exists()


def test_a_single_image_is_refused(tmp_path):
    np.savez(tmp_path / "one.npz", images=np.zeros((1, 64, 64, 3), np.uint8))
    config = make_config("smoke", f"npz:{tmp_path / 'one.npz'}")
    with pytest.raises(ValueError, match="has one image: at least 2 are needed"):
        next(train(config, tmp_path / "run", tmp_path))
    assert not (tmp_path / "run").exists()


def test_the_monitor_leaves_the_model_and_the_random_generators_alone():
    model, data = build_model(TINY).train(), load_dataset()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    monitor = Monitor(dataclasses.replace(TINY, steps=600), data)
    assert monitor.measure(model, 50) == {}
    measured = monitor.measure(model, 100)
    assert set(measured) == {"factor_vae_score", "mig"} and all(0 <= score <= 1 for score in measured.values())
    assert model.training and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_another_seed_gives_another_start(trained, tmp_path):
    loop = train(dataclasses.replace(TINY, seed=1), tmp_path)
    next(loop)
    loop.close()
    assert records(tmp_path)[0]["diffusion"] != records(trained)[0]["diffusion"]


def test_an_interrupted_run_ends_with_the_same_bits(trained, tmp_path):
    loop = train(TINY, tmp_path)
    next(loop)
    loop.close()
    assert (tmp_path / "resume.pt").exists() and not (tmp_path / "model.safetensors").exists()
    assert [record["step"] for record in train(TINY, tmp_path)] == [20]  # not from the start
    assert weights(tmp_path) == weights(trained)
    assert records(tmp_path) == records(trained)
    assert not (tmp_path / "resume.pt").exists()


def test_a_complete_run_is_not_trained_again(trained):
    assert list(train(TINY, trained)) == []


def test_a_folder_of_other_settings_is_refused(trained):
    with pytest.raises(ValueError, match=r"was made of other settings \(lr was 0.004, now 1.0\): delete that folder"):
        next(train(dataclasses.replace(TINY, lr=1.0), trained))


@pytest.fixture
def pictures(tmp_path):
    return save_images(tmp_path / "a" / "pictures", np.arange(20) * 20_000)


def on(pictures, run, **changes):
    config = dataclasses.replace(make_config("smoke", f"folder:{pictures}", "encdiff"), steps=20, checkpoint_every=10, **changes)
    return train(config, run, run.parent / "data")


def test_neither_a_begun_nor_a_finished_run_of_other_pictures_is_used(pictures, tmp_path):
    run, other = tmp_path / "run", tmp_path / "b" / "pictures"
    next(on(pictures, run))
    assert (run / "resume.pt").exists()
    shutil.copytree(pictures, other)
    for finished in (False, True):
        with pytest.raises(ValueError, match=r"run was made of other data \(data was 'folder:.*/a/pictures, 20 images, digest"):
            next(on(other, run))
        (pictures / "00.png").rename(tmp_path / "kept.png")
        shutil.copy(pictures / "01.png", pictures / "00.png")
        with pytest.raises(
            ValueError, match=r"run was made of other data .*: delete that folder to make it anew, or choose another"
        ):
            next(on(pictures, run))
        os.replace(tmp_path / "kept.png", pictures / "00.png")
        if not finished:
            list(on(pictures, run))
    assert list(on(pictures, run)) == []


def test_results_that_do_not_say_what_they_were_made_of_are_refused(trained, tmp_path):
    shutil.copy(trained / "model.safetensors", tmp_path)
    with pytest.raises(ValueError, match=r"holds model.safetensors, but no config.json that says what it was made of"):
        next(train(TINY, tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: damaged"):
        next(train(TINY, tmp_path))
    older = json.loads((trained / "config.json").read_text())
    del older["data"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    with pytest.raises(ValueError, match=r"made of other data \(data was 'unknown', now 'rooms3d, version 1'\)"):
        next(train(TINY, tmp_path))


def test_what_was_made_of_a_deleted_model_goes_with_it(tmp_path):
    list(train(dataclasses.replace(TINY, steps=2), tmp_path))
    for name in MADE_OF_MODEL:
        (tmp_path / name).write_text("of the first model")
    (tmp_path / "model.safetensors").unlink()
    list(train(dataclasses.replace(TINY, steps=2), tmp_path))
    assert not [name for name in MADE_OF_MODEL if (tmp_path / name).exists()]


def test_training_changes_every_part(trained):
    torch.manual_seed(step_seed(TINY.seed, 0))
    start = build_model(TINY).state_dict()
    model = build_model(TINY)
    load_model(trained / "model.safetensors", model)
    same = [name for name, tensor in model.state_dict().items() if torch.equal(tensor, start[name])]
    assert not [name for name in same if "weight" in name or "bias" in name]
    assert model.anchors.fitted and (model.anchors.counts > 0).all()


class Weighed(Extension):
    """Keeps the sum of all weights after each step."""

    def __init__(self):
        super().__init__()
        self.sums = []

    def after_step(self, training) -> None:
        self.sums.append(sum(weight.double().sum().item() for weight in training.model.parameters()))


def test_the_average_is_that_of_its_formula_and_is_saved(tmp_path, monkeypatch):
    kept, finish = {}, training.Training._finish

    def watched(run: training.Training) -> None:
        kept["last"] = [weight.clone() for weight in run.model.parameters()]
        kept["averaged"] = [weight.clone() for weight in run.average.parameters()]
        finish(run)

    monkeypatch.setattr(training.Training, "_finish", watched)
    weighed = Weighed()
    list(train(dataclasses.replace(TINY, ema=0.5), tmp_path, extensions=[weighed]))
    expected = weighed.sums[0]
    for count, current in enumerate(weighed.sums[1:], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * current
    assert sum(weight.double().sum().item() for weight in kept["averaged"]) == pytest.approx(expected, rel=1e-5)
    saved = build_model(TINY)
    load_model(tmp_path / "model.safetensors", saved)
    assert all(map(torch.equal, saved.parameters(), kept["averaged"]))
    assert not any(map(torch.equal, saved.parameters(), kept["last"]))
    measured = saved.feature_extractor.convolutions[0][1].num_batches_tracked
    assert int(measured) == -(-TINY.feature_buffer // 256)  # batch statistics are measured anew for the average


CONTINUED = [{"scalars_per_unit": 2}, {"alignment": "subspace", "quantiser_values": 10}, {"ema": 0.9}]


@pytest.mark.parametrize("changes", CONTINUED, ids=str)
def test_runs_with_extensions_or_averages_continue_after_a_kill(changes, tmp_path):
    config = dataclasses.replace(TINY, **changes)
    list(train(config, tmp_path / "whole"))
    for record in train(config, tmp_path / "cut"):
        if record["step"] == 10:
            break
    assert [record["step"] for record in train(config, tmp_path / "cut")] == [20]
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


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
    """A run of the command line that was killed, while it pruned, ends with the bits of the study's."""
    folder = tmp_path / "runs" / "rooms3d-smoke" / "pruned-seed0"
    command = [sys.executable, "-m", "dyga", "train", "--profile", "smoke", "--variant", "pruned", "--folder", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = folder / "log.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) >= 3):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (folder / "resume.pt").exists() and not (folder / "model.safetensors").exists()
    assert min(record["step"] for record in train(make_config("smoke", variant="pruned"), folder)) > 10
    finished = study / "runs" / "rooms3d-smoke" / "pruned-seed0"
    assert weights(folder) == weights(finished) and records(folder) == records(finished)


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
    missing = {"output.txt", "interventions.json", "first_stage"}
    assert {p.name for p in folder.iterdir()} == {p.name for p in alone.iterdir()} - missing


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    accelerator = types.SimpleNamespace(device=torch.device("cpu"), process_index=0, num_processes=3)
    with pytest.raises(ValueError, match="batch 16 cannot be shared by 3 processes"):
        training.Training(TINY, tmp_path, load_dataset(), accelerator)


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path):
    for record in train(TINY, tmp_path):
        if record["step"] == 10:
            break
    save_resume(tmp_path / "resume.pt", load_resume(tmp_path / "resume.pt") | {"world": 4})
    with pytest.raises(ValueError, match="was begun with 4 processes, not 1: use as many, or delete it"):
        list(train(TINY, tmp_path))


def test_accelerates_environment_does_not_divide_the_gradients(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert training.make_accelerator().gradient_accumulation_steps == 1


def test_each_model_has_its_own_precision(tmp_path):
    """bfloat16 on the CPU, as a GPU would use it; the gradients stay in float32."""
    found = {}
    for half in (True, False):
        run = training.Training(TINY, tmp_path, load_dataset(), training.make_accelerator())
        run.gradients.half = half
        batch = next(run.batches.along([run._rows(0)]))
        losses, points = run.gradients.compute(0, *batch)
        run._remember(points)
        gradients = [weight.grad for weight in run.model.parameters() if weight.grad is not None]
        assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)
        found[half] = losses["loss"].item(), torch.cat([gradient.flatten() for gradient in gradients])
    assert found[True][0] != found[False][0] and found[True][0] == pytest.approx(found[False][0], rel=0.02)
    assert torch.cosine_similarity(found[True][1], found[False][1], dim=0) > 0.98


def test_out_of_memory_means_smaller_micro_batches_and_no_room_at_all_is_said(tmp_path, capsys):
    config = dataclasses.replace(make_config("smoke", variant="encdiff"), steps=20)  # penalties depend on the batch's size
    run = training.Training(config, tmp_path, load_dataset(), training.make_accelerator())
    whole, sizes, room = run.gradients._in_parts, [], 5

    def small_machine(step, *batch):
        sizes.append(run.gradients.micro_batch)
        if run.gradients.micro_batch > room:
            raise torch.OutOfMemoryError("no room")
        return whole(step, *batch)

    def gradient() -> torch.Tensor:
        return torch.cat([weight.grad.flatten() for weight in run.model.parameters() if weight.grad is not None])

    batch = next(run.batches.along([run._rows(0)]))
    at_once = whole(0, *batch)[0]["loss"], gradient()
    run.gradients._in_parts = small_machine
    losses, points = run.gradients.compute(0, *batch)
    # Batch statistics of four images are not those of sixteen, and the noise is drawn in another order.
    assert losses["loss"] == pytest.approx(float(at_once[0]), rel=0.2)
    assert 0.7 < gradient().norm() / at_once[1].norm() < 1.4
    assert torch.cosine_similarity(gradient(), at_once[1], dim=0) > 0.8
    assert sizes == [16, 8, 4] and all(loss.isfinite() for loss in losses.values()) and losses["loss"] > 0
    run._remember(points)
    assert "out of memory: continuing with 4 images at a time" in capsys.readouterr().err
    assert run.feature_buffer[:16].abs().sum(dim=(1, 2)).gt(0).all() and not run.feature_buffer[16:].any()
    room = 0
    with pytest.raises(RuntimeError, match="out of memory with one image at a time"):
        run.gradients.compute(0, *batch)


def test_all_but_the_anchors_can_be_compiled_and_is(monkeypatch):
    """Four whole graphs, by a backend that takes no time: on a GPU inductor makes them."""
    config = make_config("smoke", variant="decorrelated_quantised")
    model = build_model(config)
    model.extensions[-1].values.fit(torch.randn(100, config.units, 1))
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
