"""The model as a whole, in the order of the paper's Figure 2: units, alignment to anchors, denoiser, loss; and back: sampling."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn

from dyga.method.anchors import Alignment, GaussianAnchors, align_to_means
from dyga.method.feature_extractor import FeatureExtractor
from dyga.method.unet import UNet

# What else the log lists beside the terms.
LOGGED = ("loss", "step", "lr", "seconds", "anchor_seconds", "anchors", "factor_vae_score", "mig")


class Loss(NamedTuple):
    """One step's loss. `total` is minimised. `terms` holds, by name, the diffusion loss and the extensions' penalties, detached.
    The anchors are fitted to `features` (batch, units, dim), made from `scalars` (batch, units * scalars_per_unit)."""

    total: Tensor
    terms: dict[str, Tensor]
    scalars: Tensor
    features: Tensor


class LatentUnitDiffusion(nn.Module):
    """A latent diffusion model conditioned on latent units, with Dynamic Gaussian Anchoring of strength `anchoring`.

    `denoiser` carries Skip Dropout if it was attached to it. `latent_shape` is (channels, height, width). `extensions` are
    modules with the methods of `dyga.extensions.Extension`. Without them, and with the default arguments of this class,
    `FeatureExtractor` and `UNet`, the model is the paper's. `prediction` is "epsilon" or "v_prediction", `loss` "l1" or "mse".
    Times in training are 1,000 u^`time_exponent` for uniform u.
    """

    def __init__(
        self,
        *,
        feature_extractor: FeatureExtractor,
        denoiser: UNet,
        latent_shape: tuple[int, int, int] = (3, 16, 16),
        max_anchors: int = 32,
        anchoring: float = 0.1,
        alignment: Alignment = align_to_means,
        prediction: str = "epsilon",
        loss: str = "l1",
        time_exponent: float = 1.0,
        extensions: Iterable[nn.Module] = (),
    ):
        super().__init__()
        self.feature_extractor = feature_extractor
        self.anchors = GaussianAnchors(feature_extractor.units, feature_extractor.dim, max_anchors)
        self.denoiser = denoiser
        self.extensions = nn.ModuleList(extensions)
        self.latent_shape, self.anchoring, self.alignment = latent_shape, anchoring, alignment
        self.time_exponent = time_exponent
        self.distance = {"l1": F.l1_loss, "mse": F.mse_loss}[loss]
        # Section 4: 1,000 times; betas are linear in their square root.
        self.schedule = DDIMScheduler(
            1_000, 0.0015, 0.0155, "scaled_linear", clip_sample=False, prediction_type=prediction, timestep_spacing="trailing"
        )
        # The completed share of the training, set by the training loop. A loaded model is complete.
        self.progress = 1.0

    def scalars(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size) in [-1, 1] -> scalars (batch, units * scalars_per_unit)."""
        scalars = self.feature_extractor.scalars(images)
        for extension in self.extensions:
            scalars = extension.on_scalars(scalars)
        return scalars

    def features(self, scalars: Tensor) -> Tensor:
        """Scalars (batch, units * scalars_per_unit) -> features c (batch, units, dim), before alignment."""
        for extension in self.extensions:
            scalars = extension.on_mlp_inputs(scalars, self.progress)
        return self.feature_extractor.features(scalars)

    def encode(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size) in [-1, 1] -> features c (batch, units, dim), before alignment."""
        return self.features(self.scalars(images))

    def align(self, features: Tensor) -> Tensor:
        """Features c (batch, units, dim) -> aligned features c~, the denoiser's context; unchanged before the first fit."""
        if not self.anchoring or not self.anchors.fitted:
            return features
        return self.anchors.align(features, self.anchoring, self.alignment)

    def forward(self, images: Tensor, latents: Tensor, generator: torch.Generator) -> Loss:
        """Loss of images (batch, 3, size, size) in [-1, 1] with latents (batch, *latent_shape); paper, equation 1."""
        scalars = self.scalars(images)
        features = self.features(scalars).float()  # under autocast the networks give bfloat16
        units = self.align(features)
        total = self.denoising_loss(units, latents, generator)
        terms = {"diffusion": total.detach()}
        for extension in self.extensions:
            for name, penalty in extension.penalties(scalars).items():
                if name in terms or name in LOGGED:
                    raise ValueError(f"an extension's penalty is called '{name}': that name is taken, choose another")
                total = total + penalty
                terms[name] = penalty.detach()
        return Loss(total, terms, scalars.detach().float(), features.detach())

    def denoising_loss(self, units: Tensor, latents: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of latents z (batch, *latent_shape) given units (batch, units, dim): |eps - eps_theta(z_t, t, units)| at
        random times t; with velocity prediction the target is the velocity instead of the noise eps."""
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        steps = self.schedule.config.num_train_timesteps
        uniform = torch.rand(len(latents), generator=generator, device=generator.device)
        time = (steps * uniform**self.time_exponent).long().clamp(max=steps - 1).to(latents.device)
        noisy = self.schedule.add_noise(latents, noise, time)
        velocity = self.schedule.config.prediction_type == "v_prediction"
        target = self.schedule.get_velocity(latents, noise, time) if velocity else noise
        return self.distance(self.denoiser(noisy, time, units).float(), target)

    @torch.no_grad()
    def sample(
        self, features: Tensor, steps: int = 20, seed: int = 0, temperature: float = 1.0, same_noise: bool = True
    ) -> Tensor:
        """Features (n, units, dim) -> latents (n, *latent_shape) by DDIM, from noise of standard deviation `temperature`.

        With temperature 0 sampling starts from zeros: the images are sharper where the units determine them, and averages where
        they do not. With `same_noise` all rows start from one noise tensor, so that images differ by their units only. ValueError
        unless 1 <= steps <= the number of training times (1,000).
        """
        times = self.schedule.config.num_train_timesteps
        if not 1 <= steps <= times:
            raise ValueError(f"{steps} sampling steps: valid are 1 to {times:,}")
        generator = torch.Generator().manual_seed(seed)
        rows = 1 if same_noise else len(features)
        latents = torch.randn(rows, *self.latent_shape, generator=generator).to(features)
        latents = temperature * latents.expand(len(features), *self.latent_shape)
        units = self.align(features)
        self.schedule.set_timesteps(steps)
        for time in self.schedule.timesteps[:steps]:  # rounding adds one too many to some numbers of steps, as 61
            prediction = self.denoiser(latents, time.expand(len(latents)).to(features.device), units)
            latents = self.schedule.step(prediction, time, latents).prev_sample
        return latents

    def compile_parts(self) -> None:
        """Applies torch.compile to everything but the anchors."""
        extractor = self.feature_extractor
        for part in (extractor.convolutions, extractor.to_scalars, extractor.unit_mlps, self.denoiser):
            part.compile()


def to_tensor(images: np.ndarray | Tensor) -> Tensor:
    """uint8 images (n, H, W, 3), an array or a tensor on any device -> float (n, 3, H, W) in [-1, 1]."""
    images = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_images(tensor: Tensor) -> np.ndarray:
    """Float (n, 3, H, W) in [-1, 1] -> uint8 images (n, H, W, 3)."""
    return tensor.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
