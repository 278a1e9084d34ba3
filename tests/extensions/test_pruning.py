"""Which scalars are pruned, and that a run without them is measured and saved as it is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyga.config import make_config
from dyga.data import load_dataset
from dyga.extensions import build_model
from dyga.extensions.build import configured
from dyga.extensions.pruning import choose, explained_variance, leave_one_out, merge, nonlinear_dependence, redundancy
from dyga.method import FeatureExtractor
from dyga.method.diffusion import to_tensor

CONFIG = make_config("smoke", variant="pruned")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_model(CONFIG)
    model.extensions[0].active.fill_(1)
    # The last layers start at zero: without this no unit would matter.
    for parameter in model.denoiser.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.train()


@pytest.fixture
def batch(model):
    images = to_tensor(load_dataset("rooms3d").images[np.arange(0, 460_000, 30_000)])
    return images, torch.randn(len(images), *model.latent_shape)


def rings(*angles):
    """Scalars (n, units, 2) on a ring each."""
    return torch.stack([torch.stack([a.cos(), a.sin()], dim=-1) for a in angles], dim=1)


@pytest.mark.parametrize(
    ("dataset", "changes", "least"),
    [
        ("rooms3d", "", 12),
        ("cars3d", "", 12),
        ("arm3d", "", 20),
        ("faces2d", "", 20),
        ("folder:x", "", 20),
        ("faces2d", "units=16", 10),
        ("rooms3d", "units=20", 12),
        ("faces2d", "min_scalars=9", 9),
    ],
)
def test_how_many_scalars_stay_follows_from_the_data(dataset, changes, least):
    (pruning, _) = configured(make_config("quick", dataset, "pruned", changes=changes))
    assert pruning.thresholds["min_scalars"] == least


def test_a_scalar_without_effect_raises_the_loss_by_nothing_and_a_pruned_one_is_not_measured(model, batch):
    first = model.feature_extractor.unit_mlps.weights[0].data
    first[[1, 4]] = first[5, 1] = 0
    model.extensions[0].active[6, 0] = 0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    increase, base_loss, scalars = leave_one_out(model, model.extensions[0].active, [batch, batch])
    assert increase[[1, 4]].tolist() == [[0, 0], [0, 0]] and increase[5, 1] == 0 and increase[6, 0] == torch.inf and base_loss > 0
    assert (increase[[0, 2, 3, 7]].abs() > 1e-7).all() and increase[5, 0] and increase[6, 1]
    assert scalars.shape == (32, 8, 2) and torch.equal(scalars[:16], scalars[16:]) and not scalars[:, 6, 0].any()
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_increase_is_that_of_the_loss_without_the_scalar(model, batch):
    increase, base_loss, _ = leave_one_out(model, model.extensions[0].active, [batch])
    model.extensions[0].active[3, 1] = 0
    assert leave_one_out(model, model.extensions[0].active, [batch])[1] == pytest.approx(
        base_loss + float(increase[3, 1]), rel=1e-5
    )


@given(st.integers(0, 1_000), st.floats(0.1, 1.4))
def test_a_ring_explains_functions_of_its_angle_and_nothing_of_another_ring(seed, turn):
    a, b = 2 * torch.pi * torch.rand(2, 4_000, generator=torch.Generator().manual_seed(seed))
    constant = torch.zeros(4_000, 1, 2)
    explained = explained_variance(
        torch.cat([rings(a, b), constant], dim=1), torch.stack([(a + turn).cos(), (3 * a).sin(), b.cos(), 0 * a], dim=1)
    )
    assert explained.shape == (4, 3)
    assert explained[:2, 0].min() > 0.9 and explained[2, 1] > 0.9
    assert explained[:2, 1].max() < 0.1 and explained[2, 0] < 0.1 and not explained[3].any() and not explained[:, 2].any()


@given(st.integers(0, 1_000))
def test_a_scalar_explains_its_square_but_not_the_reverse(seed):
    s = torch.randn(4_000, generator=torch.Generator().manual_seed(seed))
    explained = explained_variance(torch.stack([s, s.square()], dim=1)[:, :, None], torch.stack([s, s.square()], dim=1))
    assert explained[1, 0] > 0.9 and explained[0, 1] < 0.1
    redundant = redundancy(torch.stack([s, s.square()], dim=1)[:, :, None])
    assert redundant.shape == (2, 1) and redundant[1, 0] == explained[1, 0] and redundant[0, 0] == explained[0, 1]


def test_cosine_and_sine_depend_on_each_other_and_independent_numbers_do_not():
    a, b = 2 * torch.pi * torch.rand(2, 4_000, generator=torch.Generator().manual_seed(0))
    found = nonlinear_dependence(torch.stack([a.cos(), a.sin(), b], dim=1))
    assert found[0, 1] > 0.95 and found[:, 2].max() < 0.05
    assert torch.equal(found, found.T) and not found.diagonal().any()


def chosen(scalars, useless=(), pruned=(), **settings):
    """What `choose` returns for scalars (n, units, inputs), all of them useful but the `useless` ones."""
    increase = torch.rand(scalars.shape[1:], generator=torch.Generator().manual_seed(0)) + 1
    for scalar in (*useless, *pruned):
        increase[scalar] = 0 if scalar in useless else torch.inf
    thresholds = dict(loss_increase=0.01, explained=0.5, dependence=0.4, min_scalars=3) | settings
    return choose(increase, 0.5, scalars, **thresholds)


def test_useless_scalars_are_pruned_two_a_round_until_the_minimum():
    scalars = torch.randn(4_000, 4, 2)
    useless = [(0, 1), (2, 0), (3, 1)]
    assert chosen(scalars, useless).pruned == [(0, 1), (2, 0)]
    assert chosen(scalars, useless[2:], pruned=useless[:2]).pruned == [(3, 1)]
    assert chosen(scalars, useless, min_scalars=7).pruned == [(0, 1)]
    assert chosen(scalars, useless, loss_increase=0.0) == ([], [])


def test_of_two_units_with_the_same_information_one_is_pruned():
    angles = 6.28 * torch.rand(4, 4_000)
    angles[3] = angles[1] + 1
    assert sorted(chosen(rings(*angles)).pruned) in ([(1, 0), (1, 1)], [(3, 0), (3, 1)])
    assert chosen(rings(*angles), explained=1.0).pruned == []


def test_only_the_explained_scalar_of_a_unit_is_pruned():
    scalars = rings(*(6.28 * torch.rand(4, 4_000)))
    scalars[:, 2, 1] = scalars[:, 3].prod(dim=1)  # the double angle's sine
    assert chosen(scalars).pruned == [(2, 1)]


def test_two_units_of_one_factor_are_merged_and_independent_or_full_units_are_not():
    angles = 6.28 * torch.rand(5, 4_000)
    scalars = torch.zeros(4_000, 5, 2)
    scalars[:, :, 0] = angles.T
    scalars[:, 3, 0], scalars[:, 1, 0] = angles[1].cos(), angles[1].sin()
    choice = chosen(scalars)
    assert choice.pruned == [] and sorted(choice.merged[0]) == [1, 3] and len(choice.merged) == 1
    for useless in (1, 3):
        assert chosen(scalars, useless=[(useless, 0)]) == ([(useless, 0)], [])
    scalars[:, 3, 1] = angles[3]
    assert chosen(scalars) == ([], [])
    # The second scalar of unit 3 is useless but stays, since no fewer than six scalars may remain.
    assert chosen(scalars, useless=[(3, 1)], pruned=[(0, 1), (1, 1), (2, 1), (4, 1)], min_scalars=6) == ([], [])
    assert chosen(scalars[:, :, :1]).merged[0] and chosen(scalars[:, :, :1], dependence=1.0).merged == []


def test_a_run_ends_with_fewer_units_which_are_all_that_is_measured(run):
    scalars = run.model.extensions[0].active.numpy() > 0
    active = scalars.any(axis=1)
    assert 6 <= scalars.sum() < 16 and active.sum() < 8
    result = run.metrics
    assert not run.projection["codes"][:, ~active].any() and run.projection["codes"][:, active].std(axis=0).all()
    assert not np.array(result["nmi"])[~active].any() and np.isfinite(result["dci_disentanglement"])
    assert {unit.index for unit in run.active_units} <= {*np.flatnonzero(active)}
    images = run.data.images[:2]
    features = run.encode(images)
    assert np.allclose(features[0, ~active], features[1, ~active], atol=1e-6)


def test_merging_copies_the_scalar_and_the_optimisers_state():
    torch.manual_seed(0)
    extractor = FeatureExtractor(units=3, scalars_per_unit=2, normalise_scalars=True)
    optimiser = torch.optim.Adam(extractor.parameters())
    images = torch.randn(8, 3, 64, 64)
    extractor(images).square().sum().backward()
    optimiser.step()
    state = optimiser.state[extractor.to_scalars[-1].bias]["exp_avg"].clone()
    before = extractor.eval().scalars(images)
    merge(extractor, 2, 0, optimiser.state)
    after = extractor.scalars(images)
    assert torch.allclose(after[:, 5], before[:, 0]) and torch.equal(after[:, :5], before[:, :5])
    assert torch.equal(extractor.unit_mlps.weights[0][2, 1], extractor.unit_mlps.weights[0][0, 0])
    assert optimiser.state[extractor.to_scalars[-1].bias]["exp_avg"][5] == state[0]
