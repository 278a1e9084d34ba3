"""Pruning of scalars and merging of units during training.

The loss does not ask that a factor stays in one unit: with more units than factors, several units share a factor. With fewer and
fewer scalars, the remaining ones take over. Scalars that are uncorrelated but dependent, as the cosine and sine of one angle are,
belong to one unit: independent components that are grouped by their remaining dependence are independent subspaces (Szabó, Póczos
and Lőrincz 2007). A unit of two scalars is a surface, which can hold a ring of hues.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dyga.extensions.base import Extension
from dyga.method import FeatureExtractor, LatentUnitDiffusion
from dyga.seeds import step_seed

START, END = 0.4, 0.85  # shares of the training between which the rounds take place
BATCH = 128  # with the same noise for all scalars, enough to see a loss increase of 1%
MAX_PER_ROUND = 2
NUM_BINS = 100
STREAM = 1_000_000  # random stream reserved for pruning


class Choice(NamedTuple):
    """Scalars to prune, as (unit, index in it), and pairs of units to merge, as (unit, other): the scalar of `other` becomes the
    second one of `unit`, and `other` is pruned."""

    pruned: list[tuple[int, int]]
    merged: list[tuple[int, int]]


class Pruning(Extension):
    """Prunes scalars that the denoiser does not need or that another unit predicts, and merges dependent units.

    `rounds` rounds are spread evenly over 40 to 85% of the training. `loss_increase`, `explained`, `dependence` and `min_scalars`
    are the thresholds of `choose`. With `dependence` below 1 every unit starts with one of its two scalars.
    """

    def __init__(
        self,
        units: int,
        scalars_per_unit: int = 2,
        *,
        loss_increase: float = 0.01,
        explained: float = 0.5,
        dependence: float = 0.4,
        min_scalars: int = 12,
        rounds: int = 20,
    ):
        super().__init__()
        self.thresholds = dict(loss_increase=loss_increase, explained=explained, dependence=dependence, min_scalars=min_scalars)
        self.rounds = rounds
        # 0 for pruned scalars. A unit without scalars has constant features.
        self.register_buffer("active", torch.ones(units, scalars_per_unit))
        if dependence < 1:
            self.active[:, 1:] = 0

    def on_scalars(self, scalars: Tensor) -> Tensor:
        """Sets pruned scalars to 0."""
        return scalars * self.active.flatten()

    def after_step(self, training: Any) -> None:
        """One round, if it is due after this step; the same in every process."""
        from accelerate.utils import broadcast_object_list  # here, since a model that is only used needs no accelerate

        config = training.config
        if training.done not in (np.linspace(START, END, self.rounds) * config.steps).astype(int):
            return
        random = np.random.default_rng(step_seed(config.seed, training.done, stream=STREAM))
        rows = random.integers(len(training.batches), size=config.feature_buffer // BATCH * BATCH)
        batches = training.batches.along(np.split(rows, len(rows) // BATCH))
        choice = broadcast_object_list([choose(*leave_one_out(training.model, self.active, batches), **self.thresholds)])[0]
        for scalar in choice.pruned:
            self.active[scalar] = 0
        for unit, other in choice.merged:
            merge(training.model.feature_extractor, unit, other, training.optimiser.state)
            if training.average:
                merge(training.average.feature_extractor, unit, other, {})
            training.feature_buffer[:, unit, 1] = training.feature_buffer[:, other, 0]
            self.active[unit, 1], self.active[other] = 1, 0


def choose(
    increase: Tensor,
    base_loss: float,
    scalars: Tensor,
    *,
    loss_increase: float,
    explained: float,
    dependence: float,
    min_scalars: int,
) -> Choice:
    """What to prune and to merge, from the results of `leave_one_out`.

    At most two scalars are pruned without which the loss increases by less than the share `loss_increase`, the least useful
    first. Then at most two are pruned of which another unit explains more than the share `explained` of the variance: one at a
    time, the best explained first. At least `min_scalars` remain. At most two pairs of units with one scalar each are merged, if
    their nonlinear dependence exceeds `dependence`.
    """
    order = [divmod(place, increase.shape[1]) for place in increase.flatten().argsort(stable=True).tolist()]
    pruned = [scalar for scalar in order[:MAX_PER_ROUND] if increase[scalar] < loss_increase * base_loss]
    remaining, scalars = scalars.std(dim=0) > 0, scalars.clone()
    for scalar in pruned:
        scalars[:, *scalar] = 0
    for _ in range(MAX_PER_ROUND):
        shares = redundancy(scalars)
        if shares.max() <= explained:
            break
        pruned.append(divmod(int(shares.argmax()), increase.shape[1]))
        scalars[:, *pruned[-1]] = 0
    pruned = pruned[: max(int(increase.isfinite().sum()) - min_scalars, 0)]
    for scalar in pruned:
        remaining[scalar] = False
    # Not a unit whose second scalar was chosen above but remains because of `min_scalars`.
    single = (scalars[:, :, 0].std(dim=0) > 0) & ~remaining[:, 1:].any(dim=1)
    mutual = nonlinear_dependence(scalars[:, :, 0]) * (single[:, None] & single)
    merged: list[tuple[int, int]] = []
    while len(merged) < MAX_PER_ROUND and mutual.max() > dependence:
        unit, other = sorted(divmod(int(mutual.argmax()), len(mutual)), key=lambda unit: -increase[unit, 0])
        merged.append((unit, other))
        mutual[[unit, other]] = mutual[:, [unit, other]] = 0
    return Choice(pruned, merged)


def leave_one_out(
    model: LatentUnitDiffusion, active: Tensor, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, float, Tensor]:
    """How much each scalar matters, measured on batches of images (batch, 3, size, size) with their latents.

    Returns the increase of the first batch's denoising loss without each scalar (units, scalars_per_unit), infinite for those
    that are not `active`; the base loss with all scalars; and the scalars of all images (n, units, scalars_per_unit). The model
    and its random generators stay as they were.
    """
    training = model.training
    # Evaluation mode: a batch's own normalisation statistics would add noise to the scalars.
    model.eval()
    with torch.no_grad():
        first, parts = None, []
        for images, latents in batches:  # one batch of images in memory at a time
            first = first or (images, latents)
            parts.append(model.scalars(images))
        scalars = torch.cat(parts).unflatten(1, active.shape)

        def loss(kept: Tensor) -> float:
            units = model.align(model.features((scalars[: len(first[0])] * kept).flatten(1)).float())
            return float(model.denoising_loss(units, first[1], torch.Generator(units.device).manual_seed(0)))

        everything = torch.ones_like(active)
        base_loss, increase = loss(everything), torch.full(everything.shape, torch.inf)
        for scalar in map(tuple, active.nonzero().tolist()):
            without = everything.clone()
            without[scalar] = 0
            increase[scalar] = loss(without) - base_loss
    model.train(training)
    return increase, base_loss, scalars.cpu()


@torch.no_grad()
def merge(extractor: FeatureExtractor, unit: int, other: int, states: Mapping[nn.Parameter, Mapping[str, Tensor]]) -> None:
    """Copies the first scalar of unit `other` to the second of `unit`: the weights that make and read it, its normalisation
    statistics, and the optimiser's `states` of these weights."""
    width = extractor.scalars_per_unit
    source, target = other * width, unit * width + 1
    last, first = extractor.to_scalars[-1], extractor.unit_mlps.weights[0]
    copied = [extractor.normalise.running_mean, extractor.normalise.running_var] if extractor.normalise.state_dict() else []
    for parameter in (last.weight, last.bias, first):
        state = (tensor for tensor in states.get(parameter, {}).values() if tensor.shape == parameter.shape)
        copied += [parameter.data, *state]
    for tensor in copied:
        rows = tensor.view(extractor.units * width, -1)
        rows[target] = rows[source]


def redundancy(scalars: Tensor) -> Tensor:
    """Scalars (n, units, 1 or 2) -> the largest share of each one's variance that another unit explains (units, 1 or 2)."""
    units = scalars.shape[1]
    explained = explained_variance(scalars, scalars.flatten(1)).unflatten(0, (units, -1))
    explained[range(units), :, range(units)] = 0
    return explained.amax(dim=2)


def nonlinear_dependence(scalars: Tensor) -> Tensor:
    """Scalars (n, units) -> for each pair the largest share of the variance of one, or of its square, that the other explains
    (units, units), 0 on the diagonal. For the cosine and sine of an angle it is 1, since each determines the other's square."""
    scalars = _standard(scalars)
    predictors = scalars[:, :, None]
    explained = torch.maximum(explained_variance(predictors, scalars), explained_variance(predictors, scalars.square()))
    return torch.maximum(explained, explained.T).fill_diagonal_(0)


def explained_variance(scalars: Tensor, numbers: Tensor, num_bins: int = NUM_BINS) -> Tensor:
    """Correlation ratio: the share of the variance of each of `numbers` (n, k) that each unit of scalars (n, units, 1 or 2)
    explains, (k, units); 0 where either is constant.

    A unit's scalars are cut into `num_bins` bins of equal counts (10 by 10 for two scalars and 100 bins); the prediction is the
    bin's mean. The share is adjusted for the number of bins, so that it is about 0 for unrelated numbers.
    """
    numbers = _standard(numbers)
    count, constant = len(numbers), numbers.square().mean(dim=0) < 0.5
    explained = torch.zeros(numbers.shape[1], scalars.shape[1])
    for unit in range(scalars.shape[1]):
        varying = [scalar for scalar in scalars[:, unit].T if scalar.std() > 0]
        place = torch.zeros(count, dtype=torch.int64)
        for scalar in varying:
            bins = round(num_bins ** (1 / len(varying)))
            place = place * bins + scalar.argsort().argsort() * bins // count
        if varying:
            sizes = place.bincount(minlength=num_bins).clamp(min=1)[:, None]
            means = torch.zeros(num_bins, numbers.shape[1]).index_add_(0, place, numbers) / sizes
            residual = (numbers - means[place]).square().sum(dim=0) / max(count - num_bins, 1)
            explained[:, unit] = (1 - residual).clamp(min=0).masked_fill(constant, 0)
    return explained


def _standard(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.std(dim=0, correction=0) + 1e-5)
