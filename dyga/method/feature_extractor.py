"""Image -> latent units (paper, section 3.1 and Figure 2, left; EncDiff, arXiv 2402.09712)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class UnitMLPs(nn.Module):
    """One MLP per unit: `inputs` scalars -> `sizes[-1]` numbers. Each layer is one batched matrix product over all units."""

    def __init__(self, units: int, sizes: Sequence[int], final_relu: bool, inputs: int = 1):
        super().__init__()
        self.final_relu, self.inputs = final_relu, inputs
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(units, fan, out) * (2 / fan) ** 0.5)
            for fan, out in zip([inputs, *sizes[:-1]], sizes, strict=True)
        )
        # Random first biases spread the kinks over the scalar's range. With zero biases a unit would be a ray, not a curve.
        self.biases = nn.ParameterList(
            nn.Parameter(torch.randn(units, 1, out) if layer == 0 else torch.zeros(units, 1, out))
            for layer, out in enumerate(sizes)
        )

    def forward(self, scalars: Tensor) -> Tensor:
        """(batch, units * inputs) -> (batch, units, dim)."""
        hidden = scalars.unflatten(1, (-1, self.inputs)).transpose(0, 1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if layer + 1 < len(self.weights) or self.final_relu:
                hidden = hidden.relu()
        return hidden.transpose(0, 1)


class Convolutions(nn.Sequential):
    """Convolutions, one after the other. Input: images (batch, 3, size, size). Output: the last maps, flattened; with
    `global_pools` also each layer's maximum and mean over positions."""

    def __init__(self, layers: Sequence[nn.Module], global_pools: bool):
        super().__init__(*layers)
        self.global_pools = global_pools

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, outputs)."""
        maps, pools = images, []
        for layer in self:
            maps = layer(maps)
            if self.global_pools:
                pools += [maps.amax(dim=(2, 3)), maps.mean(dim=(2, 3))]
        return torch.cat([maps.flatten(1), *pools], dim=1)


class FeatureExtractor(nn.Module):
    """CNN -> one scalar per unit -> one MLP per unit -> latent units.

    Input: images (batch, 3, size, size) in [-1, 1]. Output: features (batch, units, dim). The defaults are the paper's: a 7x7
    convolution and four strided 4x4 convolutions with batch norm and ReLU, 4096 -> 256 -> units, and 1 -> 256 -> 512 -> dim.
    `scalars_per_unit` is 1 in the paper. ValueError unless it is 1 or 2. With `global_pools`, which is not in the paper, the
    scalars are also made from each layer's maximum and mean over positions.
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
        scalars_per_unit: int = 1,
        global_pools: bool = False,
        image_size: int = 64,
    ):
        super().__init__()
        if scalars_per_unit not in (1, 2):
            raise ValueError(f"scalars_per_unit is {scalars_per_unit}: valid are 1 and 2")
        self.units, self.dim, self.scalars_per_unit = units, dim, scalars_per_unit
        layers: list[nn.Module] = []
        width, size = 3, image_size
        for (kernel, stride), out in zip(kernels, channels, strict=True):
            padding = (kernel - stride + 1) // 2
            convolution = nn.Conv2d(width, out, kernel, stride, padding, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU()))
            width, size = out, (size + 2 * padding - kernel) // stride + 1
        self.convolutions = Convolutions(layers, global_pools)
        count, inputs = units * scalars_per_unit, width * size * size + 2 * sum(channels) * global_pools
        self.to_scalars = nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, count))
        self.normalise = nn.BatchNorm1d(count, affine=False) if normalise_scalars else nn.Identity()
        self.unit_mlps = UnitMLPs(units, [*unit_hidden, dim], final_relu, scalars_per_unit)

    def scalars(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size) -> scalars (batch, units * scalars_per_unit), unit after unit."""
        scalars = self.normalise(self.to_scalars(self.convolutions(images)))
        if scalars.requires_grad:
            # One memory layout of the gradient, so that a run has the same bits with and without a penalty of weight 0.
            scalars.register_hook(Tensor.contiguous)
        return scalars

    def features(self, scalars: Tensor) -> Tensor:
        """Scalars (batch, units * scalars_per_unit) -> features (batch, units, dim)."""
        return self.unit_mlps(scalars)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size) -> features (batch, units, dim)."""
        return self.features(self.scalars(images))
