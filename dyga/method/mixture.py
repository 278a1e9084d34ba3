"""HDDC: Gaussian mixtures in which each Gaussian has its own subspace, fitted for all latent units at once.

High-dimensional data clustering (Bouveyron, Girard & Schmid 2007), model [a_kj b_k Q_k d_k]: Gaussian k has variances a_kj
along its d_k axes Q_k, and one noise variance b_k in all other directions. A log density needs projections only; no matrix is
inverted. Shapes: U units, N rows, K anchors, D coordinates, at most P subspace axes. Everything is float64.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

# Log density of an unused anchor. It is finite, since infinities become NaN in a matrix product.
DEAD = -1e30
# Number of neighbouring rows that are summed together.
BLOCK = 64
# Rows per pass over many features, so that memory stays bounded.
CHUNK = 4096


@dataclass(frozen=True)
class Mixture:
    """One mixture per unit: `weights` (U, K), `means` (U, K, D), `axes` (U, K, D, P), `variances` (U, K, P)
    along them, `noise` (U, K) in all other directions, `intrinsic_dims` (U, K) axes in use (the intrinsic dimension
    d_k) and `mask` (U, K), the anchors in use. `ambient` is the dimension of the features; it exceeds D if directions without
    variance were dropped.
    """

    weights: Tensor
    means: Tensor
    axes: Tensor
    variances: Tensor
    noise: Tensor
    intrinsic_dims: Tensor
    mask: Tensor
    ambient: int

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "ambient"}

    def take(self, units: Tensor) -> "Mixture":
        """The mixtures of some units (indices or a mask)."""
        return replace(self, **{name: value[units] for name, value in self.tensors().items()})

    def put(self, units: Tensor, other: "Mixture") -> "Mixture":
        """This mixture with `other` in place of some units (indices or a mask)."""
        tensors = self.tensors()
        return replace(self, **{name: tensors[name].index_put((units,), new) for name, new in other.tensors().items()})

    def resized(self, slots: int) -> "Mixture":
        """With `slots` slots per unit: adds empty ones, or removes the last ones."""
        chosen = {}
        for name, value in self.tensors().items():
            kept = value[:, :slots]
            # Noise and variances of an empty slot are 1, so that their logarithm is 0.
            fill = 1 if name in ("noise", "variances", "intrinsic_dims") else 0
            added = value.new_full((len(value), slots - kept.shape[1], *value.shape[2:]), fill)
            chosen[name] = torch.cat([kept, added], dim=1)
        return replace(self, **chosen)

    def reordered(self, order: Tensor) -> "Mixture":
        """With each unit's slots in another `order` (U, K)."""
        unit = torch.arange(len(order), device=order.device)[:, None]
        return replace(self, **{name: value[unit, order] for name, value in self.tensors().items()})

    def trimmed(self) -> "Mixture":
        """Without the slots that no unit uses at the end."""
        used = self.mask.any(0).nonzero()
        return self.resized(int(used[-1]) + 1 if len(used) else 1)

    def of_unit(self, unit: int) -> tuple[Tensor, Tensor]:
        """Means (k, D) and covariances (k, D, D) of one unit's anchors in use."""
        mask = self.mask[unit]
        means, noise = self.means[unit][mask], self.noise[unit][mask][:, None]
        used = torch.arange(self.axes.shape[-1], device=noise.device) < self.intrinsic_dims[unit][mask][:, None]
        extra = torch.where(used, self.variances[unit][mask] - noise, 0.0)
        axes = self.axes[unit][mask]
        identity = torch.eye(means.shape[1], dtype=noise.dtype, device=noise.device)
        return means, (axes * extra[:, None]) @ axes.mT + noise[..., None] * identity

    def parameter_counts(self) -> Tensor:
        """Free parameters per anchor (U, K) without its weight: mean, axes, variances, noise (HDDC, table 1)."""
        dims = self.intrinsic_dims.double()
        count = self.ambient + dims * (self.ambient - (dims + 1) / 2) + dims + (dims < self.ambient)
        return count * self.mask

    def free_parameters(self) -> Tensor:
        """Free parameters of each unit's mixture (U,), for BIC: those of its anchors, and their weights, which sum to 1."""
        return self.parameter_counts().sum(-1) + self.mask.sum(-1) - 1


@dataclass(frozen=True)
class Rows:
    """Points to fit: for each point x the `linear` terms 1, |x|^2, x (U, N, 2 + D) and the `quadratic` terms
    x_i x_j (U, N, D(D+1)/2), so that log densities and moments of all anchors are matrix products.
    """

    linear: Tensor
    quadratic: Tensor

    @classmethod
    def of(cls, points: Tensor) -> "Rows":
        """From points (U, N, D)."""
        # Row by row of the upper triangle, which needs no gathering.
        products = [points[..., i : i + 1] * points[..., i:] for i in range(points.shape[-1])]
        return cls(linear_terms(points), torch.cat(products, dim=-1))

    @property
    def count(self) -> int:
        """N."""
        return self.linear.shape[1]

    @property
    def points(self) -> Tensor:
        """x: (U, N, D)."""
        return self.linear[..., 2:]

    def take(self, units: Tensor) -> "Rows":
        """The rows of some units (indices)."""
        return Rows(self.linear[units], self.quadratic[units])

    def moments(self, responsibilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Totals (U, K), means (U, K, D) and covariances (U, K, D, D) under responsibilities (U, N, K)."""
        weights = responsibilities.mT
        sums = weights @ self.linear
        total = sums[..., 0]
        share = 1 / total.clamp_min(torch.finfo(sums.dtype).tiny)[..., None]
        means = sums[..., 2:] * share
        dim = means.shape[-1]
        upper = torch.triu_indices(dim, dim, device=sums.device)
        place = torch.empty(dim, dim, dtype=torch.long, device=sums.device)
        place[upper[0], upper[1]] = torch.arange(upper.shape[1], device=sums.device)
        place[upper[1], upper[0]] = place[upper[0], upper[1]]
        second = (self._second(responsibilities) * share)[..., place.flatten()].unflatten(-1, (dim, dim))
        return total, means, second - means[..., :, None] * means[..., None, :]

    def _second(self, responsibilities: Tensor) -> Tensor:
        """Sums (U, K, D(D+1)/2) of the quadratic terms, the most expensive part of an M-step.

        Rows are sorted, so that a block of rows belongs to few anchors. Only those are summed.
        """
        if self.count % BLOCK:
            return responsibilities.mT @ self.quadratic
        blocks = responsibilities.unflatten(1, (-1, BLOCK))
        shared = blocks.amax(2) > 1e-14
        width = int(shared.sum(-1).amax())
        which = shared.int().argsort(dim=-1, descending=True, stable=True)[..., :width]
        parts = blocks.gather(3, which[:, :, None].expand(-1, -1, BLOCK, -1)).mT
        parts = parts @ self.quadratic.unflatten(1, (-1, BLOCK))
        place = torch.nn.functional.one_hot(which, shared.shape[-1]).to(parts.dtype)
        return place.flatten(1, 2).mT @ parts.flatten(1, 2)


def linear_terms(points: Tensor) -> Tensor:
    """The terms 1, |x|^2 and x of points (..., D): (..., 2 + D)."""
    square = points.square().sum(-1, keepdim=True)
    return torch.cat([torch.ones_like(square), square, points], dim=-1)


def log_joint(linear: Tensor, mixture: Mixture) -> Tensor:
    """Log of weight times density (U, N, K) of `linear` terms (U, N, 2 + D), as in HDDC's E-step.

    With y = x - mu_k it is const_k - |y|^2 / 2b + sum_j (1/b - 1/a_j)(q_j . y)^2 / 2: a linear function of the terms, plus the
    squares of P further ones.
    """
    means, axes, noise = mixture.means, mixture.axes, mixture.noise
    used = torch.arange(axes.shape[-1], device=axes.device) < mixture.intrinsic_dims[..., None]
    used = used & mixture.mask[..., None]
    log_det = (mixture.variances.log() * used).sum(-1) + (mixture.ambient - mixture.intrinsic_dims) * noise.log()
    const = mixture.weights.clamp_min(1e-300).log() - 0.5 * (mixture.ambient * math.log(2 * math.pi) + log_det)
    const = const - 0.5 * means.square().sum(-1) / noise
    const = torch.where(mixture.mask, const, DEAD)
    # Variances are never below the noise, so the root exists.
    root = ((1 / noise[..., None] - 1 / mixture.variances) * used / 2).clamp_min(0).sqrt()
    scaled = axes * root[..., None, :]
    offset = -(scaled * means[..., None]).sum(-2)
    first = torch.cat([const[..., None], -0.5 / noise[..., None], means / noise[..., None]], dim=-1)
    others = torch.cat([offset[..., None, :], torch.zeros_like(offset)[..., None, :], scaled], dim=-2)
    functions = torch.cat([first, *others.unbind(-1)], dim=1)
    result, *projections = (linear @ functions.mT).split(means.shape[1], dim=-1)
    for projection in projections:
        result = torch.addcmul(result, projection, projection)
    return result


def e_step(linear: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """E-step: responsibilities (U, N, K) and each row's log likelihood (U, N)."""
    joint = log_joint(linear, mixture)
    top = joint.amax(-1, keepdim=True)
    # Nothing below e^-80, since denormal numbers are slow.
    joint = joint.sub(top).clamp_min_(-80).exp_()
    total = joint.sum(-1, keepdim=True)
    return joint.div_(total), (top + total.log()).squeeze(-1)


def m_step(rows: Rows, responsibilities: Tensor, mixture: Mixture, *, scree: float, floor: float) -> Mixture:
    """M-step: weights, means and each Gaussian's subspace, from responsibilities (U, N, K).

    Subspace iteration improves the last axes; it needs products only and converges together with EM. As in HDDC, Cattell's
    scree test gives d_k: the last axis whose drop to the next variance is at least `scree` times the largest drop, where the
    mean of all further variances replaces the one after the P-th. No variance is below `floor`. An anchor without rows is
    removed.
    """
    total, means, covariance = rows.moments(responsibilities)
    mask = mixture.mask & (total > 1e-6)
    axes = mixture.axes
    for _ in range(2):
        axes = torch.linalg.qr(covariance @ (covariance @ axes)).Q
    values, turn = torch.linalg.eigh(axes.mT @ covariance @ axes)
    axes = axes @ turn.flip(-1)
    values = values.flip(-1).clamp_min(0)
    size = values.shape[-1]
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    rest = (trace - values.sum(-1)).clamp_min(0) / max(mixture.ambient - size, 1)
    drops = torch.cat([values, rest[..., None]], dim=-1)
    drops = drops[..., :-1] - drops[..., 1:]
    order = torch.arange(1, size + 1, device=values.device)
    large = drops >= scree * drops.amax(-1, keepdim=True)
    intrinsic_dims = (order * large).amax(-1).clamp_min(1)
    kept = (values * (order <= intrinsic_dims[..., None])).sum(-1)
    noise = ((trace - kept) / (mixture.ambient - intrinsic_dims).clamp_min(1)).clamp_min(floor)
    # If the subspace is the whole space, there is no noise direction; the smallest variance is used.
    noise = torch.where(intrinsic_dims < mixture.ambient, noise, values[..., -1].clamp_min(floor))
    return replace(
        mixture,
        weights=total / rows.count,
        means=means,
        axes=axes,
        variances=torch.maximum(values, noise[..., None]),
        noise=noise,
        intrinsic_dims=intrinsic_dims,
        mask=mask,
    )


def expectation_maximisation(
    rows: Rows, mixture: Mixture, iterations: int, *, tolerance: float = 1e-3, scree: float = 0.2, floor: float = 1e-6
) -> tuple[Mixture, Tensor]:
    """EM from `mixture`. Returns the mixture and its mean log likelihood per row (U,).

    Each unit stops when a step gains less than `tolerance`, and returns its best state: neither the change of d_k nor the
    subspace step is strictly monotone.
    """
    best, current = mixture, mixture
    best_value = torch.full_like(mixture.weights[:, 0], -torch.inf)
    previous = best_value
    moving = torch.ones_like(best_value, dtype=torch.bool)
    for step in range(iterations + 1):
        responsibilities, likelihood = e_step(rows.linear, current)
        value = likelihood.mean(-1)
        better = value > best_value
        best, best_value = best.put(better, current.take(better)), torch.where(better, value, best_value)
        moving = moving & (value - previous >= tolerance)
        previous = value
        units = moving.nonzero().squeeze(1)
        if step == iterations or not len(units):
            break
        if 2 * len(units) <= len(moving):
            # Few units are still improving: continue with those only.
            part, part_value = expectation_maximisation(
                rows.take(units), current.take(units), iterations - step, tolerance=tolerance, scree=scree, floor=floor
            )
            gained = part_value > best_value[units]
            best = best.put(units[gained], part.take(gained))
            return best, best_value.index_copy(0, units, torch.maximum(part_value, best_value[units]))
        improved = m_step(rows, responsibilities, current, scree=scree, floor=floor)
        current = current.put(moving, improved.take(moving))
    return best, best_value
