"""The training loop: one generator a run, which a notebook may iterate and a command line exhausts.

All randomness of step s comes from (seed, s): a run that was killed goes on from its last checkpoint and ends with the same
bits, with no generator states to keep.
"""

import copy
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dyga import metrics
from dyga.checkpoint import load_resume, save_model, save_resume
from dyga.config import Config
from dyga.data import load_dataset
from dyga.extensions.pruning import BATCH, choose, survey
from dyga.method.diffusion import LatentUnitDiffusion, to_tensor
from dyga.provenance import exit_if_orphaned, locked, write_json
from dyga.seeds import sample_rows, step_seed
from dyga.training.first_stage import StoredLatents, make_first_stage

_PRUNING = 1_000_000  # a stream of random numbers that no process has


def learning_rate(config: Config, step: int) -> float:
    """Linear warm-up, constant, then linear decay over the last `decay` share of the steps."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    left = (config.steps - step) / (config.decay * config.steps) if config.decay else 1.0
    return config.lr * min(warm, left, 1.0)


def train(config: Config, folder: Path, data_dir: Path | None = None) -> Iterator[dict]:
    """Trains one variant into `folder`, yielding the log's records (step, loss, lr, images_per_second, anchors).

    Leaves config.json, log.jsonl and model.safetensors; while under way resume.pt. Goes on where a killed run was, and yields
    nothing if the run is complete. ValueError if the folder holds a run of other settings. Under `accelerate launch` or
    `torchrun` every process takes its share of each batch, and the first one writes.
    """
    accelerator = make_accelerator(config)
    with locked(folder) if accelerator.is_main_process else nullcontext():
        check_settings(config, folder)
        accelerator.wait_for_everyone()
        if (folder / "model.safetensors").exists():
            return
        if accelerator.is_main_process:
            write_json(folder / "config.json", json.loads(config.to_json()))
        yield from _Training(config, folder, data_dir, accelerator).steps()
        accelerator.wait_for_everyone()


def make_accelerator(config: Config) -> Accelerator:
    """Where this process computes: its GPU in the configured precision, or the CPU in float32."""
    on_gpu = torch.cuda.is_available()
    # Batch statistics are each process's own, and anchors the same in all: nothing is to be sent before every step.
    exchange = DistributedDataParallelKwargs(broadcast_buffers=False)
    precision = "bf16" if on_gpu and config.precision == "bfloat16" else "no"
    return Accelerator(cpu=not on_gpu, mixed_precision=precision, kwargs_handlers=[exchange])


def check_settings(config: Config, folder: Path) -> None:
    """ValueError if `folder` holds a run of other settings, since its checkpoint would not be this run's."""
    path = folder / "config.json"
    if path.exists() and path.read_text().strip() != config.to_json().strip():
        raise ValueError(f"{folder} holds a run of other settings: delete it or choose another --out")


class Batches:
    """Images of a data set with their latents, on a device: `batches.along(rows)` yields, for each array of row numbers, images
    (k, 3, 64, 64) and latents (k, ...), reading one batch ahead.

    Latents of the pooled first stage are made on the spot; those of the VQ autoencoder are read, since the frozen encoder would
    otherwise cost more than the rest of the step. On a GPU, images and latents stay there if they fill no more than half of its
    free memory; else they come through pinned memory.
    """

    def __init__(self, config: Config, images, first_stage: Path, device: torch.device):
        self.device, self.sources = device, [images]
        self.stage = make_first_stage(config, images).to(device) if config.first_stage == "pooled" else None
        if self.stage is None:
            self.sources.append(StoredLatents(first_stage, len(images)))
        size = sum(source[np.arange(1)].nbytes * len(images) for source in self.sources)
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] // 2:
            self.sources = [self._whole(source) for source in self.sources]

    def _whole(self, source) -> Tensor:
        parts = np.array_split(np.arange(len(self)), -(-len(self) // 10_000))
        return torch.cat([torch.from_numpy(source[part]).to(self.device) for part in parts])

    def __len__(self) -> int:
        return len(self.sources[0])

    def _read(self, rows: np.ndarray) -> list[Tensor]:
        if isinstance(self.sources[0], Tensor):
            return [source[torch.from_numpy(rows).to(self.device)] for source in self.sources]
        read = [torch.from_numpy(source[rows]) for source in self.sources]
        return [tensor.pin_memory() for tensor in read] if self.device.type == "cuda" else read

    def along(self, rows: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batch after batch; while one is used, the next is read in a thread."""
        with ThreadPoolExecutor(1) as reader:
            ahead: deque = deque()
            for each in rows:
                ahead.append(reader.submit(self._read, each))
                if len(ahead) > 1:
                    yield self._prepared(ahead.popleft().result())
            while ahead:
                yield self._prepared(ahead.popleft().result())

    def _prepared(self, read: list[Tensor]) -> tuple[Tensor, Tensor]:
        images, *latents = (tensor.to(self.device, non_blocking=True) for tensor in read)
        images = to_tensor(images)
        return images, self.stage.encode(images) if self.stage else latents[0].float()


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
            device = next(model.parameters()).device
            images = (to_tensor(self.data.images[b]).to(device) for b in batches)
            codes = np.concatenate([model.feature_extractor.scalars(batch).cpu().numpy() for batch in images])
        model.train()
        factors, half = self.data.factors[self.rows], len(codes) // 2
        votes = metrics.factor_vae_score(codes, factors, num_train=half, num_test=len(codes) - half, seed=0)
        return {"factor_vae_score": votes.score, "mig": metrics.mig(codes, factors, num_train=len(codes), seed=0).score}


class _Training:
    """State of one run: model, optimiser, reservoir of recent features, log."""

    def __init__(self, config: Config, folder: Path, data_dir: Path | None, accelerator: Accelerator):
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.device, self.rank, self.world = accelerator.device, accelerator.process_index, accelerator.num_processes
        if config.batch % self.world:
            raise ValueError(f"batch {config.batch} cannot be shared by {self.world} processes: choose a number that divides it")
        data = load_dataset(config.dataset, data_dir)
        self.curve = _Curve(config, data)
        self.batches = Batches(config, data.images, folder.parent / "first_stage", self.device)
        torch.manual_seed(step_seed(config.seed, 0))
        self.model = LatentUnitDiffusion(config).to(self.device)
        optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay, fused=True
        )
        if self.device.type == "cuda":
            self.model.compile_parts()
        # `wrapped` exchanges gradients between processes; with one process it is the model itself.
        self.wrapped, self.optimiser = accelerator.prepare(self.model, optimiser)
        self.average = None
        if config.ema:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=False)
        # Recent scalars and features, as one tensor. Every process keeps its own share; they are put together when anchors are
        # fitted.
        self.reservoir = torch.zeros(
            config.reservoir // self.world, config.units, config.unit_scalars + config.unit_dim, device=self.device
        )
        span = np.linspace(config.prune_from, config.prune_until, config.prune_times) * config.steps
        self.prune_steps = set(span.astype(int).tolist()) if config.prune_loss else set()
        self.batch = self.micro_batch = config.batch // self.world
        self.first_step, self.seconds, self.anchor_seconds = 0, 0.0, 0.0
        self._resume()

    def _resume(self) -> None:
        state = load_resume(self.folder / "resume.pt")
        log = self.folder / "log.jsonl"
        if state is None:
            if self.rank == 0:
                log.write_text("")
            return
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.reservoir.copy_(state["reservoir"].chunk(self.world)[self.rank])
        self.first_step, self.seconds = state["step"], state["seconds"]
        if self.rank == 0:
            lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.first_step))

    def _save(self, step: int) -> None:
        recent = self.accelerator.gather(self.reservoir)
        if self.rank:
            return
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.average:
            state["average"] = self.average.state_dict()
        state |= {"reservoir": recent, "step": step, "seconds": self.seconds}
        save_resume(self.folder / "resume.pt", state)

    def steps(self) -> Iterator[dict]:
        """Runs the remaining steps; writes and yields a record every ten."""
        config, recent = self.config, []
        self.wrapped.train()
        start = time.monotonic() - self.seconds
        rows = (self._rows(step) for step in range(self.first_step, config.steps))
        for step, batch in enumerate(self.batches.along(rows), self.first_step):
            exit_if_orphaned()
            # Kept where they are until the record: asking a GPU for a number would make it wait at every step.
            recent.append(self._step(step, *batch))
            done = step + 1
            if (config.anchoring or config.levels) and (done % config.refit_every == 0 or done == config.steps):
                self._refit(done)
            if done in self.prune_steps:
                self._prune(done)
            if done % 10 == 0 or done == config.steps:
                self.seconds = time.monotonic() - start
                record = self._record(done, torch.stack(recent).mean(dim=0).tolist())
                recent = []
                if self.rank == 0:
                    with (self.folder / "log.jsonl").open("a") as log:
                        log.write(json.dumps(record) + "\n")
                if done % config.checkpoint_every == 0 and done < config.steps:
                    self._save(done)
                yield record
        self.model.progress = 1.0
        if self.average:
            # Averaged parameters; batch statistics and anchors are the model's own, which are averages already.
            for own, averaged in zip(self.model.parameters(), self.average.module.parameters(), strict=True):
                own.data.copy_(averaged.data)
        if self.rank == 0:
            save_model(self.folder / "model.safetensors", self.model)
            (self.folder / "resume.pt").unlink(missing_ok=True)

    def _record(self, done: int, losses: list[float]) -> dict:
        record = {"step": done, **dict(zip(("loss", "diffusion", "decorrelation", "kurtosis"), losses, strict=True))}
        if not np.isfinite(record["loss"]):
            raise FloatingPointError(f"{self.folder}: the loss is not finite at step {done}; lower lr")
        record |= {"lr": learning_rate(self.config, done - 1), "seconds": round(self.seconds, 2)}
        record |= {"anchor_seconds": round(self.anchor_seconds, 3), "anchors": self.model.anchors.counts.tolist()}
        return record | (self.curve.measure(self.model, done) if self.rank == 0 else {})

    def _refit(self, done: int) -> None:
        """Fits the anchors to the recent features, and levels to the scalars, on the CPU: the fit is small, and the same for
        every process."""
        before, config = time.monotonic(), self.config
        rows = self.accelerator.gather(self.reservoir[: done * self.batch]).cpu()
        scalars, features = rows.tensor_split([config.unit_scalars], dim=-1)
        for kept, points in ((self.model.feature_extractor.levels, scalars), (self.model.anchors, features)):
            if kept is not None:
                anchors = kept if self.device.type == "cpu" else copy.deepcopy(kept).cpu()
                anchors.fit(points, seed=config.seed, bins=config.anchor_bins, iterations=config.anchor_iterations)
                if anchors is not kept:
                    kept.load_state_dict(anchors.state_dict())
        self.anchor_seconds += time.monotonic() - before

    def _prune(self, done: int) -> None:
        """Takes scalars out and joins units, the same in every process."""
        random = np.random.default_rng(step_seed(self.config.seed, done, stream=_PRUNING))
        rows = random.integers(len(self.batches), size=self.config.reservoir // BATCH * BATCH)
        batches = self.batches.along(np.split(rows, len(rows) // BATCH))
        choice = broadcast_object_list([choose(self.config, *survey(self.model, batches))])[0]
        extractor = self.model.feature_extractor
        for scalar in choice.leaving:
            extractor.active[scalar] = 0
        for unit, other in choice.joining:
            extractor.join(unit, other, self.optimiser.state)
            if self.average:
                self.average.module.feature_extractor.join(unit, other, {})
            self.reservoir[:, unit, 1] = self.reservoir[:, other, 0]

    def _rows(self, step: int) -> np.ndarray:
        """This process's share of the step's rows."""
        random = np.random.default_rng(step_seed(self.config.seed, step + 1))
        return random.integers(len(self.batches), size=self.config.batch)[self.rank :: self.world]

    def _step(self, step: int, images: Tensor, latents: Tensor) -> Tensor:
        """One update of the weights; returns its four losses."""
        config = self.config
        self.optimiser.param_groups[0]["lr"] = learning_rate(config, step)
        self.model.progress = step / config.steps
        while True:
            try:
                losses, points = self._gradients(step, images, latents)
                break
            except torch.OutOfMemoryError:
                if self.micro_batch == 1:
                    raise RuntimeError(
                        f"{self.folder}: out of memory with one image at a time; choose smaller settings"
                    ) from None
                self.micro_batch = -(-self.micro_batch // 2)
                print(f"out of memory: going on with {self.micro_batch} images at a time", file=sys.stderr, flush=True)
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        if self.average:
            self.average.update_parameters(self.model)
        slots = torch.arange(step * self.batch, (step + 1) * self.batch, device=self.device) % len(self.reservoir)
        self.reservoir[slots] = points
        return losses

    def _gradients(self, step: int, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of the batch, micro-batch by micro-batch; returns mean losses (4,), and scalars and features, as
        (rows, units, unit_scalars + dim)."""
        # Dropout draws from the global generator: from the noise's own seed its masks would repeat the noise's stream.
        torch.manual_seed(step_seed(self.config.seed, step + 1, stream=2 * self.rank + 1))
        noise = torch.Generator(self.device).manual_seed(step_seed(self.config.seed, step + 1, stream=2 * self.rank))
        self.optimiser.zero_grad()
        losses, points = [], []
        parts = list(zip(images.split(self.micro_batch), latents.split(self.micro_batch), strict=True))
        for number, part in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.wrapped):
                loss = self.wrapped(*part, noise)
                share = len(part[0]) / len(images)
                self.accelerator.backward(loss.total * share if share < 1 else loss.total)
            losses.append(share * torch.stack([loss.total.detach(), loss.diffusion, loss.decorrelation, loss.kurtosis]))
            points.append(torch.cat([self.model.feature_extractor.by_unit(loss.scalars), loss.features], dim=-1))
        return torch.stack(losses).sum(dim=0), torch.cat(points)
