"""Dynamic Gaussian Anchoring (paper, section 3.2): anchors per latent unit, and the alignment of features to them."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dyga.method.coreset import Frame, coreset
from dyga.method.mixture import CHUNK, Mixture, Rows, expectation_maximisation, linear_terms, log_joint
from dyga.method.selection import OPTIONS, HeldOut, Selection, filter_small, initialise, keep_slots, merge, resume, split

LEAST_MEMBERS = 10  # features that an anchor represents at least

Alignment = Callable[["GaussianAnchors", Tensor, float], tuple[Tensor, Tensor]]


def align_to_means(anchors: "GaussianAnchors", features: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """The paper's alignment (section 3.2): features c (n, units, dim) -> aligned features c~ and weights lambda (n, units).
    The target is mu_k, the mean of the anchor that is most responsible for c."""
    return shift_toward(features, anchors.nearest_means(features), strength)


def shift_toward(features: Tensor, target: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """c~ = c + lambda (target - c) with lambda = strength * exp(-|target - c| / |c|), for features c and targets (n, units, dim);
    returns c~ and lambda (n, units)."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))  # 1e-12 is 0 in 16 bits
    shift = target - wide
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    distance = torch.linalg.vector_norm(shift, dim=-1, keepdim=True)
    weight = strength * torch.exp(-distance / norm.clamp_min(1e-12))
    return (wide + weight * shift).to(features.dtype), weight.squeeze(-1)


class Diagnosis(NamedTuple):
    """The effect of alignment on n features.

    `shift` (n, units): distance moved, divided by the feature's norm. `weight` (n, units): the mixing weight lambda. `moved`
    (units,): share of features with a shift above .001.
    """

    shift: np.ndarray
    weight: np.ndarray
    moved: np.ndarray


class GaussianAnchors(nn.Module):
    """A Gaussian mixture per latent unit. `fit` finds it; `align` moves features (n, units, dim) toward its means.

    All state is in buffers, in the space of the features, so checkpoints contain it. The slots (units, max_anchors) hold
    `weights`, `means`, `axes`, `variances`, `noise` and `intrinsic_dims` as in `Mixture`; `mask` says which slots are in use.
    Before the first fit none is, and `align` is the identity. A module that is changed to 16 bits keeps its anchors as they are:
    small variances would vanish.
    """

    def __init__(self, units: int, dim: int, max_anchors: int = 32, *, start: int = 8, subspace: int = 2) -> None:
        """A fit starts with `start` anchors per unit; a Gaussian's subspace has at most `subspace` dimensions. ValueError for a
        number below 1."""
        super().__init__()
        sizes = {"units": units, "dim": dim, "max_anchors": max_anchors, "start": start, "subspace": subspace}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.units, self.dim, self.max_anchors = units, dim, max_anchors
        self.start, self.subspace = min(start, max_anchors), min(subspace, dim)
        slots = (units, max_anchors)
        self.register_buffer("weights", torch.zeros(slots))
        self.register_buffer("means", torch.zeros(*slots, dim))
        self.register_buffer("axes", torch.zeros(*slots, dim, self.subspace))
        self.register_buffer("variances", torch.ones(*slots, self.subspace))
        self.register_buffer("noise", torch.ones(slots))
        self.register_buffer("intrinsic_dims", torch.ones(slots, dtype=torch.long))
        self.register_buffer("mask", torch.zeros(slots, dtype=torch.bool))
        self._read = (None, -1, False)  # the mask, its version, and whether it has anchors

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GaussianAnchors":
        def keep(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return tensor.to(changed.device) if changed.is_floating_point() and changed.itemsize < 4 else changed

        return super()._apply(keep, recurse)

    @property
    def counts(self) -> Tensor:
        """Anchors in use per unit: (units,) int64."""
        return self.mask.sum(1)

    @property
    def fitted(self) -> bool:
        """Whether there are anchors."""
        mask, version = self.mask, -1 if self.mask.is_inference() else self.mask._version
        if version < 0 or self._read[0] is not mask or self._read[1] != version:
            self._read = (mask, version, bool(mask.any()))  # kept, since reading the mask from a GPU makes every step wait
        return self._read[2]

    def mixture(self) -> Mixture:
        """The fitted mixtures in float64, in the features' own space; on the CPU if the anchors' device has no float64."""
        tiny, device = torch.finfo(torch.float32).tiny, _exact(self.means.device)
        return Mixture(
            weights=self.weights.to(device).double(),
            means=self.means.to(device).double(),
            axes=self.axes.to(device).double(),
            variances=self.variances.to(device).double().clamp_min(tiny),
            noise=self.noise.to(device).double().clamp_min(tiny),
            intrinsic_dims=self.intrinsic_dims.to(device),
            mask=self.mask.to(device),
            ambient=self.dim,
        )

    @torch.no_grad()
    def select(
        self,
        features: Tensor,
        seed: int = 0,
        *,
        scalars: Tensor | None = None,
        warm: bool = True,
        iterations: int = 40,
        bins: int = 2048,
    ) -> Selection:
        """The four stages of a fit (Figure 2(b)) on features (n, units, dim); the anchors stay as they are.

        Rows are sorted by `scalars` (n, units), from which the features were made, or without them by the features' first
        principal component. The fit uses `bins` rows, spread evenly over that order. With `warm` and after a first fit, it starts
        from the last one, and an anchor keeps its slot if its cluster persists. Otherwise it starts from k-means++ with `seed`.
        `iterations` limits the EM steps of a stage; a tenth of it limits the rounds of splits and the EM steps after each.
        ValueError for a wrong shape, fewer than two rows, values that are not finite, `iterations` below 1 or `bins` below 2.
        """
        self._check(features)
        if len(features) < 2:
            raise ValueError(f"features must have at least 2 rows to fit, got {len(features)}")
        _check_finite(features, "features")
        if scalars is not None:
            if scalars.shape != features.shape[:2]:
                raise ValueError(f"scalars must have shape {tuple(features.shape[:2])}, got {tuple(scalars.shape)}")
            _check_finite(scalars, "scalars")
        for name, value, least in (("iterations", iterations, 1), ("bins", bins, 2)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        device = _exact(self.means.device)
        points, others = coreset(features.to(device), None if scalars is None else scalars.to(device), bins)
        frame = Frame.of(points, least=self.subspace)
        rows, held_out = Rows.of(frame.transform(points)), HeldOut(linear_terms(frame.transform(others)), len(features))
        last = self.mixture() if warm and self.fitted else None
        if last is None:
            generator = torch.Generator().manual_seed(seed)
            initialised = initialise(rows.points, self.start, self.subspace, self.dim, generator)
        else:
            initialised = resume(rows, last.trimmed(), frame)
        rounds, trial = max(iterations // 10, 1), max(iterations // 10, 2)
        fitted, _ = expectation_maximisation(rows, initialised, iterations, **OPTIONS)
        divided = split(rows, held_out, merge(rows, held_out, fitted, trial), self.max_anchors, rounds, trial)
        divided, _ = expectation_maximisation(rows, merge(rows, held_out, divided, trial), iterations, **OPTIONS)
        # At least three rows: fewer span at most a line.
        least = max(LEAST_MEMBERS * rows.count / len(features), min(3, rows.count))
        stages = (initialised, fitted, divided, filter_small(rows, divided, least))
        stages = [frame.inverse_transform(stage).resized(self.max_anchors) for stage in stages]
        if last is not None:
            order = keep_slots(stages[-1], last)
            stages[2:] = [stage.reordered(order) for stage in stages[2:]]
        return Selection(*stages)

    @torch.no_grad()
    def fit(self, features: Tensor, seed: int = 0, **options) -> "GaussianAnchors":
        """Finds the anchors of features (n, units, dim) and returns itself; options and errors as in `select`.

        The same features, seed and state give the same bits.
        """
        result = self.select(features, seed, **options).filtered
        for name, value in result.tensors().items():
            getattr(self, name).copy_(value)
        return self

    def fit_on_cpu(self, features: Tensor, **options) -> None:
        """As `fit`, computed on the CPU, wherever features and anchors are: the fit is small, and equal for every process.
        `scalars` must be on the CPU."""
        anchors = self if self.means.device.type == "cpu" else copy.deepcopy(self).cpu()
        anchors.fit(features.cpu(), **options)
        if anchors is not self:
            self.load_state_dict(anchors.state_dict())

    @torch.no_grad()
    def assign(self, features: Tensor) -> Tensor:
        """Slot of the most responsible anchor for features (n, units, dim): (n, units) int64. ValueError before the first fit, or
        for a wrong shape."""
        self._check_fitted(features)
        return self._most_responsible(features)

    @torch.no_grad()
    def log_likelihood(self, features: Tensor) -> Tensor:
        """Log likelihood of features (n, units, dim) under each unit's mixture: (n, units) float64. ValueError as in `assign`."""
        self._check_fitted(features)
        return torch.cat([joint.logsumexp(-1).T for joint in self._log_joints(features)])

    def align(self, features: Tensor, strength: float = 0.1, form: Alignment = align_to_means) -> Tensor:
        """Features c (n, units, dim) -> aligned features c~, differentiable in c. Before the first fit they stay as they are.
        `form` computes the alignment; the default is the paper's. ValueError unless 0 <= strength <= 1, and for a wrong shape.
        """
        return self._align(features, strength, form)[0]

    @torch.no_grad()
    def diagnose(self, features: Tensor, strength: float = 0.1, form: Alignment = align_to_means) -> Diagnosis:
        """What `align` with the same arguments does to features (n, units, dim). ValueError as in `assign` and `align`."""
        self._check_fitted(features)
        shifted, weight = self._align(features, strength, form)
        norm = torch.linalg.vector_norm(features, dim=-1)
        shift = torch.linalg.vector_norm(shifted - features, dim=-1) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        arrays = (shift, weight.expand(shift.shape), (shift > 1e-3).float().mean(0))
        return Diagnosis(*(array.cpu().double().numpy() for array in arrays))

    def nearest_means(self, features: Tensor) -> Tensor:
        """Features (n, units, dim) -> the means of their most responsible anchors (n, units, dim). A unit without anchors keeps
        its features."""
        unit, slot = torch.arange(self.units, device=features.device), self._most_responsible(features)
        # No branch on values, which would make the CPU wait for the GPU.
        return torch.where(self.mask.any(1)[:, None], self.means[unit, slot].to(features.dtype), features)

    def _align(self, features: Tensor, strength: float, form: Alignment) -> tuple[Tensor, Tensor]:
        self._check(features)
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {strength}")
        return form(self, features, strength)

    def _log_joints(self, features: Tensor):
        """Log of weight times density, (units, rows, max_anchors), chunk of rows by chunk of rows."""
        mixture = self.mixture()
        for chunk in features.detach().split(CHUNK):
            yield log_joint(linear_terms(chunk.transpose(0, 1).to(mixture.means.device).double()), mixture)

    @torch.no_grad()
    def _most_responsible(self, features: Tensor) -> Tensor:
        return torch.cat([joint.argmax(-1).T for joint in self._log_joints(features)]).to(features.device)

    def _check(self, features: Tensor) -> None:
        if not isinstance(features, Tensor):
            raise ValueError(f"features must be a torch tensor, got {type(features).__name__}: use torch.from_numpy")
        if features.ndim != 3 or features.shape[1:] != (self.units, self.dim):
            raise ValueError(
                f"features must have shape (n, units, dim) = (n, {self.units}, {self.dim}), got {tuple(features.shape)}"
            )

    def _check_fitted(self, features: Tensor) -> None:
        self._check(features)
        if not self.fitted:
            raise ValueError("the anchors have not been fitted: call fit(features) first")


def _exact(device: torch.device) -> torch.device:
    """Where mixtures of a device are computed: on it, or on the CPU for Apple's MPS, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def _check_finite(values: Tensor, name: str) -> None:
    """Raise ValueError that names the first unit of `values` (n, units, ...) with a NaN or infinity."""
    # Unit by unit, so that the memory taken is that of one.
    finite = torch.stack([unit.isfinite().all() for unit in values.unbind(1)])
    if not finite.all():
        unit = int((~finite).nonzero()[0])
        raise ValueError(f"{name} of unit {unit} hold NaN or infinite values; all must be finite")
