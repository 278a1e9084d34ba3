"""The training loop: one generator a run, which a notebook may iterate and a command line exhausts.

All randomness of step s comes from (seed, s): a run that was killed goes on from its last checkpoint and ends with the same
bits, with no generator states to keep.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from . import metrics
from .checkpoint import load_resume, save_model, save_resume
from .config import Config
from .data import load_dataset
from .diffusion import LatentUnitDiffusion, to_tensor
from .models.autoencoder import FIRST_STAGES
from .provenance import describe, locked, write_json


class Interrupted(RuntimeError):
    """The process that had started this one is gone."""


def step_seed(seed: int, step: int, stream: int = 0) -> int:
    """A 63-bit seed for one step of one run; streams (pictures and noise, dropout) are independent of each other."""
    return int(np.random.SeedSequence((seed, step, stream)).generate_state(1, np.uint64)[0] >> 1)


def learning_rate(config: Config, step: int) -> float:
    """Linear warm-up, constant, then linear decay over the last `decay` share of the steps."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    left = (config.steps - step) / (config.decay * config.steps) if config.decay else 1.0
    return config.lr * min(warm, left, 1.0)


def make_first_stage(config: Config, images) -> nn.Module:
    """The configured first stage with its latent's scale set from 2,048 images of the data, the same in every run."""
    torch.manual_seed(0)
    stage = FIRST_STAGES[config.first_stage]().eval().requires_grad_(False)
    with torch.no_grad():
        stage.calibrate(to_tensor(images[sample_rows(len(images), min(2_048, len(images)), 0)]))
    return stage


def sample_rows(total: int, count: int, seed: int) -> np.ndarray:
    """`count` different row numbers below `total`, sorted, the same for the same seed."""
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def train_first_stage(config: Config, folder: Path, data_dir: Path | None = None) -> None:
    """Trains the first stage's decoder (pooled) or all of it (vq) and writes `folder`/model.safetensors."""
    with locked(folder):
        if (folder / "model.safetensors").exists():
            return
        start = time.monotonic()
        images = load_dataset(config.dataset, data_dir).images
        stage = make_first_stage(config, images).train().requires_grad_(True)
        peak = 4e-3 if config.first_stage == "pooled" else 2e-4
        optimiser = torch.optim.AdamW(stage.parameters(), lr=peak)
        for step in tqdm(range(config.first_stage_steps), "first stage", mininterval=10, ascii=True):
            exit_if_orphaned()
            optimiser.param_groups[0]["lr"] = peak * (1 - step / config.first_stage_steps)
            rows = np.random.default_rng(step_seed(0, step)).integers(len(images), size=32)
            loss = stage.loss(to_tensor(images[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if config.first_stage == "vq":
            with torch.no_grad():
                stage.eval().calibrate(to_tensor(images[sample_rows(len(images), 256, 0)]))
        save_model(folder / "model.safetensors", stage)
        seconds = time.monotonic() - start
        write_json(folder / "provenance.json", describe(final_l1=float(loss.detach()), seconds=round(seconds, 1)))


def train(config: Config, folder: Path, data_dir: Path | None = None) -> Iterator[dict]:
    """Trains one variant into `folder`, yielding the log's records (step, loss, lr, images_per_second, anchors).

    Leaves config.json, log.jsonl and model.safetensors; while under way resume.pt. Goes on where a killed run was, and yields
    nothing if the run is complete. ValueError if the folder holds a run of other settings.
    """
    with locked(folder):
        check_settings(config, folder)
        if (folder / "model.safetensors").exists():
            return
        write_json(folder / "config.json", json.loads(config.to_json()))
        yield from _Training(config, folder, data_dir).steps()


def check_settings(config: Config, folder: Path) -> None:
    """ValueError if `folder` holds a run of other settings, since its checkpoint would not be this run's."""
    path = folder / "config.json"
    if path.exists() and path.read_text().strip() != config.to_json().strip():
        raise ValueError(f"{folder} holds a run of other settings: delete it or choose another --out")


def exit_if_orphaned() -> None:
    """Workers end with the process that started them, so that nothing trains on unseen after a kill."""
    parent = os.environ.get("DYGA_PARENT")
    if parent and os.getppid() != int(parent):
        raise Interrupted("the process that started this run has ended")


class _Curve:
    """Two cheap metrics of the units' scalars on 2,000 images, six times in a run: enough to see when units become factors."""

    def __init__(self, config: Config, data):
        self.every = max(config.steps // 60, 1) * 10
        self.rows = sample_rows(len(data.images), min(2_000, len(data.images)), seed=1) if data.factors is not None else None
        self.data = data

    def measure(self, model: LatentUnitDiffusion, step: int) -> dict[str, float]:
        """The record's additions at this step, often none. Leaves the model and the generators as they were."""
        if self.rows is None or step % self.every:
            return {}
        model.eval()
        with torch.no_grad():
            batches = np.array_split(self.rows, 4)
            codes = np.concatenate([model.feature_extractor.scalars(to_tensor(self.data.images[b])).numpy() for b in batches])
        model.train()
        factors, half = self.data.factors[self.rows], len(codes) // 2
        votes = metrics.factor_vae_score(codes, factors, num_train=half, num_test=len(codes) - half, seed=0)
        return {"factor_vae_score": votes.score, "mig": metrics.mig(codes, factors, num_train=len(codes), seed=0).score}


class _Training:
    """State of one run: model, optimiser, reservoir of recent features, log."""

    def __init__(self, config: Config, folder: Path, data_dir: Path | None):
        self.config, self.folder = config, folder
        data = load_dataset(config.dataset, data_dir)
        self.images, self.curve = data.images, _Curve(config, data)
        self.first_stage = make_first_stage(config, self.images)
        torch.manual_seed(step_seed(config.seed, 0))
        self.model = LatentUnitDiffusion(config)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay, fused=True
        )
        self.average = None
        if config.ema:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=False)
        self.reservoir = torch.zeros(config.reservoir, config.units, config.unit_dim)
        self.first_step, self.seconds = 0, 0.0
        self._resume()

    def _resume(self) -> None:
        state = load_resume(self.folder / "resume.pt")
        log = self.folder / "log.jsonl"
        if state is None:
            log.write_text("")
            return
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.reservoir, self.first_step, self.seconds = state["reservoir"], state["step"], state["seconds"]
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.first_step))

    def _save(self, step: int) -> None:
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.average:
            state["average"] = self.average.state_dict()
        state |= {"reservoir": self.reservoir, "step": step, "seconds": self.seconds}
        save_resume(self.folder / "resume.pt", state)

    def steps(self) -> Iterator[dict]:
        """Runs the remaining steps; writes and yields a record every ten."""
        config, recent, anchor_seconds = self.config, [], 0.0
        self.model.train()
        start = time.monotonic() - self.seconds
        for step in range(self.first_step, config.steps):
            exit_if_orphaned()
            loss = self._step(step)
            recent.append([float(loss.total.detach()), float(loss.diffusion), float(loss.decorrelation), float(loss.kurtosis)])
            done = step + 1
            if config.anchoring and (done % config.refit_every == 0 or done == config.steps):
                before = time.monotonic()
                self.model.anchors.fit(
                    self.reservoir[: done * config.batch],
                    seed=config.seed,
                    bins=config.anchor_bins,
                    iterations=config.anchor_iterations,
                )
                anchor_seconds += time.monotonic() - before
            if done % 10 == 0 or done == config.steps:
                self.seconds = time.monotonic() - start
                record = dict(
                    zip(("loss", "diffusion", "decorrelation", "kurtosis"), np.mean(recent, axis=0).tolist(), strict=True)
                )
                record = {"step": done, **record, "lr": learning_rate(config, step)}
                record |= {"seconds": round(self.seconds, 2), "anchor_seconds": round(anchor_seconds, 3)}
                record |= {"anchors": self.model.anchors.counts.tolist(), **self.curve.measure(self.model, done)}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
                recent = []
                if done % config.checkpoint_every == 0 and done < config.steps:
                    self._save(done)
                yield record
        if self.average:
            # Averaged parameters; batch statistics and anchors are the model's own, which are averages already.
            for own, averaged in zip(self.model.parameters(), self.average.module.parameters(), strict=True):
                own.data.copy_(averaged.data)
        save_model(self.folder / "model.safetensors", self.model)
        (self.folder / "resume.pt").unlink(missing_ok=True)

    def _step(self, step: int):
        config, model = self.config, self.model
        seed = step_seed(config.seed, step + 1)
        rows = np.random.default_rng(seed).integers(len(self.images), size=config.batch)
        images = to_tensor(self.images[rows])
        # Dropout draws from the global generator: from the noise's own seed its masks would repeat the noise's stream.
        torch.manual_seed(step_seed(config.seed, step + 1, stream=1))
        loss = model.loss(images, self.first_stage.encode(images), torch.Generator().manual_seed(seed))
        if not torch.isfinite(loss.total):
            raise FloatingPointError(f"{self.folder}: the loss is not finite at step {step + 1}; lower lr")
        self.optimiser.param_groups[0]["lr"] = learning_rate(config, step)
        self.optimiser.zero_grad()
        loss.total.backward()
        if config.clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        self.optimiser.step()
        if self.average:
            self.average.update_parameters(model)
        slots = torch.arange(step * config.batch, (step + 1) * config.batch) % config.reservoir
        self.reservoir[slots] = loss.features
        return loss
