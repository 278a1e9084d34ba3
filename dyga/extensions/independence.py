"""Penalties that make the scalars independent: decorrelation and low kurtosis.

They assume, as the metrics do, that the factors are independent. Uncorrelated scalars may still be mixtures of factors, since any
rotation of them is uncorrelated too. A mixture is closer to a Gaussian (kurtosis 3) than an evenly spread factor (1.8), so the
least kurtosis selects the unmixed scalars: independent component analysis (Hyvärinen and Oja 2000).
"""

import torch
from torch import Tensor

from dyga.extensions.base import Extension


class Independence(Extension):
    """Adds `decorrelation` and `kurtosis` times the penalties of `independence_penalties`."""

    def __init__(self, decorrelation: float = 0.05, kurtosis: float = 0.01, scalars_per_unit: int = 1):
        super().__init__()
        self.decorrelation, self.kurtosis, self.scalars_per_unit = decorrelation, kurtosis, scalars_per_unit

    def penalties(self, scalars: Tensor) -> dict[str, Tensor]:
        """The two weighted penalties of scalars (batch, units * scalars_per_unit)."""
        decorrelation, kurtosis = independence_penalties(scalars, self.scalars_per_unit)
        return {"decorrelation": self.decorrelation * decorrelation, "kurtosis": self.kurtosis * kurtosis}


def independence_penalties(scalars: Tensor, scalars_per_unit: int = 1) -> tuple[Tensor, Tensor]:
    """Scalars (batch, units * scalars_per_unit) -> the sum of squared off-diagonal correlations divided by the number of units,
    and the mean kurtosis of the units that vary.

    With two scalars per unit the kurtosis is that of the pair's length. It is least if the pair lies on a ring, so that the two
    scalars that follow one hue share a unit: independent subspace analysis (Hyvärinen and Hoyer 2000).
    """
    with torch.autocast(scalars.device.type, enabled=False):
        return _penalties(scalars.float(), scalars_per_unit)


def _penalties(scalars: Tensor, scalars_per_unit: int) -> tuple[Tensor, Tensor]:
    deviation = scalars.std(dim=0)
    standard = (scalars - scalars.mean(dim=0)) / (deviation + 1e-5)
    correlation = standard.T @ standard / (len(scalars) - 1)
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    # A pruned scalar is constant and does not count.
    varying = (deviation > 0).unflatten(0, (-1, scalars_per_unit)).sum(dim=-1)
    squared_length = standard.square().unflatten(1, (-1, scalars_per_unit)).sum(dim=-1) / varying.clamp(min=1)
    kurtosis = squared_length.square().mean() * (len(varying) / (varying > 0).sum())
    return off_diagonal / len(varying), kurtosis
