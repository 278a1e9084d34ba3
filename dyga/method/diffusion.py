"""The model as a whole, in the order of the paper's Figure 2: units, alignment to anchors, denoiser, loss; and back: sampling."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn

from dyga.config import Config
from dyga.method.anchors import GaussianAnchors
from dyga.method.feature_extractor import FeatureExtractor
from dyga.method.first_stages import FIRST_STAGES
from dyga.method.skip_dropout import SkipDropout
from dyga.method.unet import UNet


class Loss(NamedTuple):
    """Terms of one step: `total` is minimised; `scalars` (batch, units * unit_scalars) and `features` (batch, units, dim) feed
    the anchors' reservoir."""

    total: Tensor
    diffusion: Tensor
    decorrelation: Tensor
    kurtosis: Tensor
    scalars: Tensor
    features: Tensor


class LatentUnitDiffusion(nn.Module):
    """A diffusion model conditioned on latent units, with Dynamic Gaussian Anchoring and Skip Dropout as configured."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.feature_extractor = FeatureExtractor(
            config.units,
            config.unit_dim,
            config.extractor_kernels,
            config.extractor_channels,
            config.unit_hidden,
            config.normalise_scalars,
            config.final_relu,
            config.levels,
            config.unit_scalars,
        )
        if config.join < 1:
            # Units start as curves; two may become a surface.
            self.feature_extractor.active[:, 1:] = 0
        self.anchors = GaussianAnchors(config.units, config.unit_dim, config.max_anchors)
        self.latent_shape = FIRST_STAGES[config.first_stage].latent_shape
        self.denoiser = UNet(
            self.latent_shape[0],
            config.unet_channels,
            config.res_blocks,
            config.attention_levels,
            config.heads,
            config.unit_dim,
            config.transformer,
            config.dropout,
        )
        # The share of the training that is done, set by the loop; a loaded model has all of it behind it.
        self.progress = 1.0
        SkipDropout(config.skip_dropout, config.skip_dropout_levels).attach(self.denoiser)
        self.schedule = DDIMScheduler(
            config.timesteps,
            config.beta_start,
            config.beta_end,
            "scaled_linear",
            clip_sample=False,
            prediction_type=config.prediction,
        )

    def compile_parts(self) -> None:
        """torch.compile of all but the anchors."""
        extractor = self.feature_extractor
        for part in (extractor.convolutions, extractor.to_scalars, extractor.unit_mlps, self.denoiser):
            part.compile()

    def align(self, features: Tensor) -> Tensor:
        """Dynamic Gaussian Anchoring: features (batch, units, dim) pulled toward their anchors, once there are any, in the
        share of the training that the settings name."""
        config = self.config
        now = config.anchoring_from <= self.progress <= config.anchoring_until
        if not config.anchoring or not now or not self.anchors.fitted:
            return features
        return self.anchors.align(features, config.anchoring, mode=config.alignment)

    @property
    def rounding(self) -> float:
        """How far scalars go to their levels: from not at all to wholly, linearly over the share of the training that the
        settings name."""
        config = self.config
        return min(max((self.progress - config.levels_from) / (config.levels_until - config.levels_from), 0.0), 1.0)

    def forward(self, images: Tensor, latents: Tensor, generator: torch.Generator) -> Loss:
        """Denoising loss of images (batch, 3, 64, 64) in [-1, 1] with latents (batch, *latent_shape); paper, equation 1."""
        # Under autocast the networks give bfloat16; anchors and losses are float32.
        scalars = self.feature_extractor.scalars(images)
        features = self.feature_extractor.features(scalars, self.rounding).float()
        units = self.align(features)
        diffusion = self.denoising_loss(units, latents, generator)
        decorrelation, kurtosis = independence_penalties(scalars, self.config.unit_scalars)
        total = diffusion + self.config.decorrelation * decorrelation + self.config.kurtosis * kurtosis
        terms = (diffusion, decorrelation, kurtosis, scalars.float(), features)
        return Loss(total, *(term.detach() for term in terms))

    def denoising_loss(self, units: Tensor, latents: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of latents (batch, *latent_shape) at random times, given units (batch, units, dim)."""
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        time = torch.randint(self.config.timesteps, (len(latents),), generator=generator, device=generator.device)
        time = time.to(latents.device)
        noisy = self.schedule.add_noise(latents, noise, time)
        velocity = self.config.prediction == "v_prediction"
        target = self.schedule.get_velocity(latents, noise, time) if velocity else noise
        distance = F.mse_loss if self.config.loss == "mse" else F.l1_loss
        return distance(self.denoiser(noisy, time, units).float(), target)

    @torch.no_grad()
    def sample(self, features: Tensor, steps: int = 10, seed: int = 0, same_noise: bool = True) -> Tensor:
        """Latents (n, *latent_shape) for features (n, units, dim), by DDIM. With `same_noise` all rows start from one noise
        tensor, so that pictures differ by their units alone."""
        generator = torch.Generator().manual_seed(seed)
        rows = 1 if same_noise else len(features)
        latents = torch.randn(rows, *self.latent_shape, generator=generator).to(features)
        latents = latents.expand(len(features), *self.latent_shape)
        units = self.align(features)
        self.schedule.set_timesteps(steps)
        for time in self.schedule.timesteps:
            prediction = self.denoiser(latents, time.expand(len(latents)).to(features.device), units)
            latents = self.schedule.step(prediction, time, latents).prev_sample
        return latents


def independence_penalties(scalars: Tensor, unit_scalars: int = 1) -> tuple[Tensor, Tensor]:
    """Of the batch's scalars (batch, units * unit_scalars): the sum of squared off-diagonal correlations over the number of
    units, and the mean kurtosis of the units that vary (a pruned scalar is 0).

    The project's own addition, not in the paper: it assumes, as the metrics do, that factors are independent. Uncorrelated
    numbers may still mix factors, as any rotation of them is as uncorrelated. Mixtures are closer to Gaussian (kurtosis 3) than
    evenly spread factors (1.8), so that the least kurtosis picks the unmixed ones: independent component analysis (Hyvärinen
    and Oja 2000). Of two scalars a unit, the kurtosis is that of their length: least where they lie on a ring, so that it is the
    two that follow one hue which share a unit: independent subspace analysis (Hyvärinen and Hoyer 2000).
    """
    scalars = scalars.float()
    deviation = scalars.std(dim=0)
    standard = (scalars - scalars.mean(dim=0)) / (deviation + 1e-5)
    correlation = standard.T @ standard / (len(scalars) - 1)
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    varying = (deviation > 0).unflatten(0, (-1, unit_scalars)).sum(dim=-1)
    squared_length = standard.square().unflatten(1, (-1, unit_scalars)).sum(dim=-1) / varying.clamp(min=1)
    kurtosis = squared_length.square().mean() * (len(varying) / (varying > 0).sum())
    return off_diagonal / len(varying), kurtosis


def to_tensor(images) -> Tensor:
    """uint8 images (n, H, W, 3), an array or a tensor on any device -> float (n, 3, H, W) in [-1, 1]."""
    images = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_images(tensor: Tensor):
    """Float (n, 3, H, W) in [-1, 1] -> uint8 images (n, H, W, 3)."""
    return tensor.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
