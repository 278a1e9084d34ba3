"""A supervised network that predicts the factors of an image. It measures what decoded images show."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FactorClassifier(nn.Module):
    """Images (batch, 3, size, size) in [-1, 1] -> one group of logits per factor, of `sizes` values each.

    It is trained on real images and their labels, without the latent units.
    """

    def __init__(self, sizes: Sequence[int], image_size: int = 64, channels: Sequence[int] = (24, 48, 64, 96)):
        super().__init__()
        self.sizes = tuple(sizes)
        layers: list[nn.Module] = []
        for before, after in zip((3, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        side = image_size // 2 ** len(channels)
        head = [nn.Flatten(), nn.Linear(channels[-1] * side * side, 256), nn.ReLU(), nn.Linear(256, sum(self.sizes))]
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) -> logits (batch, size) per factor."""
        return self.layers(images).split(self.sizes, dim=1)

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, 256): the input of the last layer."""
        return self.layers[:-1](images)

    def loss(self, images: Tensor, factors: Tensor) -> Tensor:
        """Mean cross entropy over the factors; factors (batch, factors) int64."""
        terms = [F.cross_entropy(logits, factors[:, i]) for i, logits in enumerate(self(images))]
        return torch.stack(terms).mean()

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, factors): each factor's most likely value."""
        return torch.stack([logits.argmax(dim=1) for logits in self(images)], dim=1)
