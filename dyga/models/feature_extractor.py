"""Image -> latent units (paper, section 3.1 and Figure 2, left; EncDiff, arXiv 2402.09712)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..anchoring import GaussianAnchors


class UnitMLPs(nn.Module):
    """One MLP per unit, scalar -> `sizes[-1]` numbers, all units in one batched matrix product a layer."""

    def __init__(self, units: int, sizes: Sequence[int], final_relu: bool):
        super().__init__()
        self.final_relu = final_relu
        inputs = [1, *sizes[:-1]]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(units, fan, out) * (2 / fan) ** 0.5) for fan, out in zip(inputs, sizes, strict=True)
        )
        # Random first biases spread the kinks over the scalar's range, so that a unit is a curve, not a ray.
        self.biases = nn.ParameterList(
            nn.Parameter(torch.randn(units, 1, out) if layer == 0 else torch.zeros(units, 1, out))
            for layer, out in enumerate(sizes)
        )

    def forward(self, scalars: Tensor) -> Tensor:
        """(batch, units) -> (batch, units, dim)."""
        hidden = scalars.T.unsqueeze(-1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if layer + 1 < len(self.weights) or self.final_relu:
                hidden = hidden.relu()
        return hidden.transpose(0, 1)


class FeatureExtractor(nn.Module):
    """CNN -> `units` scalars -> one MLP per scalar -> latent units.

    Input images (batch, 3, size, size) in [-1, 1]; output features (batch, units, dim). Defaults are the paper's:
    a 7x7 convolution and four strided 4x4 ones with batch norm and ReLU, 4096 -> 256 -> units, and 1 -> 256 -> 512 -> dim.

    With `levels`, the project's own addition, each unit's scalar is rounded to one of at most so many values, the anchors of
    that scalar, once `self.levels` has been fitted (latent quantisation, Hsu et al. 2023, with values found in the data).
    """

    def __init__(
        self,
        units: int = 20,
        dim: int = 32,
        kernels: Sequence[tuple[int, int]] = ((7, 1), (4, 2), (4, 2), (4, 2), (4, 2)),
        channels: Sequence[int] = (64, 128, 256, 256, 256),
        unit_hidden: Sequence[int] = (256, 512),
        normalise_scalars: bool = False,
        final_relu: bool = True,
        levels: int = 0,
        image_size: int = 64,
    ):
        super().__init__()
        self.units, self.dim = units, dim
        layers: list[nn.Module] = []
        width, size = 3, image_size
        for (kernel, stride), out in zip(kernels, channels, strict=True):
            padding = (kernel - stride + 1) // 2
            layers += [
                nn.Conv2d(width, out, kernel, stride, padding, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            width, size = out, (size + 2 * padding - kernel) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.to_scalars = nn.Sequential(nn.Flatten(), nn.Linear(width * size * size, 256), nn.ReLU(), nn.Linear(256, units))
        self.normalise = nn.BatchNorm1d(units, affine=False) if normalise_scalars else nn.Identity()
        self.levels = GaussianAnchors(units, 1, levels, start=levels) if levels else None
        self.unit_mlps = UnitMLPs(units, [*unit_hidden, dim], final_relu)

    def scalars(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, units): the one number that each unit is a curve of."""
        return self.normalise(self.to_scalars(self.convolutions(images)))

    def features(self, scalars: Tensor, rounding: float = 1.0) -> Tensor:
        """(batch, units) -> (batch, units, dim), of scalars that go the share `rounding` of the way to their levels, if any."""
        if self.levels is not None and self.levels.fitted:
            scalars = self.levels.align(scalars.unsqueeze(-1), rounding, mode="quantised").squeeze(-1)
        return self.unit_mlps(scalars)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, units, dim)."""
        return self.features(self.scalars(images))
