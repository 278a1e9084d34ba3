"""Other forms of alignment than the paper's, for `GaussianAnchors.align(..., form=...)`."""

import torch
from torch import Tensor

from dyga.method.anchors import Alignment, GaussianAnchors, align_to_means, shift_toward


def align_to_subspaces(anchors: GaussianAnchors, features: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Features c (n, units, dim) -> aligned features and weights lambda (n, units).

    The target is the point of the anchor's own subspace that is nearest to c, instead of the anchor's mean. So alignment keeps
    the gradation of a continuous attribute and removes what lies off its axis. The weight is the paper's, with this target.
    """
    if not anchors.fitted:
        return features, torch.zeros_like(features[..., 0])
    slot = anchors.assign(features)
    unit = torch.arange(anchors.units, device=features.device)
    mean = anchors.means[unit, slot].to(features.dtype)
    used = torch.arange(anchors.subspace, device=features.device) < anchors.intrinsic_dims[..., None]
    axes = (anchors.axes * used[..., None, :])[unit, slot].to(features.dtype)
    target = mean + (axes @ ((features - mean)[..., None, :] @ axes).mT).squeeze(-1)
    return shift_toward(features, torch.where(anchors.mask.any(1)[:, None], target, features), strength)


def align_as_released(
    anchors: GaussianAnchors, features: Tensor, strength: float, low: Tensor | None = None, high: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The arithmetic of the authors' released code, for comparison only.

    Features are normalised to [-1, 0] by the batch's own range, anchors by the range `low` to `high` (units,) of the features
    that they were fitted to (default: the batch's). The normalised anchors are then mixed with the raw features. The weight is
    one number for the batch, strength * exp(-mean |(c - mu) / (c + 1e-6)|), which exact zeros in c reduce to 0.
    """
    with torch.no_grad():
        smallest, largest = features.amin((0, 2)), features.amax((0, 2))
        low, high = smallest if low is None else low, largest if high is None else high
        tiny = torch.finfo(torch.float32).tiny
        normalised = (features - largest[:, None]) / (largest - smallest)[:, None].clamp_min(tiny)
        means = anchors.nearest_means(normalised * (high - low)[:, None] + high[:, None])
        target = (means - high[:, None]) / (high - low)[:, None].clamp_min(tiny)
        target = torch.where(anchors.mask.any(1)[:, None], target, features).to(features.dtype)
    weight = strength * torch.exp(-((features - target) / (features + 1e-6)).abs().mean())
    return features + weight * (target - features), weight


FORMS: dict[str, Alignment] = {"mean": align_to_means, "subspace": align_to_subspaces, "released": align_as_released}
