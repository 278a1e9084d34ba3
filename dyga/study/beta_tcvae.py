"""beta-TCVAE, the baseline of the latent-variable family (Chen et al. 2018, arXiv 1802.04942)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BetaTCVAE(nn.Module):
    """A VAE whose latents' total correlation weighs `beta` times: images (batch, 3, size, size) in [-1, 1] -> `latents` numbers.

    The encoder has the feature extractor's convolutions. The decoder mirrors all but the first of them. It reconstructs
    the image averaged over squares of the first convolution's stride: 16x16 pixels in the quick profile.
    """

    def __init__(
        self, latents: int, kernels: Sequence[tuple[int, int]], channels: Sequence[int], beta: float = 6.0, image_size: int = 64
    ):
        super().__init__()
        self.beta = beta
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        width, size = 3, image_size
        self.pool = kernels[0][1]
        for (kernel, stride), out in zip(kernels, channels, strict=True):
            padding = (kernel - stride + 1) // 2
            smaller = (size + 2 * padding - kernel) // stride + 1
            down += [nn.Conv2d(width, out, kernel, stride, padding), nn.ReLU()]
            missing = size - ((smaller - 1) * stride - 2 * padding + kernel)
            first = [nn.ReLU(), nn.Conv2d(out, 3, 3, padding=1)]
            up = (
                [nn.ReLU(), nn.ConvTranspose2d(out, width, kernel, stride, padding, output_padding=missing), *up] if up else first
            )
            width, size = out, smaller
        flat = width * size * size
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 256), nn.ReLU(), nn.Linear(256, 2 * latents))
        self.decoder = nn.Sequential(
            nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, flat), nn.Unflatten(1, (width, size, size)), *up
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> mean and log-variance of their latents, each (batch, latents). The mean is the code."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Bernoulli reconstruction error + KL divergence + (beta - 1) * total correlation, a mean over the batch (equation 4)."""
        mean, log_variance = self.encode(images)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        sample = mean + (log_variance / 2).exp() * noise
        target = F.avg_pool2d((images + 1) / 2, self.pool)
        error = F.binary_cross_entropy_with_logits(self.decoder(sample), target, reduction="sum") / len(images)
        error = error * self.pool**2  # an average stands for its pixels, so that beta means the same at any size
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        return error + divergence + (self.beta - 1) * total_correlation(sample, mean, log_variance)


def total_correlation(sample: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of the aggregate posterior from the product of its marginals, estimated within the batch.

    `sample` (batch, latents) was drawn from the Gaussians of `mean` and `log_variance`, row by row. A batch of b rows sees log
    densities up to the constant log(b) (minibatch weighted sampling, section 4.1, without the size of the data set, which
    is a constant too).
    """
    squares = (sample[:, None] - mean[None]).square() / log_variance.exp()[None]
    density = -0.5 * (squares + log_variance[None] + math.log(2 * math.pi))  # (of row, under row, latent)
    batch = math.log(len(sample))
    joint = density.sum(dim=2).logsumexp(dim=1) - batch
    marginals = (density.logsumexp(dim=1) - batch).sum(dim=1)
    return (joint - marginals).mean()
