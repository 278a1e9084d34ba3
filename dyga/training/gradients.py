"""Gradients of a batch, in micro-batches if memory requires it, and shared between processes."""

import sys
from contextlib import nullcontext

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor

from dyga.config import Config
from dyga.method import LatentUnitDiffusion
from dyga.seeds import step_seed


def make_accelerator() -> Accelerator:
    """The device of this process: its GPU, or the CPU."""
    # Batch statistics belong to each process and anchors are equal in all: no buffer synchronisation is needed.
    exchange = DistributedDataParallelKwargs(broadcast_buffers=False)
    # Given explicitly, or an environment variable of accelerate would divide the gradients.
    every_step = GradientAccumulationPlugin(num_steps=1)
    # Accelerate keeps one precision for the whole process, so `Gradients` sets it for each model.
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no",
        kwargs_handlers=[exchange],
        gradient_accumulation_plugin=every_step,
    )


class Gradients:
    """Computes the gradients of `model` for this process's share of each batch.

    `wrapped` is the model as accelerate prepared it; with one process it is the model itself. A GPU computes in the configured
    precision (`half` is bfloat16, by autocast), the CPU in float32. When a GPU runs out of memory, the micro-batch is halved and
    the step is computed again.
    """

    def __init__(self, config: Config, model: LatentUnitDiffusion, wrapped: torch.nn.Module, accelerator: Accelerator):
        self.config, self.model, self.wrapped, self.accelerator = config, model, wrapped, accelerator
        self.rank, self.device = accelerator.process_index, accelerator.device
        self.half = self.device.type == "cuda" and config.precision == "bfloat16"
        self.micro_batch = config.batch // accelerator.num_processes

    def compute(self, step: int, images: Tensor, latents: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Sets the gradients of one step's images (batch, 3, size, size) and latents. Returns the mean losses by name, and the
        scalars and features as one tensor (batch, units, scalars_per_unit + dim). RuntimeError if memory is too small for one
        image."""
        while True:
            try:
                return self._in_parts(step, images, latents)
            except torch.OutOfMemoryError:
                if self.micro_batch == 1:
                    raise RuntimeError("out of memory with one image at a time; choose smaller settings") from None
                self.micro_batch = -(-self.micro_batch // 2)
                print(f"out of memory: continuing with {self.micro_batch} images at a time", file=sys.stderr, flush=True)

    def _in_parts(self, step: int, images: Tensor, latents: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        # Dropout draws from the global generator. With the noise's own seed its masks would repeat the noise's stream.
        torch.manual_seed(step_seed(self.config.seed, step + 1, stream=2 * self.rank + 1))
        noise = torch.Generator(self.device).manual_seed(step_seed(self.config.seed, step + 1, stream=2 * self.rank))
        self.model.zero_grad()
        losses: dict[str, Tensor] = {}
        points = []
        parts = list(zip(images.split(self.micro_batch), latents.split(self.micro_batch), strict=True))
        for number, part in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.wrapped):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                    loss = self.wrapped(*part, noise)
                share = len(part[0]) / len(images)
                self.accelerator.backward(loss.total * share if share < 1 else loss.total)
            for name, value in {"loss": loss.total.detach(), **loss.terms}.items():
                losses[name] = losses.get(name, 0) + share * value
            scalars = loss.scalars.unflatten(1, (loss.features.shape[1], -1))
            points.append(torch.cat([scalars.float(), loss.features], dim=-1))
        return losses, torch.cat(points)
