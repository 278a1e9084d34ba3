"""What a fit of the anchors works on: few rows that represent all, in coordinates that suit them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dyga.method.mixture import Mixture

# Lower limit of a variance, as a share of the unit's mean variance (a standard deviation of 0.1%). Units are curves and have no
# variance in most directions, so that without a limit densities would be infinite.
FLOOR = 1e-6
# Coordinates with a smaller share of variance are not used in the fit.
FLAT = 0.1 * FLOOR


@dataclass(frozen=True)
class Frame:
    """The coordinates of a unit's fit: y = (x - `centre`) / `scale` along the principal `basis` (U, D, D')."""

    centre: Tensor
    scale: Tensor
    basis: Tensor

    @classmethod
    def of(cls, points: Tensor, least: int) -> "Frame":
        """From points (U, N, D). Directions without variance in every unit are dropped, but at least `least` remain."""
        centre = points.mean(1, keepdim=True)
        centred = points - centre
        covariance = centred.mT @ centred / points.shape[1]
        values, vectors = torch.linalg.eigh(covariance)
        variance = values.clamp_min(0).mean(-1)
        # For a constant unit the variance consists of rounding errors.
        rounding = (torch.finfo(torch.float32).eps * centre.abs().amax((1, 2))).square()
        scale = torch.where(variance > rounding, variance, 1.0).sqrt()
        share = (values / scale.square()[:, None]).flip(-1)
        width = max(int((share > FLAT).sum(-1).amax()), least)
        return cls(centre, scale[:, None, None], vectors.flip(-1)[..., :width].contiguous())

    def transform(self, points: Tensor) -> Tensor:
        """Points (U, N, D) -> (U, N, D')."""
        return (points - self.centre) / self.scale @ self.basis

    def inverse_transform(self, mixture: Mixture) -> Mixture:
        """A mixture in these coordinates -> the same in the space of the features."""
        scale = self.scale[:, :, 0]
        return replace(
            mixture,
            means=(mixture.means @ self.basis.mT * self.scale + self.centre) * mixture.mask[..., None],
            axes=self.basis[:, None] @ mixture.axes,
            variances=mixture.variances * self.scale.square(),
            noise=mixture.noise * scale.square(),
        )


def coreset(features: Tensor, scalars: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """Features (n, units, dim) -> at most `size` rows per unit, (units, size, dim) in float64, and up to four times as many
    of the other rows. If there are fewer others than `size`, all rows are returned in their place.

    Each unit's rows are sorted by its scalar (n, units), or by their first principal component, and cut into `size` bins of equal
    count. The middle row represents its bin. The bin's mean would lose the variance within the bin, and between two clusters it
    would lie where no feature is.
    """
    if scalars is None:
        # Unit by unit, which avoids a second copy of all features.
        keys = torch.stack([_principal_scores(points) for points in features.unbind(1)])
    else:
        keys = scalars.T
    order = keys.contiguous().argsort(dim=1, stable=True)
    count = order.shape[1]
    size = min(size, count)
    middle = (torch.arange(size, device=order.device) * 2 + 1) * count // (2 * size)
    others = torch.ones(count, dtype=torch.bool, device=order.device).index_fill(0, middle, False)
    if others.sum() < size:
        others[:] = True
    others = others.nonzero().squeeze(1)
    others = others[:: -(-len(others) // (4 * size))]
    units = torch.arange(len(order), device=order.device)[:, None]
    return features[order[:, middle], units].double(), features[order[:, others], units].double()


def _principal_scores(points: Tensor) -> Tensor:
    """First principal component (n,) of points (n, D), up to scale."""
    points = points.to(torch.float32)
    centred = points - points.mean(0)
    # Scaled, so that squares of very large or small features stay finite.
    centred = centred / centred.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    axis = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors[:, -1]
    # The sign of an eigenvector is arbitrary; this makes the order unique.
    axis = axis * axis[axis.abs().argmax()].sign()
    return centred @ axis.to(centred.dtype)
