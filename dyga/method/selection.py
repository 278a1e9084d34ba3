"""Anchor selection of Dynamic Gaussian Anchoring (paper, Figure 2(b)): initialise, HDDC, split, filter.

Every stage processes all latent units at once; each unit has its own number of anchors.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dyga.method.coreset import FLOOR, Frame
from dyga.method.mixture import CHUNK, Mixture, Rows, e_step, expectation_maximisation, log_joint, m_step

SCREE = 0.2
OPTIONS = {"tolerance": 5e-3, "scree": SCREE, "floor": FLOOR}


@dataclass(frozen=True)
class HeldOut:
    """Rows, as `linear` terms (U, N, 2 + D), on which BIC is computed for all `count` rows. If there are enough rows, none of
    them is used by the fit: a Gaussian over a few rows has an unlimited likelihood there."""

    linear: Tensor
    count: int

    @property
    def scale(self) -> float:
        """Rows that each of the N rows stands for."""
        return self.count / self.linear.shape[1]

    def take(self, units: Tensor) -> "HeldOut":
        """The rows of some units (indices)."""
        return HeldOut(self.linear[units], self.count)

    def criterion(self, mixture: Mixture) -> Tensor:
        """BIC per unit (U,), lower is better."""
        likelihood = sum(e_step(chunk, mixture)[1].sum(-1) for chunk in self.linear.split(CHUNK, dim=1))
        return mixture.free_parameters() * math.log(self.count) - 2 * self.scale * likelihood


@dataclass(frozen=True)
class Selection:
    """The mixture after each stage, in the space of the features; `filtered` is the result."""

    initialised: Mixture
    fitted: Mixture
    split: Mixture
    filtered: Mixture


def initialise(points: Tensor, start: int, axes_count: int, ambient: int, generator: torch.Generator) -> Mixture:
    """Stage (i): `start` spherical Gaussians of equal weight and variance at k-means++ centres of points (U, N, D).

    Greedy k-means++ (Arthur & Vassilvitskii 2007) draws four candidates and takes the one that reduces the distances most.
    Units with fewer distinct points get fewer anchors.
    """
    units, count, dim = points.shape
    device, dtype = points.device, points.dtype
    index = torch.arange(units, device=device)
    nearest = torch.full((units, count), torch.inf, device=device, dtype=dtype)
    potential = torch.ones_like(nearest)
    means = torch.zeros(units, start, dim, device=device, dtype=dtype)
    mask = torch.zeros(units, start, dtype=torch.bool, device=device)
    for slot in range(start):
        # Drawn on the CPU, so that the result does not depend on the device.
        draws = torch.rand(units, 4, generator=generator, dtype=dtype).to(device)
        cumulative = potential.cumsum(1)
        rows = torch.searchsorted(cumulative, draws * cumulative[:, -1:]).clamp_max(count - 1)
        candidates = points[index[:, None], rows]
        squares = torch.cdist(candidates, points, compute_mode="donot_use_mm_for_euclid_dist").square()
        lowered = torch.minimum(squares, nearest[:, None])
        best = lowered.sum(-1).argmin(1)
        means[:, slot] = candidates[index, best]
        # A point that is already a centre gives no second anchor.
        mask[:, slot] = nearest[index, rows[index, best]] > FLOOR
        nearest = lowered[index, best]
        potential = nearest
    variance = (nearest.mean(1) / ambient).clamp_min(FLOOR)[:, None]
    # Random axes to start the subspace iteration.
    axes = torch.linalg.qr(torch.randn(dim, axes_count, generator=generator, dtype=dtype)).Q.to(device)
    return Mixture(
        weights=mask.to(dtype) / mask.sum(1, keepdim=True),
        means=means,
        axes=axes.expand(units, start, dim, axes_count).contiguous(),
        variances=variance[..., None].expand(units, start, axes_count).contiguous(),
        noise=variance.expand(units, start).contiguous(),
        intrinsic_dims=torch.ones(units, start, dtype=torch.long, device=device),
        mask=mask,
        ambient=ambient,
    )


def resume(rows: Rows, last: Mixture, frame: Frame) -> Mixture:
    """Stage (i) of a refit: each of the last anchors is estimated from the rows nearest to its mean, and keeps its slot.

    Distance is used instead of density: features move between refits, and a narrow Gaussian has no density at rows that moved
    away.
    """
    means = frame.transform(last.means)
    distance = torch.cdist(rows.points, means).masked_fill(~last.mask[:, None], torch.inf)
    nearest = torch.nn.functional.one_hot(distance.argmin(-1), means.shape[1]).double()
    moved = replace(last, means=means, axes=torch.linalg.qr(frame.basis.mT[:, None] @ last.axes).Q)
    return m_step(rows, nearest, moved, scree=SCREE, floor=FLOOR)


def split_widest(mixture: Mixture, refused: Tensor) -> tuple[Mixture, Tensor, Tensor, Tensor]:
    """Splits every anchor that is not `refused` (U, K), the widest first, while there are free slots.

    Two Gaussians replace one. Together they have its mean and covariance, and they lie at the means of its two halves along the
    first axis: +-sqrt(2/pi) standard deviations. Returns the mixture, and of each split the unit, the parent's slot (one half
    keeps it) and the new slot.
    """
    open_ = mixture.mask & ~refused
    spread = torch.where(open_, mixture.weights * mixture.variances[..., 0], -1.0)
    parents = spread.argsort(dim=1, descending=True, stable=True)
    free = mixture.mask.int().argsort(dim=1, stable=True)
    room = torch.minimum(open_.sum(1), (~mixture.mask).sum(1))
    unit, place = (torch.arange(free.shape[1], device=free.device) < room[:, None]).nonzero(as_tuple=True)
    parent, child = parents[unit, place], free[unit, place]
    new = {name: value.clone() for name, value in mixture.tensors().items()}
    variance, axis = mixture.variances[unit, parent, 0], mixture.axes[unit, parent, :, 0]
    # A smaller distance if a half would be narrower than the noise around it.
    square = torch.minimum(2 / math.pi * variance, variance - mixture.noise[unit, parent])
    step = square.sqrt()[:, None] * axis
    new["weights"][unit, parent] = mixture.weights[unit, parent] / 2
    new["variances"][unit, parent, 0] = variance - square
    for value in new.values():
        value[unit, child] = value[unit, parent]
    new["means"][unit, parent] = mixture.means[unit, parent] - step
    new["means"][unit, child] = mixture.means[unit, parent] + step
    return replace(mixture, **new), unit, parent, child


def split(rows: Rows, held_out: HeldOut, mixture: Mixture, slots: int, rounds: int, trial: int) -> Mixture:
    """Stage (iii): splits wide Gaussians and keeps the splits that improve BIC, up to `slots` per unit.

    Each round splits all anchors of a unit that were not refused, runs `trial` EM steps, and compares each pair with one
    Gaussian over the pair's rows. A pair is merged again and refused if it gains less than the BIC penalty of its parameters.
    EM then continues. A unit whose BIC did not improve returns to its state before the round.
    """
    score = held_out.criterion(mixture)
    mixture = mixture.resized(slots)
    refused = torch.zeros_like(mixture.mask)
    for _ in range(rounds):
        # Only units with an anchor to split and with an eighth of the slots free.
        free = (~mixture.mask).sum(1)
        possible = (mixture.mask & ~refused).any(1) & (free > 0) & (8 * free >= slots)
        units = possible.nonzero().squeeze(1)
        if not len(units):
            break
        own, own_held_out = rows if possible.all() else rows.take(units), held_out.take(units)
        halves, unit, parent, child = split_widest(mixture.take(units), refused[units])
        halves, _ = expectation_maximisation(own, halves.trimmed(), trial, **OPTIONS)
        grown, useless = join_useless(own, own_held_out, halves, unit, parent, child)
        grown, _ = expectation_maximisation(own, grown.trimmed(), trial, **OPTIONS)
        criterion = own_held_out.criterion(grown)
        better = criterion < score[units]
        # All splits of a unit that did not improve, and the useless ones of any unit.
        back = useless | ~better[unit]
        refused[units[unit[back]], parent[back]] = True
        mixture = mixture.put(units[better], grown.resized(slots).take(better))
        score[units[better]] = criterion[better]
    return mixture.trimmed()


def join_useless(
    rows: Rows, held_out: HeldOut, mixture: Mixture, unit: Tensor, first: Tensor, second: Tensor
) -> tuple[Mixture, Tensor]:
    """Compares pairs of anchors with one Gaussian over the pair's rows. `unit`, `first` and `second` (pairs,) are indices; a
    unit's pairs are disjoint.

    A pair is joined, in the slot of `first`, if two Gaussians gain less likelihood over the held-out rows than the BIC penalty
    of their additional parameters. Returns the mixture, and which pairs were joined (pairs,).
    """
    responsibilities, _ = e_step(rows.linear, mixture)
    responsibilities[unit, :, first] += responsibilities[unit, :, second]
    responsibilities[unit, :, second] = 0
    joined = m_step(rows, responsibilities, mixture, scree=SCREE, floor=FLOOR)
    gain = torch.zeros_like(unit, dtype=held_out.linear.dtype)
    for chunk in held_out.linear.split(CHUNK, dim=1):
        responsibilities, total = e_step(chunk, mixture)
        pair = responsibilities[unit, :, first] + responsibilities[unit, :, second]
        single = log_joint(chunk, joined)[unit, :, first] - total[unit]
        gain -= (1 - pair + single.clamp_max(80).exp()).clamp_min(1e-300).log().sum(1)
    before, after = joined.parameter_counts(), mixture.parameter_counts()
    extra = after[unit, first] + after[unit, second] - before[unit, first] + 1
    useless = 2 * held_out.scale * gain <= extra * math.log(held_out.count)
    new = {name: value.clone() for name, value in mixture.tensors().items()}
    for name, value in joined.tensors().items():
        for slot in (first[useless], second[useless]):
            new[name][unit[useless], slot] = value[unit[useless], slot]
    return replace(mixture, **new), useless


def merge(rows: Rows, held_out: HeldOut, mixture: Mixture, trial: int) -> Mixture:
    """The converse of `split`, before and after it: joins anchors with their nearest neighbour where BIC prefers one Gaussian.

    Each round tries disjoint pairs, nearest first, then runs `trial` EM steps. A pair that was kept apart is not tried again
    unless one of its anchors changes by a merge.
    """
    slots, device = mixture.mask.shape[1], mixture.mask.device
    apart = torch.eye(slots, dtype=torch.bool, device=device).expand(len(mixture.mask), -1, -1).clone()
    while True:
        unit, first, second = _nearest_pairs(mixture, apart)
        if not len(unit):
            return mixture
        units, index = unit.unique(return_inverse=True)
        part, joined = join_useless(rows.take(units), held_out.take(units), mixture.take(units), index, first, second)
        apart[unit, first, second] = apart[unit, second, first] = True
        if joined.any():
            part, _ = expectation_maximisation(rows.take(units), part, trial, **OPTIONS)
            itself = torch.arange(slots, device=device) == first[joined, None]
            apart[unit[joined], first[joined]] = apart[unit[joined], :, first[joined]] = itself
        mixture = mixture.put(units, part)


def _nearest_pairs(mixture: Mixture, apart: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Disjoint pairs of an anchor and the one whose mean is nearest, unless they are `apart` (U, K, K): unit, first, second."""
    used = mixture.mask[:, :, None] & mixture.mask[:, None]
    used.diagonal(dim1=1, dim2=2).fill_(False)
    distance, partner = torch.cdist(mixture.means, mixture.means).masked_fill(~used, torch.inf).min(dim=2)
    distance = distance.masked_fill(apart.gather(2, partner[..., None]).squeeze(-1), torch.inf)
    taken = torch.zeros_like(mixture.mask)
    found = []
    for anchor in distance.argsort(dim=1).T:
        unit = torch.arange(len(anchor), device=anchor.device)
        other = partner[unit, anchor]
        free = distance[unit, anchor].isfinite() & ~taken[unit, anchor] & ~taken[unit, other]
        unit, anchor, other = unit[free], anchor[free], other[free]
        taken[unit, anchor] = taken[unit, other] = True
        found.append((unit, anchor, other))
    unit, first, second = (torch.cat(parts) for parts in zip(*found, strict=True))
    return unit, first, second


def filter_small(rows: Rows, mixture: Mixture, least: float) -> Mixture:
    """Stage (iv): removes Gaussians with fewer than `least` members and renormalises the weights. Each unit keeps its largest."""
    responsibilities, _ = e_step(rows.linear, mixture)
    members = torch.nn.functional.one_hot(responsibilities.argmax(-1), mixture.mask.shape[1]).sum(1)
    kept = mixture.mask & ((members >= least) | (members == members.amax(1, keepdim=True)))
    weights = mixture.weights * kept
    return replace(mixture, weights=weights / weights.sum(1, keepdim=True), mask=kept)


def keep_slots(mixture: Mixture, last: Mixture) -> Tensor:
    """The order of slots (U, K) in which each anchor keeps the slot of the `last` anchor that it continues.

    An anchor continues another if each is the other's nearest, by their means. All other anchors get the remaining slots.
    """
    near = torch.cdist(mixture.means, last.means)
    near = near.masked_fill(~(mixture.mask[:, :, None] & last.mask[:, None]), torch.inf)
    to_last, to_new = near.argmin(2), near.argmin(1)
    slots = torch.arange(near.shape[1], device=near.device)
    goes_on = mixture.mask & (to_new.gather(1, to_last) == slots)
    unit, anchor = goes_on.nonzero(as_tuple=True)
    slot = to_last[unit, anchor]
    taken = torch.zeros_like(goes_on)
    taken[unit, slot] = True
    free, rest = taken.int().argsort(dim=1, stable=True), goes_on.int().argsort(dim=1, stable=True)
    order = torch.empty_like(free).scatter_(1, free, rest)
    order[unit, slot] = anchor
    return order
