"""Fewer latent units: those that the denoiser does without, and those that tell what another tells, leave during training.

The project's own addition, not in the paper. Nothing in the loss asks that a factor stay in one unit: with more units than
factors, several units share a hue. Taking units out one after the other, while training goes on, lets those that stay take over.
"""

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from .diffusion import LatentUnitDiffusion

IMAGES = 128  # enough, with the same noise for all units, to tell a rise of the loss by a hundredth
AT_ONCE = 2


def usefulness(model: LatentUnitDiffusion, images: Tensor, latents: Tensor) -> tuple[Tensor, float]:
    """How much the denoising loss of images (batch, 3, size, size) with latents rises without each unit, (units,), infinite for
    those that have left; and the loss with all. Leaves the model and its generators as they were."""
    training, extractor = model.training, model.feature_extractor
    model.eval()
    with torch.no_grad():
        scalars = extractor.scalars(images)

        def loss(scalars: Tensor) -> float:
            units = model.align(extractor.features(scalars, model.rounding).float())
            return float(model.denoising_loss(units, latents, torch.Generator(latents.device).manual_seed(0)))

        whole = loss(scalars)
        rise = torch.full((extractor.units,), torch.inf)
        for unit in extractor.active.nonzero().flatten().tolist():
            others = torch.ones(extractor.units, 1, device=scalars.device)
            others[unit] = 0
            rise[unit] = loss((extractor.by_unit(scalars) * others).flatten(1)) - whole
    model.train(training)
    return rise, whole


def redundancy(scalars: Tensor) -> Tensor:
    """Of scalars (n, units, 1 or 2): the share of each unit's variance (rows) that a cubic of each other unit (columns) tells,
    (units, units), 0 for a constant unit and on the diagonal."""
    count, units, inputs = scalars.shape
    z = _standard(scalars.double())
    powers = [p for degree in (1, 2, 3) for p in combinations_with_replacement(range(inputs), degree)]
    terms = _standard(torch.stack([z[..., p].prod(dim=-1) for p in powers], dim=-1))
    told = torch.zeros(units, units)
    for unit in range(units):
        x = terms[:, unit]
        # A little ridge: the terms of a ring are linearly dependent.
        weights = torch.linalg.solve(x.T @ x + 1e-3 * count * torch.eye(len(powers), dtype=x.dtype), x.T @ z.flatten(1))
        left = (z.flatten(1) - x @ weights).square().mean(dim=0).view(units, inputs).mean(dim=1)
        told[:, unit] = torch.where(z.square().mean(dim=(0, 2)) > 0.5, 1 - left, 0).float()
    return told.fill_diagonal_(0)


def prune(model: LatentUnitDiffusion, images: Tensor, latents: Tensor, recent: Tensor) -> list[int]:
    """Takes units out of the model and returns their numbers; at least `min_units` stay.

    Out go at most two of the least useful, those without which the loss rises by less than the share `prune_loss`; and the less
    useful one of the most redundant pair, if in `recent` scalars (n, units, unit_scalars) one tells more than
    `prune_redundant` of the other.
    """
    config, active = model.config, model.feature_extractor.active
    rise, whole = usefulness(model, images, latents)
    order = rise.argsort(stable=True).tolist()
    out = [unit for unit in order[:AT_ONCE] if rise[unit] < config.prune_loss * whole]
    staying = active.cpu().bool()
    staying[out] = False
    told = redundancy(recent.cpu()) * (staying[:, None] & staying)
    if told.max() > config.prune_redundant:
        out.append(min(divmod(int(told.argmax()), len(told)), key=lambda unit: rise[unit]))
    out = out[: max(int(active.sum()) - config.min_units, 0)]
    active[out] = 0
    return out


def _standard(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.std(dim=0, correction=0) + 1e-5)
