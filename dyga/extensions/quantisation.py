"""Latent quantisation (Hsu et al. 2023) with values that are found in the data instead of a fixed grid."""

from torch import Tensor

from dyga.extensions.base import Extension
from dyga.method.anchors import GaussianAnchors

FROM, UNTIL = 0.3, 0.8


class Quantisation(Extension):
    """Rounds each unit's scalar to one of at most `values` anchors of that scalar.

    The quantisation strength rises linearly from 0 to 1 between 30% and 80% of the training. The gradient passes straight
    through.
    """

    def __init__(self, units: int, values: int = 10):
        super().__init__()
        self.values = GaussianAnchors(units, 1, values, start=values)

    def on_mlp_inputs(self, scalars: Tensor, progress: float) -> Tensor:
        """Scalars (batch, units) -> the same, moved toward their nearest value."""
        if not self.values.fitted:
            return scalars
        strength = min(max((progress - FROM) / (UNTIL - FROM), 0.0), 1.0)
        points = scalars[..., None]
        return (points + (strength * (self.values.nearest_means(points) - points)).detach()).squeeze(-1)

    def refit(self, scalars: Tensor, features: Tensor, **options) -> None:
        """Fits the values to scalars (n, units, 1)."""
        self.values.fit_on_cpu(scalars, **options)
