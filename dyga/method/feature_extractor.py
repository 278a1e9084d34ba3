"""Image -> latent units (paper, section 3.1 and Figure 2, left; EncDiff, arXiv 2402.09712)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dyga.method.anchors import GaussianAnchors


class UnitMLPs(nn.Module):
    """One MLP per unit, `inputs` scalars -> `sizes[-1]` numbers, all units in one batched matrix product a layer."""

    def __init__(self, units: int, sizes: Sequence[int], final_relu: bool, inputs: int = 1):
        super().__init__()
        self.final_relu, self.inputs = final_relu, inputs
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(units, fan, out) * (2 / fan) ** 0.5)
            for fan, out in zip([inputs, *sizes[:-1]], sizes, strict=True)
        )
        # Random first biases spread the kinks over the scalar's range, so that a unit is a curve, not a ray.
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


class FeatureExtractor(nn.Module):
    """CNN -> `unit_scalars` scalars a unit, one in the paper -> one MLP a unit -> latent units.

    Input images (batch, 3, size, size) in [-1, 1]; output features (batch, units, dim). Defaults are the paper's:
    a 7x7 convolution and four strided 4x4 ones with batch norm and ReLU, 4096 -> 256 -> units, and 1 -> 256 -> 512 -> dim.

    With `levels`, the project's own addition, each unit's scalars are rounded to one of at most so many values, their
    anchors, once `self.levels` has been fitted (latent quantisation, Hsu et al. 2023, with values found in the data).
    ValueError unless `unit_scalars` is 1 or 2.
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
        unit_scalars: int = 1,
        image_size: int = 64,
    ):
        super().__init__()
        if unit_scalars not in (1, 2):
            raise ValueError(f"unit_scalars is {unit_scalars}: valid are 1 and 2")
        self.units, self.dim, self.unit_scalars = units, dim, unit_scalars
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
        numbers = units * unit_scalars
        self.to_scalars = nn.Sequential(nn.Flatten(), nn.Linear(width * size * size, 256), nn.ReLU(), nn.Linear(256, numbers))
        self.normalise = nn.BatchNorm1d(numbers, affine=False) if normalise_scalars else nn.Identity()
        self.levels = GaussianAnchors(units, unit_scalars, levels, start=levels) if levels else None
        self.unit_mlps = UnitMLPs(units, [*unit_hidden, dim], final_relu, unit_scalars)
        # 0 for scalars that were pruned, which are then 0; a unit of which all were has constant features.
        self.register_buffer("active", torch.ones(units, unit_scalars))

    def scalars(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, units * unit_scalars): the one number that each unit is a curve of, or the two
        that it is a surface of, unit after unit."""
        scalars = self.normalise(self.to_scalars(self.convolutions(images)))
        return scalars * self.active.flatten()

    def by_unit(self, scalars: Tensor) -> Tensor:
        """(batch, units * unit_scalars) -> (batch, units, unit_scalars)."""
        return scalars.unflatten(1, (self.units, self.unit_scalars))

    def features(self, scalars: Tensor, rounding: float = 1.0) -> Tensor:
        """(batch, units * unit_scalars) -> (batch, units, dim), of scalars that go the share `rounding` of the way to their
        levels, if any."""
        if self.levels is not None and self.levels.fitted:
            scalars = self.levels.align(self.by_unit(scalars), rounding, mode="quantised").flatten(1)
        return self.unit_mlps(scalars)

    @torch.no_grad()
    def join(self, unit: int, other: int, states: Mapping[nn.Parameter, Mapping[str, Tensor]]) -> None:
        """The first scalar of unit `other` becomes the second of `unit`, and `other` leaves. What `states`, an optimiser's, keep
        of the parameters that make and take the scalar moves with them."""
        source, target = other * self.unit_scalars, unit * self.unit_scalars + 1
        last, first = self.to_scalars[-1], self.unit_mlps.weights[0]
        moved = [self.normalise.running_mean, self.normalise.running_var] if self.normalise.state_dict() else []
        for parameter in (last.weight, last.bias, first):
            kept = (tensor for tensor in states.get(parameter, {}).values() if tensor.shape == parameter.shape)
            moved += [parameter.data, *kept]
        for tensor in moved:
            rows = tensor.view(self.units * self.unit_scalars, -1)
            rows[target] = rows[source]
        self.active[unit, 1], self.active[other] = 1, 0

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, units, dim)."""
        return self.features(self.scalars(images))
