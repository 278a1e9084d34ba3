"""The first stage that a study's runs share: trained, then frozen, its latents of a whole data set computed once."""

import io
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from dyga.checkpoint import load_config, load_resume, packed, save_resume
from dyga.config import Config
from dyga.data import load_dataset
from dyga.kept import claim, digest, first_stage_settings, keep_first_stage
from dyga.method.diffusion import to_tensor
from dyga.method.first_stages import FIRST_STAGES
from dyga.provenance import describe, locked, write_atomically, write_json
from dyga.seeds import sample_rows, step_seed
from dyga.training.vqgan_loss import VQGANLoss, lpips, missing_weights

BATCH = 32
SHARD = 20_000  # images
SAVE_EVERY = 1_000  # steps between two states from which an interrupted training continues


def make_first_stage(config: Config, images) -> nn.Module:
    """The configured first stage. The scale of the patches' latents is set from 2,048 images of the data, the same in every run;
    that of a vq is set after its training."""
    torch.manual_seed(0)
    stage = FIRST_STAGES[config.first_stage](config.image_size).eval().requires_grad_(False)
    if config.first_stage == "patches":
        with torch.no_grad():
            stage.calibrate(to_tensor(images[sample_rows(len(images), min(2_048, len(images)), 0)]))
    return stage


def train_first_stage(config: Config, folder: Path, data_dir: Path | None = None) -> None:
    """Trains the first stage's decoder (patches) or all of it (vq), and writes `folder`/model.safetensors and, for vq, the
    latents of all images. An interrupted call continues where it was. The paper's vq is a VQ-GAN; this one is too if the LPIPS
    weights are present. Runs beside `folder` get a copy of the weights. ValueError if the folder holds a first stage of other
    data or settings."""
    data = load_dataset(config.dataset, data_dir, config.image_size)
    made_of = first_stage_settings(replace(config, data=data.identity))
    with locked(folder):
        claim(folder / "config.json", made_of)
        if (folder / "model.safetensors").exists():
            return
        steps, images, vq = config.first_stage_steps, data.images, config.first_stage == "vq"
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        stage = make_first_stage(config, images).train().requires_grad_(True).to(device)
        peak = 2e-4 if vq else 4e-3
        parts: dict = {"stage": stage, "optimiser": torch.optim.AdamW(stage.parameters(), lr=peak)}
        perceptual = lpips() if vq else None
        note = missing_weights() if vq and not perceptual else ""
        if note:
            print(note, file=sys.stderr, flush=True)
        if perceptual:
            parts["discriminator"] = discriminator = VQGANLoss(perceptual.to(device)).to(device)
            parts["discriminator_optimiser"] = torch.optim.AdamW(discriminator.parameters(), lr=peak, betas=(0.5, 0.9))
        state = load_resume(folder / "resume.pt") or {"step": 0, "seconds": 0.0}
        if state["step"] and state.keys() != {*parts, "step", "seconds"}:
            raise ValueError(f"{folder}: begun with{'out' if perceptual else ''} the LPIPS weights: delete it to start again")
        start = time.monotonic() - state["seconds"]
        if state["step"]:
            for name, part in parts.items():
                part.load_state_dict(state[name])
        else:
            for older in folder.glob("latents-*.npy"):  # of weights that were deleted
                older.unlink()
        for step in tqdm(range(state["step"], steps), "first stage", mininterval=10, ascii=True):
            if step and step % SAVE_EVERY == 0:  # the same noise from here on, whether the training was interrupted or not
                torch.manual_seed(step_seed(0, step, stream=1))
            parts["optimiser"].param_groups[0]["lr"] = peak * (1 - step / steps)
            rows = np.random.default_rng(step_seed(0, step)).integers(len(images), size=BATCH)
            batch = to_tensor(images[rows]).to(device)
            if perceptual:
                # The discriminator starts when decoded images resemble real ones.
                _adversarial_step(parts, batch, joined=step >= steps // 2)
            else:
                _descend(parts["optimiser"], stage.loss(batch))
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps > SAVE_EVERY:
                done = {"step": step + 1, "seconds": time.monotonic() - start}
                save_resume(folder / "resume.pt", {name: part.state_dict() for name, part in parts.items()} | done)
        sample = to_tensor(images[sample_rows(len(images), min(256, len(images)), 0)]).to(device)
        with torch.no_grad():
            stage.eval()
            if vq:
                stage.calibrate(sample)
            error = F.l1_loss(stage.decode(stage.encode(sample)), sample).item()
        seconds = round(time.monotonic() - start, 1)
        if vq:
            store_latents(stage, images, folder)
        weights = packed(stage)
        measured = describe(l1=error, seconds=seconds, adversarial=perceptual is not None, note=note, digest=digest(weights))
        write_json(folder / "provenance.json", measured)
        write_atomically(folder / "model.safetensors", weights)
        (folder / "resume.pt").unlink(missing_ok=True)
        for log in folder.parent.glob("*/log.jsonl"):
            with suppress(ValueError):  # no run of this project
                keep_first_stage(log.parent, load_config(log.parent))


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _adversarial_step(parts: dict, images: torch.Tensor, joined: bool) -> None:
    """One step of the autoencoder and, in the second half of the training, one of the discriminator."""
    stage, discriminator = parts["stage"], parts["discriminator"]
    decoded, commitment = stage.reconstruct(images)
    terms = discriminator.terms(images, decoded, stage.model.decoder.conv_out.weight, joined)
    _descend(parts["optimiser"], F.l1_loss(decoded, images) + commitment + terms)
    if joined:
        _descend(parts["discriminator_optimiser"], discriminator.loss(images, decoded))


def store_latents(stage: nn.Module, images, folder: Path) -> None:
    """Writes `folder`/latents-<i>.npy (float16, in the images' order). Shards that are there are kept."""
    device = next(stage.parameters()).device
    for first in tqdm(range(0, len(images), SHARD), "latents", mininterval=10, ascii=True):
        path = folder / f"latents-{first // SHARD:05d}.npy"
        if path.exists():
            continue
        rows = np.arange(first, min(first + SHARD, len(images)))
        batches = (to_tensor(images[part]).to(device) for part in np.array_split(rows, -(-len(rows) // 256)))
        with torch.no_grad():
            parts = [stage.encode(batch).half().cpu() for batch in batches]
        buffer = io.BytesIO()
        np.save(buffer, torch.cat(parts).numpy(), allow_pickle=False)
        write_atomically(path, buffer.getvalue())


class StoredLatents:
    """What `store_latents` wrote for `count` images, memory-mapped: `latents[rows]` -> (k, ...) float16. ValueError, naming the
    folder, unless all are there."""

    def __init__(self, folder: Path, count: int):
        try:
            self._shards = [np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(folder.glob("latents-*.npy"))]
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: damaged latents ({error}); delete the folder and train the first stage again") from None
        found = sum(map(len, self._shards))
        if found != count:
            raise ValueError(f"{folder} holds latents of {found:,} images, the data set {count:,}: train the first stage first")

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._shards[shard][row] for shard, row in zip(*divmod(rows, SHARD), strict=True)])
