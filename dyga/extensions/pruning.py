"""Fewer units: scalars that the denoiser does without leave during training, those that another unit tells leave too, and two
that are views of one factor become one unit.

The project's own addition, not in the paper. Nothing in the loss asks that a factor stay in one unit: with more units than
factors, several share one. With fewer and fewer scalars, those that stay take over. And scalars that are uncorrelated but still
tell of each other, as the cosine and sine of one angle do, belong together: independent component analysis, its components
grouped by the dependence that is left, finds the independent subspaces (Szabó, Póczos and Lőrincz 2007). A unit of two scalars
is a surface, on which a ring of hues fits.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dyga.config import Config
from dyga.method.diffusion import LatentUnitDiffusion

BATCH = 128  # enough, with the same noise for all scalars, to tell a rise of the loss by a hundredth
AT_ONCE = 2
CELLS = 100


class Choice(NamedTuple):
    """Scalars that leave, as (unit, place in it), and pairs of units (unit, other): the scalar of `other` becomes the second of
    `unit`, and `other` leaves."""

    leaving: list[tuple[int, int]]
    joining: list[tuple[int, int]]


def choose(config: Config, rise: Tensor, whole: float, scalars: Tensor) -> Choice:
    """What is to leave and to join, by what `survey` gives.

    Leaving: at most two of the least useful, those without which the loss rises by less than the share `prune_loss`; then one
    after the other at most two of which another unit tells more than the share `prune_redundant`, the best told first; at least
    `min_scalars` stay. Joining: at most two pairs of units of one scalar that tell more of each other than `join`.
    """
    order = [divmod(place, rise.shape[1]) for place in rise.flatten().argsort(stable=True).tolist()]
    leaving = [scalar for scalar in order[:AT_ONCE] if rise[scalar] < config.prune_loss * whole]
    scalars = scalars.clone()
    for scalar in leaving:
        scalars[:, *scalar] = 0
    for _ in range(AT_ONCE):
        told = redundancy(scalars)
        if told.max() <= config.prune_redundant:
            break
        leaving.append(divmod(int(told.argmax()), rise.shape[1]))
        scalars[:, *leaving[-1]] = 0
    leaving = leaving[: max(int(rise.isfinite().sum()) - config.min_scalars, 0)]
    varying = scalars.std(dim=0) > 0
    alone = varying[:, 0] & ~varying[:, 1:].any(dim=1)
    mutual = dependence(scalars[:, :, 0]) * (alone[:, None] & alone)
    joining: list[tuple[int, int]] = []
    while len(joining) < AT_ONCE and mutual.max() > config.join:
        unit, other = sorted(divmod(int(mutual.argmax()), len(mutual)), key=lambda unit: -rise[unit, 0])
        joining.append((unit, other))
        mutual[[unit, other]] = mutual[:, [unit, other]] = 0
    return Choice(leaving, joining)


def survey(model: LatentUnitDiffusion, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, float, Tensor]:
    """Of batches of images (batch, 3, size, size) with their latents: how much the denoising loss of the first one rises without
    each scalar, (units, unit_scalars), infinite for those that have left; the loss with all; and the scalars of all images,
    (n, units, unit_scalars). Leaves the model and its generators as they were."""
    training, extractor = model.training, model.feature_extractor
    first, *more = batches
    # With the averages of batch normalisation: those of a batch would blur what scalars tell.
    model.eval()
    with torch.no_grad():
        scalars = torch.cat([extractor.by_unit(extractor.scalars(images)) for images, _ in (first, *more)])

        def loss(mask: Tensor) -> float:
            units = model.align(extractor.features((scalars[: len(first[0])] * mask).flatten(1), model.rounding).float())
            return float(model.denoising_loss(units, first[1], torch.Generator(units.device).manual_seed(0)))

        everything = torch.ones_like(extractor.active)
        whole, rise = loss(everything), torch.full(everything.shape, torch.inf)
        for scalar in map(tuple, extractor.active.nonzero().tolist()):
            without = everything.clone()
            without[scalar] = 0
            rise[scalar] = loss(without) - whole
    model.train(training)
    return rise, whole, scalars.cpu()


def redundancy(scalars: Tensor) -> Tensor:
    """Of scalars (n, units, 1 or 2): the largest share of each one's variance that another unit tells, (units, 1 or 2)."""
    units = scalars.shape[1]
    told = told_by(scalars, scalars.flatten(1)).unflatten(0, (units, -1))
    told[range(units), :, range(units)] = 0
    return told.amax(dim=2)


def dependence(scalars: Tensor) -> Tensor:
    """Of scalars (n, units): the largest share of the variance of one, or of its square, that the other tells, (units, units),
    0 on the diagonal. Of the cosine and sine of an angle: 1, since they tell each other's squares."""
    scalars = _standard(scalars)
    tells = scalars[:, :, None]
    told = torch.maximum(told_by(tells, scalars), told_by(tells, scalars.square()))
    return torch.maximum(told, told.T).fill_diagonal_(0)


def told_by(scalars: Tensor, numbers: Tensor) -> Tensor:
    """The share of the variance of each of `numbers` (n, k) that each unit of scalars (n, units, 1 or 2) tells, (k, units), 0
    where either is constant.

    A unit tells in which of a hundred cells of equal counts it is (ten by ten for two scalars), and so the cell's mean; the
    share is adjusted for the number of cells, so that unrelated numbers tell about 0.
    """
    numbers = _standard(numbers)
    count, constant = len(numbers), numbers.square().mean(dim=0) < 0.5
    told = torch.zeros(numbers.shape[1], scalars.shape[1])
    for unit in range(scalars.shape[1]):
        varying = [scalar for scalar in scalars[:, unit].T if scalar.std() > 0]
        cell = torch.zeros(count, dtype=torch.int64)
        for scalar in varying:
            bins = round(CELLS ** (1 / len(varying)))
            cell = cell * bins + scalar.argsort().argsort() * bins // count
        if varying:
            sizes = cell.bincount(minlength=CELLS).clamp(min=1)[:, None]
            means = torch.zeros(CELLS, numbers.shape[1]).index_add_(0, cell, numbers) / sizes
            left = (numbers - means[cell]).square().sum(dim=0) / max(count - CELLS, 1)
            told[:, unit] = (1 - left).clamp(min=0).masked_fill(constant, 0)
    return told


def _standard(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.std(dim=0, correction=0) + 1e-5)
