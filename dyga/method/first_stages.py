"""First stages: image (batch, 3, size, size) in [-1, 1] <-> latent. They are frozen after their training.

Shapes below are those of 64x64 images. Images of 32 and 128 pixels per side work too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchAutoencoder(nn.Module):
    """The quick profile's first stage: principal components of 8x8 patches, and a small learned decoder.

    Each of the 64 patches of 192 numbers becomes its first 24 principal components (24x8x8), half whitened: a component of
    variance v is divided by v^1/4, and all components by one number, for unit variance. Without whitening nearly all of the loss
    is the colour of large surfaces. With full whitening the noise of the smallest components spoils the images. The decoder adds
    what the components lack, above all the edges between patches. Call `calibrate` once before use; the
    encoder needs no training.
    """

    def __init__(self, image_size: int = 64, width: int = 64):
        super().__init__()
        self.patch, self.components = image_size // 8, self.latent_shape(image_size)[0]
        size, last = 3 * self.patch**2, self.patch // 2
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size)[: self.components].clone())
        self.register_buffer("scale", torch.ones(self.components))
        self.decoder = nn.Sequential(
            nn.Conv2d(self.components, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 3 * last**2, 3, padding=1), nn.PixelShuffle(last),
        )  # fmt: skip
        with torch.no_grad():
            self.decoder[-2].weight.mul_(0.1)  # small: the linear reconstruction is good from the start
            self.decoder[-2].bias.zero_()

    @staticmethod
    def latent_shape(image_size: int = 64) -> tuple[int, int, int]:
        """(channels, height, width). Images of 128 pixels per side keep 48 components of each patch."""
        return (24 if image_size <= 64 else 48, 8, 8)

    def calibrate(self, images: Tensor) -> None:
        """Sets the mean, the principal axes and their scales from images (n, 3, 64, 64). Axes with less than .001 of the largest
        variance count as noise and are scaled like an axis of that variance."""
        blocks = F.pixel_unshuffle(images, self.patch).transpose(0, 1).flatten(1)
        variance, axes = torch.linalg.eigh(blocks.double().cov())
        variance, axes = variance.flip(0)[: self.components], axes.flip(1)[:, : self.components]
        self.mean, self.axes = blocks.mean(dim=1), axes.T.float().contiguous()
        scale = variance.clamp(min=1e-3 * variance[0]) ** 0.25
        self.scale = (scale * (variance / scale**2).mean().sqrt()).float()

    def encode(self, images: Tensor) -> Tensor:
        """(batch, 3, 64, 64) -> (batch, 24, 8, 8), about unit variance."""
        blocks = F.pixel_unshuffle(images, self.patch) - self.mean[:, None, None]
        return F.conv2d(blocks, (self.axes / self.scale[:, None])[:, :, None, None])

    def decode(self, latents: Tensor) -> Tensor:
        """(batch, 24, 8, 8) -> (batch, 3, 64, 64)."""
        blocks = F.conv2d(latents, (self.axes.T * self.scale)[:, :, None, None]) + self.mean[:, None, None]
        return F.pixel_shuffle(blocks, self.patch) + self.decoder(latents)

    def loss(self, images: Tensor) -> Tensor:
        """Mean absolute error of images decoded from noisy latents, so that the decoder tolerates errors of sampled latents."""
        latents = self.encode(images)
        noise = 0.3 * torch.rand(len(latents), 1, 1, 1, device=latents.device) * torch.randn_like(latents)
        return F.l1_loss(self.decode(latents + noise), images)


class VQAutoencoder(nn.Module):
    """The paper's first stage: VQ autoencoder, 64x64x3 -> 16x16x3, codebook 2048x3 (section 4, implementation details)."""

    def __init__(self, image_size: int = 64):
        from diffusers import VQModel  # here, since the import takes a second and quick does not need it

        super().__init__()
        self.register_buffer("std", torch.ones(()))
        self.model = VQModel(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 64, 128),
            layers_per_block=2,
            latent_channels=3,
            num_vq_embeddings=2048,
            vq_embed_dim=3,
        )

    @staticmethod
    def latent_shape(image_size: int = 64) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (3, image_size // 4, image_size // 4)

    def calibrate(self, images: Tensor) -> None:
        """Sets the scale that gives latents unit variance, after training."""
        self.std = self.model.encode(images).latents.std()

    def encode(self, images: Tensor) -> Tensor:
        """(batch, 3, 64, 64) -> (batch, 3, 16, 16), before quantisation, about unit variance."""
        return self.model.encode(images).latents / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """(batch, 3, 16, 16) -> (batch, 3, 64, 64); quantises first."""
        return self.model.decode(latents * self.std).sample

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded images, and the codebook and commitment loss (VQ-VAE, van den Oord et al. 2017)."""
        quantised, commitment, _ = self.model.quantize(self.model.quant_conv(self.model.encoder(images)))
        return self.model.decode(quantised, force_not_quantize=True).sample, commitment

    def loss(self, images: Tensor) -> Tensor:
        """Mean absolute error plus the codebook and commitment loss. `dyga.training.vqgan_loss` adds the terms of a VQ-GAN."""
        decoded, commitment = self.reconstruct(images)
        return F.l1_loss(decoded, images) + commitment


FIRST_STAGES = {"patches": PatchAutoencoder, "vq": VQAutoencoder}
