"""Images and latents, batch after batch, on the device that trains."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dyga.config import Config
from dyga.method.diffusion import to_tensor
from dyga.training.first_stage import StoredLatents, make_first_stage


class Batches:
    """Images of a data set with their latents, on a device. `batches.along(rows)` yields, for each array of row numbers, images
    (k, 3, size, size) in [-1, 1] and latents (k, ...), and reads one batch ahead.

    The patches' first stage computes latents from each batch. Latents of the VQ autoencoder are read, since its frozen encoder
    would cost more than the rest of the step. On a GPU, images and latents stay there if they fill at most half of its free
    memory.
    """

    def __init__(self, config: Config, images, first_stage: Path, device: torch.device):
        self.device, self.sources = device, [images]
        self.stage = make_first_stage(config, images).to(device) if config.first_stage == "patches" else None
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
        """Batch after batch; a thread reads the next one while one is used."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for each in rows:
                ready, ahead = ahead, reader.submit(self._read, each)
                if ready:
                    yield self._prepared(ready.result())
            if ahead:
                yield self._prepared(ahead.result())

    def _prepared(self, read: list[Tensor]) -> tuple[Tensor, Tensor]:
        images, *latents = (tensor.to(self.device, non_blocking=True) for tensor in read)
        images = to_tensor(images)
        return images, self.stage.encode(images) if self.stage else latents[0].float()
