"""The training loop: a generator, which a notebook may iterate and the command line exhausts.

All randomness of step s comes from (seed, s): an interrupted run continues from its last checkpoint and ends with the same
bits, and no generator state has to be kept.
"""

import copy
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from dyga.checkpoint import load_resume, save_model, save_resume
from dyga.config import Config, check_images
from dyga.data import Dataset, load_dataset
from dyga.extensions import Extension, build_model
from dyga.kept import FIRST_STAGE, GENERATED, check_first_stage, check_made_of, digest, keep_first_stage
from dyga.provenance import locked, write_atomically, write_json
from dyga.seeds import step_seed
from dyga.training.batches import Batches
from dyga.training.gradients import Gradients, make_accelerator
from dyga.training.monitor import Monitor

# What is made of a trained model, in its folder.
MADE_OF_MODEL = ("metrics.json", "codes.safetensors", "interventions.json", "ablation.json", "measures.json")


def learning_rate(config: Config, step: int) -> float:
    """Linear warm-up, constant, then linear decay over the last `decay` share of the steps."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    left = (config.steps - step) / (config.decay * config.steps) if config.decay else 1.0
    return config.lr * min(warm, left, 1.0)


def train(
    config: Config, folder: Path, data_dir: Path | None = None, extensions: Sequence[Extension] = ()
) -> Iterator[dict[str, float]]:
    """Trains one variant into `folder` and yields the log's records (step, losses, lr, seconds, anchors).

    Leaves config.json, log.jsonl, model.safetensors, and a copy of the study's first stage if that is trained; resume.pt exists
    during the training. An interrupted run continues from its last checkpoint; a complete run yields nothing. `extensions` are
    the user's own, beside those that `config` switches on. A run records only their names: after a change of an extension, train
    into another folder. Under `accelerate launch` or `torchrun` every process takes its share of each batch, and the first
    process writes. ValueError if the folder holds a run of other data or settings, if a vq first stage is missing or of other
    data or settings, and for fewer than 2 images or 20 labelled ones.
    """
    data = load_dataset(config.dataset, data_dir, config.image_size)
    check_images(config, len(data.images), labelled=data.factors is not None)
    config = replace(config, data=data.identity, extensions=tuple(type(extension).__name__ for extension in extensions))
    if config.first_stage == "vq":  # the run is trained on its latents
        first_stage = check_first_stage(folder.parent / FIRST_STAGE, config)
        config = replace(config, first_stage_digest=digest(first_stage.read_bytes()))
    accelerator = make_accelerator()
    with locked(folder) if accelerator.is_main_process else nullcontext():
        check_made_of(folder / "config.json", asdict(config))
        accelerator.wait_for_everyone()
        if (folder / "model.safetensors").exists():
            return
        training = Training(config, folder, data, accelerator, extensions)
        if accelerator.is_main_process:
            write_json(folder / "config.json", asdict(config))
            keep_first_stage(folder, config)
        yield from training.steps()
        if accelerator.is_main_process:
            keep_first_stage(folder, config)
        accelerator.wait_for_everyone()


def sort_keys(scalars: Tensor) -> Tensor:
    """Scalars (n, units, 1 or 2) -> by what the rows of each unit are sorted (n, units): the angle if two scalars vary, otherwise
    the one that varies."""
    both = (scalars.std(dim=0) > 0).all(dim=-1) & (scalars.shape[-1] == 2)
    return torch.where(both, torch.atan2(scalars[..., -1], scalars[..., 0]), scalars.sum(dim=-1))


class Training:
    """One run under way: `model`, `optimiser`, `batches`, `feature_buffer` (rows, units, scalars_per_unit + dim) of recent
    scalars and features, and `done`, the number of steps completed."""

    def __init__(
        self, config: Config, folder: Path, data: Dataset, accelerator: Accelerator, extensions: Sequence[Extension] = ()
    ):
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.device, self.rank, self.world = accelerator.device, accelerator.process_index, accelerator.num_processes
        if config.batch % self.world:
            raise ValueError(f"batch {config.batch} cannot be shared by {self.world} processes: choose a number that divides it")
        self.monitor = Monitor(config, data)
        self.batches = Batches(config, data.images, folder.parent / FIRST_STAGE, self.device)
        torch.manual_seed(step_seed(config.seed, 0))
        self.model = build_model(config, extensions).to(self.device)
        optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay, fused=True
        )
        if self.device.type == "cuda":
            self.model.compile_parts()
        self.wrapped, self.optimiser = accelerator.prepare(self.model, optimiser)
        self.gradients = Gradients(config, self.model, self.wrapped, accelerator)
        self.average = copy.deepcopy(self.model) if config.ema else None
        # Every process keeps its own share.
        width = config.scalars_per_unit + config.unit_dim
        self.feature_buffer = torch.zeros(config.feature_buffer // self.world, config.units, width, device=self.device)
        self.done, self.seconds, self.anchor_seconds = 0, 0.0, 0.0
        self._resume()

    def steps(self) -> Iterator[dict[str, float]]:
        """Runs the remaining steps; logs and yields a record every ten."""
        config, recent = self.config, []
        self.wrapped.train()
        start = time.monotonic() - self.seconds
        for images, latents in self.batches.along(self._rows(step) for step in range(self.done, config.steps)):
            self.model.progress = self.done / config.steps
            self.optimiser.param_groups[0]["lr"] = learning_rate(config, self.done)
            losses, points = self.gradients.compute(self.done, images, latents)
            if config.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
            self.optimiser.step()
            if self.average:
                self._update_average()
            self._remember(points)
            self.done += 1
            recent.append(losses)  # tensors: reading a number from a GPU would make every step wait
            if self.done % config.refit_every == 0 and self.done < config.steps:
                rows = self.accelerator.gather(self.feature_buffer[: self.done * config.batch // self.world]).cpu()
                if not rows.isfinite().all():
                    raise self._diverged()
                scalars, features = rows.tensor_split([config.scalars_per_unit], dim=-1)
                self._refit_extensions(scalars, features)
                self._refit_anchors(scalars, features)
            for extension in self.model.extensions:
                extension.after_step(self)
            if self.done % 10 == 0 or self.done == config.steps:
                self.seconds = time.monotonic() - start
                yield self._log(recent)
                recent = []
        self._finish()

    @torch.no_grad()
    def _update_average(self) -> None:
        """One step of the exponential moving average of the parameters. Its decay grows from 0 to `config.ema`, so that the
        average of a short run does not keep the first weights."""
        decay = min(self.config.ema, (1 + self.done) / (10 + self.done)) if self.done else 0.0
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def _diverged(self) -> FloatingPointError:
        return FloatingPointError(f"{self.folder}: the training has diverged (not finite at step {self.done}): lower lr")

    def _rows(self, step: int) -> np.ndarray:
        """This process's share of the step's row numbers."""
        random = np.random.default_rng(step_seed(self.config.seed, step + 1))
        return random.integers(len(self.batches), size=self.config.batch)[self.rank :: self.world]

    def _remember(self, points: Tensor) -> None:
        """Overwrites the oldest rows of the feature buffer."""
        first = self.done * len(points)
        slots = torch.arange(first, first + len(points), device=self.device) % len(self.feature_buffer)
        self.feature_buffer[slots] = points

    @property
    def _fit_options(self) -> dict[str, int]:
        return dict(seed=self.config.seed, bins=self.config.anchor_bins, iterations=self.config.anchor_iterations)

    def _refit_extensions(self, scalars: Tensor, features: Tensor) -> None:
        """Fits what extensions fit to scalars (n, units, scalars_per_unit) and features (n, units, dim)."""
        for extension in self.model.extensions:
            extension.refit(scalars, features, **self._fit_options)

    def _refit_anchors(self, scalars: Tensor, features: Tensor) -> None:
        """Fits the anchors to features (n, units, dim), which were made from scalars (n, units, scalars_per_unit)."""
        before = time.monotonic()
        if self.config.anchoring:
            self.model.anchors.fit_on_cpu(features, scalars=sort_keys(scalars), **self._fit_options)
        self.anchor_seconds += time.monotonic() - before

    def _log(self, recent: list[dict[str, Tensor]]) -> dict[str, float]:
        """Writes and returns a record of the `recent` steps, and a checkpoint if one is due."""
        names = dict.fromkeys(name for losses in recent for name in losses)  # a penalty may begin or end between two records
        means = torch.stack([torch.stack([losses[n] for losses in recent if n in losses]).mean() for n in names]).tolist()
        record = {"step": self.done, **dict(zip(names, means, strict=True))}
        if not np.isfinite(record["loss"]):
            raise self._diverged()
        record |= {"lr": learning_rate(self.config, self.done - 1), "seconds": round(self.seconds, 2)}
        record |= {"anchor_seconds": round(self.anchor_seconds, 3), "anchors": self.model.anchors.counts.tolist()}
        if self.rank == 0:
            record |= self.monitor.measure(self.model, self.done)
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
        every = self.config.checkpoint_every
        if self.done // every > (self.done - len(recent)) // every and self.done < self.config.steps:
            self._save()
        return record

    def _finish(self) -> None:
        """Saves the model. With averaging, the averaged parameters replace the last ones, and the feature extractor's batch
        statistics are measured for them. The anchors are fitted to features in evaluation mode, in which the model is used."""
        if self.rank:
            return
        self.model.progress = 1.0
        random = np.random.default_rng(step_seed(self.config.seed, self.config.steps + 1))
        count = min(self.config.feature_buffer, len(self.batches))
        rows = np.array_split(random.choice(len(self.batches), count, replace=False), -(-count // 256))
        if self.average:
            for own, averaged in zip(self.model.parameters(), self.average.parameters(), strict=True):
                own.data.copy_(averaged.data)
            update_bn(self.batches.along(rows), self.model.feature_extractor)  # of the batches, the images
        self.model.eval()
        with torch.no_grad():
            scalars = torch.cat([self.model.scalars(images).float().cpu() for images, _ in self.batches.along(rows)])
            for refit in (self._refit_extensions, self._refit_anchors):  # extensions may change features
                features = torch.cat([self.model.features(part.to(self.device)).float().cpu() for part in scalars.split(256)])
                refit(scalars.unflatten(1, (self.config.units, -1)), features)
        save_model(self.folder / "model.safetensors", self.model)
        (self.folder / "resume.pt").unlink(missing_ok=True)

    def _save(self) -> None:
        recent = self.accelerator.gather(self.feature_buffer)
        if self.rank:
            return
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.average:
            state["average"] = self.average.state_dict()
        state |= {
            "world": self.world,
            "feature_buffer": recent,
            "step": self.done,
            "seconds": self.seconds,
            "anchor_seconds": self.anchor_seconds,
        }
        save_resume(self.folder / "resume.pt", state)

    def _resume(self) -> None:
        state = load_resume(self.folder / "resume.pt")
        log = self.folder / "log.jsonl"
        if state is None:
            if self.rank == 0:
                for name in ("log.jsonl", *MADE_OF_MODEL):  # of a model that was deleted
                    (self.folder / name).unlink(missing_ok=True)
                shutil.rmtree(self.folder / GENERATED, ignore_errors=True)
            return
        begun = state["world"]
        if begun != self.world:
            raise ValueError(f"{self.folder} was begun with {begun} processes, not {self.world}: use as many, or delete it")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.feature_buffer.copy_(state["feature_buffer"].chunk(self.world)[self.rank])
        self.done, self.seconds, self.anchor_seconds = state["step"], state["seconds"], state["anchor_seconds"]
        if self.rank == 0:
            lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            write_atomically(log, "".join(line for line in lines if json.loads(line)["step"] <= self.done))
