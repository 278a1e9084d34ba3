"""Disentanglement during training, measured cheaply."""

import numpy as np
import torch

from dyga import metrics
from dyga.config import Config
from dyga.data import Dataset
from dyga.method import LatentUnitDiffusion
from dyga.method.diffusion import to_tensor
from dyga.seeds import sample_rows


class Monitor:
    """FactorVAE score and MIG of the scalars of 2,000 images, about six times during a run of 600 steps or more."""

    def __init__(self, config: Config, data: Dataset):
        self.every = max(config.steps // 60, 1) * 10
        self.data, self.rows = data, None
        if data.factors is not None:
            rows = sample_rows(len(data.images), min(2_000, len(data.images)), seed=1)
            self.rows = metrics.varied_rows(data.factors, rows)

    def measure(self, model: LatentUnitDiffusion, step: int) -> dict[str, float]:
        """The two scores if they are due at this step, else nothing. The model and the random generators stay as they were."""
        if self.rows is None or step % self.every:
            return {}
        model.eval()
        with torch.no_grad():
            device = next(model.parameters()).device
            images = (to_tensor(self.data.images[rows]).to(device) for rows in np.array_split(self.rows, 4))
            codes = np.concatenate([model.scalars(batch).cpu().numpy() for batch in images])
        model.train()
        factors, half = self.data.factors[self.rows], len(codes) // 2
        votes = metrics.factor_vae_score(codes, factors, num_train=half, num_test=len(codes) - half, seed=0)
        return {"factor_vae_score": votes.score, "mig": metrics.mig(codes, factors, num_train=len(codes), seed=0).score}
