import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dyga.extensions.alignment import FORMS
from dyga.method.anchors import GaussianAnchors

BUDGET = {"bins": 128, "iterations": 10}


def clusters(n: int = 300, units: int = 3, dim: int = 6, count: int = 4, *, seed: int = 0) -> torch.Tensor:
    """(n, units, dim): `count` round clusters of unit variance, far apart, per unit."""
    generator = torch.Generator().manual_seed(seed)
    centres = 8 * torch.randn(units, count, dim, generator=generator)
    label = torch.randint(count, (n, units), generator=generator)
    return centres[torch.arange(units), label] + torch.randn(n, units, dim, generator=generator)


def fitted(features: torch.Tensor, **options) -> GaussianAnchors:
    anchors = GaussianAnchors(*features.shape[1:], max_anchors=8, start=4)
    return anchors.fit(features, **{**BUDGET, **options})


def test_before_the_first_fit_there_are_no_anchors_and_align_is_the_identity():
    anchors, features = GaussianAnchors(3, 6), clusters()
    assert not anchors.fitted
    assert anchors.counts.tolist() == [0, 0, 0]
    for form in FORMS.values():
        assert torch.equal(anchors.align(features, form=form), features)
    for method in (anchors.assign, anchors.log_likelihood, anchors.diagnose):
        with pytest.raises(ValueError, match="have not been fitted"):
            method(features)


def test_fit_finds_the_clusters_in_the_features_own_space():
    features = clusters(400, units=2) * 30 + 500
    anchors = fitted(features)
    assert anchors.fitted and anchors.counts.tolist() == [4, 4]
    assert anchors.means.shape == (2, 8, 6)
    slots = anchors.assign(features)
    assert slots.shape == (400, 2) and slots.dtype == torch.int64
    for unit in range(2):
        for slot in anchors.mask[unit].nonzero().flatten():
            members = features[slots[:, unit] == slot, unit]
            assert (members.mean(0) - anchors.means[unit, slot]).norm() < 30
            assert members.std(0).mean() < 60
    assert (anchors.means[~anchors.mask] == 0).all()


def test_log_likelihood_is_that_of_the_features_own_space():
    features = clusters(2000, units=1, count=1)
    anchors = fitted(features, bins=2000)
    per_feature = anchors.log_likelihood(features)
    assert per_feature.shape == (2000, 1)
    # Of a standard normal in 6 dimensions: -6/2 (log 2 pi + 1).
    assert per_feature.mean().item() == pytest.approx(-3 * (np.log(2 * np.pi) + 1), abs=0.15)
    scaled = fitted(features * 4, bins=2000).log_likelihood(features * 4)
    torch.testing.assert_close(scaled, per_feature - 6 * np.log(4), rtol=1e-4, atol=1e-3)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_start():
    features = torch.randn(300, 2, 5, generator=torch.Generator().manual_seed(1))
    first, second = fitted(features, seed=3), fitted(features, seed=3)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    starts = [GaussianAnchors(*features.shape[1:], 8).select(features, seed).initialised.means for seed in (3, 4)]
    assert not torch.equal(*starts)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fitted(clusters())
    assert torch.equal(torch.get_rng_state(), before)


def test_state_dict_round_trip():
    features = clusters()
    anchors = fitted(features)
    other = GaussianAnchors(3, 6, max_anchors=8, start=4)
    other.load_state_dict(copy.deepcopy(anchors.state_dict()))
    assert other.fitted and torch.equal(other.counts, anchors.counts)
    assert torch.equal(other.assign(features), anchors.assign(features))
    for form in FORMS.values():
        assert torch.equal(other.align(features, form=form), anchors.align(features, form=form))
    later = clusters() + 0.1
    assert torch.equal(other.fit(later, **BUDGET).means, anchors.fit(later, **BUDGET).means)


@pytest.mark.parametrize("sorted_by_scalar", [False, True])
def test_the_order_of_rows_does_not_matter(sorted_by_scalar):
    features = clusters(500)
    scalars = features[..., 0].clone()
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    one = fitted(features, scalars=scalars if sorted_by_scalar else None)
    two = fitted(features[order], scalars=scalars[order] if sorted_by_scalar else None)
    assert torch.equal(one.mask, two.mask)
    torch.testing.assert_close(one.means, two.means, rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(
    n=st.integers(2, 60),
    units=st.integers(1, 4),
    dim=st.integers(1, 7),
    slots=st.integers(1, 9),
    subspace=st.integers(1, 4),
    exponent=st.integers(-12, 12),
)
def test_any_shape_and_scale_gives_finite_anchors_in_the_features_range(n, units, dim, slots, subspace, exponent):
    generator = torch.Generator().manual_seed(n)
    features = torch.randn(n, units, dim, generator=generator) * 2.0**exponent
    anchors = GaussianAnchors(units, dim, slots, subspace=subspace).fit(features, **BUDGET)
    assert ((anchors.counts >= 1) & (anchors.counts <= slots)).all()
    assert anchors.weights.sum(1).sub(1).abs().max() < 1e-5
    means = anchors.means[anchors.mask]
    assert means.abs().max() <= features.abs().max() * 1.001
    for form in ("mean", "subspace"):
        assert anchors.align(features, form=FORMS[form]).isfinite().all()
    assert anchors.log_likelihood(features).isfinite().all()


@pytest.mark.parametrize("exponent", [-20, 10])
def test_a_change_of_scale_by_a_power_of_two_changes_nothing_else(exponent):
    features = clusters()
    one, two = fitted(features), fitted(features * 2.0**exponent)
    assert torch.equal(one.assign(features), two.assign(features * 2.0**exponent))
    torch.testing.assert_close(one.means * 2.0**exponent, two.means, rtol=1e-5, atol=0)


def degenerate() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(200, 1, 8, generator=generator)
    line = torch.linspace(0, 1, 200)[:, None, None] * torch.ones(8)
    return {
        "constant": torch.full((200, 1, 8), 3.7),
        "zero": torch.zeros(200, 1, 8),
        "two points": torch.where(torch.arange(200)[:, None, None] % 2 == 0, 1.0, -1.0).expand(200, 1, 8),
        "duplicates": normal[:5].repeat(40, 1, 1),
        "line": line,
        "near-singular": line + 1e-7 * normal,
        "sparse": (normal - 1.5).relu(),
        "far away": normal * 1e-3 + 1e3,
        "one outlier": torch.cat([normal[:199], torch.full((1, 1, 8), 1e6)]),
        "two rows": normal[:2],
        "huge": normal * 1e15,
        "tiny": normal * 1e-15,
    }


@pytest.mark.parametrize("name", degenerate())
@pytest.mark.parametrize("warm", [False, True])
def test_degenerate_units_are_finite(name, warm):
    unit = degenerate()[name]
    features = torch.cat([unit, torch.randn(len(unit), 1, 8, generator=torch.Generator().manual_seed(1))], 1)
    anchors = fitted(torch.randn(50, 2, 8, generator=torch.Generator().manual_seed(2))) if warm else None
    anchors = (anchors or GaussianAnchors(2, 8, max_anchors=8, start=4)).fit(features, **BUDGET)
    assert all(value.isfinite().all() for value in anchors.state_dict().values())
    assert (anchors.counts >= 1).all()
    assert anchors.align(features).isfinite().all()
    assert anchors.log_likelihood(features).isfinite().all()
    if name in ("constant", "zero"):
        assert anchors.counts[0] == 1
        torch.testing.assert_close(anchors.means[0, anchors.mask[0]][0], unit[0, 0])
    if name == "two points":
        assert anchors.counts[0] == 2


def test_an_anchor_keeps_its_slot_over_warm_refits():
    generator = torch.Generator().manual_seed(5)
    centres = 10 * torch.randn(2, 5, 6, generator=generator)
    label = torch.randint(5, (600, 2), generator=generator)
    anchors = GaussianAnchors(2, 6, max_anchors=8, start=5)
    slots = None
    for _ in range(4):
        centres = centres + 0.5 * torch.randn(2, 5, 6, generator=generator)
        noise = torch.randn(600, 2, 6, generator=generator)
        features = centres[torch.arange(2), label] + noise
        anchors.fit(features, **BUDGET)
        assert (anchors.counts == 5).all()
        now = anchors.assign(features)
        if slots is not None:
            assert (now == slots).double().mean() > 0.999
        slots = now


def test_fitted_anchors_stay_fitted_when_they_move_or_are_loaded():
    features = clusters()
    anchors = fitted(features)
    assert anchors._apply(torch.clone).fitted and torch.equal(anchors.assign(features), fitted(features).assign(features))
    copy = GaussianAnchors(anchors.units, anchors.dim, anchors.max_anchors)
    assert not copy.fitted
    copy.load_state_dict(anchors.state_dict(), assign=True)
    assert copy.fitted
    with torch.inference_mode():
        assert not GaussianAnchors(2, 6).fitted


def test_a_cold_fit_forgets_the_last_one():
    features = clusters()
    anchors = fitted(clusters(seed=9))
    anchors.fit(features, warm=False, **BUDGET)
    assert torch.equal(anchors.means, fitted(features).means)


def test_a_vanished_cluster_frees_its_slot_and_a_new_one_takes_a_slot():
    features = clusters(400, units=1, count=5, seed=7)
    anchors = GaussianAnchors(1, 6, max_anchors=8, start=5).fit(features, **BUDGET)
    slots = anchors.assign(features)[:, 0]
    gone = int(slots[0])
    rest = features[slots != gone]
    anchors.fit(rest, **BUDGET)
    assert anchors.counts.item() == 4 and not anchors.mask[0, gone]
    anchors.fit(features, **{**BUDGET, "iterations": 20})
    assert anchors.counts.item() == 5
    kept = slots != gone
    assert torch.equal(anchors.assign(features)[kept, 0], slots[kept])


def test_align_moves_features_strictly_between_themselves_and_the_mean():
    features = clusters()
    anchors = fitted(features)
    means = anchors.means[torch.arange(3), anchors.assign(features)]
    shifted = anchors.align(features, 0.1)
    before, after = (features - means).norm(dim=-1), (shifted - means).norm(dim=-1)
    assert (after < before).all() and (after > 0.89 * before).all()
    # On the line between the two.
    along = ((features - means) * (shifted - means)).sum(-1)
    torch.testing.assert_close(along, before * after, rtol=1e-4, atol=1e-4)
    expected = 1 - 0.1 * torch.exp(-before / features.norm(dim=-1))
    torch.testing.assert_close(after / before, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(anchors.align(features, 0.0), features)


def test_gradient_is_finite_at_zero_and_at_the_mean():
    anchors = fitted(clusters())
    slot = anchors.mask.int().argmax(1)
    at_mean = anchors.means[torch.arange(3), slot]
    leaf = torch.stack([torch.zeros_like(at_mean), at_mean]).requires_grad_()
    shifted = anchors.align(leaf)
    assert torch.equal(shifted[0], torch.zeros_like(at_mean))
    shifted.sum().backward()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_align_keeps_the_dtype(dtype):
    anchors = fitted(clusters())
    features = clusters().to(dtype)
    for form in FORMS.values():
        shifted = anchors.align(features, form=form)
        assert shifted.dtype == dtype and shifted.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_change_of_the_modules_dtype_keeps_the_anchors(dtype):
    features = clusters() * 1e-3
    anchors = fitted(features)
    changed = torch.nn.Sequential(copy.deepcopy(anchors)).to(dtype)[0]
    for name, value in anchors.state_dict().items():
        assert torch.equal(changed.state_dict()[name], value)
    assert torch.equal(changed.assign(features), anchors.assign(features))
    assert changed.double().means.dtype == torch.float64  # more bits are no loss


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_zeros_of_16_bits_have_finite_gradients(dtype):
    anchors = fitted(clusters())
    for means in (anchors.means, torch.zeros_like(anchors.means)):
        anchors.means.copy_(means)
        leaf = torch.zeros(2, 3, 6, dtype=dtype, requires_grad=True)
        shifted = anchors.align(leaf)
        shifted.float().sum().backward()
        assert torch.equal(shifted, torch.zeros_like(shifted)) and leaf.grad.isfinite().all()
    assert np.isfinite(anchors.diagnose(leaf).shift).all()


def test_anchors_that_are_written_in_place_count_as_fitted():
    source, target = fitted(clusters()), GaussianAnchors(3, 6, max_anchors=8, start=4)
    assert not target.fitted
    for own, buffer in zip(target.buffers(), source.buffers(), strict=True):
        own.copy_(buffer)  # as DistributedDataParallel does
    assert target.fitted and torch.equal(target.assign(clusters()), source.assign(clusters()))


def test_assign_and_align_do_not_depend_on_the_other_rows():
    features = clusters(5000)
    anchors = fitted(features)
    assert torch.equal(anchors.assign(features)[4090:4110], anchors.assign(features[4090:4110]))
    torch.testing.assert_close(anchors.align(features)[:7], anchors.align(features[:7]))


def test_diagnosis():
    features = clusters(400)
    anchors = fitted(features)
    diagnosis = anchors.diagnose(features, 0.2)
    moved = (anchors.align(features, 0.2) - features).norm(dim=-1) / features.norm(dim=-1)
    np.testing.assert_allclose(diagnosis.shift, moved, atol=1e-6)
    np.testing.assert_allclose(diagnosis.moved, (moved > 1e-3).double().mean(0))
    assert (diagnosis.weight > 0).all() and (diagnosis.weight <= 0.2).all()


def test_select_does_not_change_the_anchors():
    anchors = GaussianAnchors(3, 6, max_anchors=8, start=4)
    stages = anchors.select(clusters(), **BUDGET)
    assert not anchors.fitted
    anchors.fit(clusters(), **BUDGET)
    assert torch.equal(anchors.means, stages.filtered.means.float())
    assert anchors.mixture().free_parameters().tolist() == [
        counts.sum().item() + mask.sum().item() - 1
        for counts, mask in zip(stages.filtered.parameter_counts(), anchors.mask, strict=True)
    ]


BAD_ARGUMENTS = [
    (lambda a, x: a.fit(x.numpy()), "features must be a torch tensor, got ndarray: use torch.from_numpy"),
    (lambda a, x: a.fit(x[:, :2]), r"shape \(n, units, dim\) = \(n, 3, 6\), got \(300, 2, 6\)"),
    (lambda a, x: a.fit(x[0]), r"\(n, 3, 6\), got \(3, 6\)"),
    (lambda a, x: a.align(x[..., :5]), r"\(n, 3, 6\), got \(300, 3, 5\)"),
    (lambda a, x: a.assign(x[..., :5]), r"\(n, 3, 6\), got \(300, 3, 5\)"),
    (lambda a, x: a.fit(x[:1]), "at least 2 rows to fit, got 1"),
    (lambda a, x: a.fit(x, scalars=x[:, :2, 0]), r"scalars must have shape \(300, 3\), got \(300, 2\)"),
    (lambda a, x: a.fit(x, scalars=x[..., 0] / 0), "scalars of unit 0 hold NaN or infinite"),
    (lambda a, x: a.fit(x, iterations=0), "iterations must be at least 1, got 0"),
    (lambda a, x: a.fit(x, bins=1), "bins must be at least 2, got 1"),
    (lambda a, x: a.align(x, 1.5), "strength must be from 0 to 1, got 1.5"),
    (lambda a, x: GaussianAnchors(0, 6), "units must be at least 1, got 0"),
    (lambda a, x: GaussianAnchors(3, 6, max_anchors=0), "max_anchors must be at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(GaussianAnchors(3, 6), clusters())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_name_the_unit_and_leave_the_anchors_alone(value):
    anchors = fitted(clusters())
    before = copy.deepcopy(anchors.state_dict())
    features = clusters()
    features[17, 1, 2] = value
    with pytest.raises(ValueError, match="features of unit 1 hold NaN or infinite values"):
        anchors.fit(features)
    assert all(torch.equal(before[name], value) for name, value in anchors.state_dict().items())


def test_means_and_covariances_of_a_unit_are_those_of_its_clusters():
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([3.0, 0.1, 0.1, 0.1, 0.1])
    features = torch.randn(4_000, 1, 5, generator=generator) * spread
    anchors = GaussianAnchors(1, 5, max_anchors=1).fit(features, seed=0, bins=4_000)
    means, covariances = anchors.mixture().of_unit(0)
    assert means.shape == (1, 5) and covariances.shape == (1, 5, 5)
    assert torch.allclose(means[0].float(), features[:, 0].mean(0), atol=1e-3)
    assert torch.allclose(covariances[0].diagonal().float(), spread.square(), rtol=0.1)
