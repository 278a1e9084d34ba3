"""Which units leave, and that a run without them is measured and saved as it is."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyga.config import make_config
from dyga.data import load_dataset
from dyga.diffusion import LatentUnitDiffusion, to_tensor
from dyga.evaluation import evaluate
from dyga.pruning import prune, redundancy, usefulness
from dyga.runs import load_run
from dyga.training import train

CONFIG = dataclasses.replace(make_config("smoke", variant="pruned"), min_units=3, checkpoint_every=20)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = LatentUnitDiffusion(CONFIG)
    # The last layers start at zero: without this no unit would matter.
    for parameter in model.denoiser.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.train()


@pytest.fixture
def batch(model):
    images = to_tensor(load_dataset("rooms3d").images[np.arange(0, 460_000, 30_000)])
    return images, torch.randn(len(images), *model.latent_shape)


def silence(model, units):
    """The units' features no longer depend on their scalars."""
    for weight in model.feature_extractor.unit_mlps.weights:
        weight.data[units] = 0


def rings(*angles):
    """Scalars (n, units, 2) on a ring each."""
    return torch.stack([torch.stack([a.cos(), a.sin()], dim=-1) for a in angles], dim=1)


def test_a_unit_that_says_nothing_is_useless_and_one_that_left_is_never_chosen(model, batch):
    silence(model, [1, 4])
    model.feature_extractor.active[6] = 0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rise, whole = usefulness(model, *batch)
    assert rise[[1, 4]].tolist() == [0, 0] and rise[6] == torch.inf and whole > 0
    assert (rise[[0, 2, 3, 5, 7]].abs() > 1e-6).all()
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_usefulness_is_the_rise_of_the_loss(model, batch):
    rise, whole = usefulness(model, *batch)
    model.feature_extractor.active[3] = 0
    assert usefulness(model, *batch)[1] == pytest.approx(whole + float(rise[3]), rel=1e-5)


@given(st.integers(0, 1_000), st.floats(0, 6.28))
def test_two_views_of_one_ring_are_redundant_and_two_rings_are_not(seed, turn):
    a, b = 2 * torch.pi * torch.rand(2, 2_000, generator=torch.Generator().manual_seed(seed))
    constant = torch.zeros(2_000, 1, 2)
    told = redundancy(torch.cat([rings(a, a + turn, 2 * a, b), constant], dim=1))
    assert told.shape == (5, 5)
    assert told[0, 1] > 0.95 and told[1, 0] > 0.95
    assert told[2, 0] > 0.95  # the double angle is a square of the single one ...
    assert told[0, 2] < 0.1  # ... which it does not tell back
    assert told[3].max() < 0.1 and told[:, 3].max() < 0.1
    assert told[:, 4].max() < 1e-3 and not told[4].any() and not told.diagonal().any()


def test_one_scalar_tells_its_square_but_not_the_reverse():
    s = torch.randn(2_000, 1, generator=torch.Generator().manual_seed(0))
    told = redundancy(torch.stack([s, s.square()], dim=1))
    assert told[1, 0] > 0.95 and told[0, 1] < 0.1


def test_useless_units_leave_two_at_a_time_until_the_fewest_are_left(model, batch):
    silence(model, range(8))
    independent = torch.randn(1_000, 8, 2)
    assert [prune(model, *batch, independent) for _ in range(4)] == [[0, 1], [2, 3], [4], []]
    assert model.feature_extractor.active.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_of_two_units_that_tell_the_same_the_less_useful_one_leaves(model, batch):
    model.config = dataclasses.replace(CONFIG, prune_loss=-1e9)
    angles = 6.28 * torch.rand(8, 1_000)
    angles[5] = angles[2] + 1
    rise, _ = usefulness(model, *batch)
    assert prune(model, *batch, rings(*angles)) == [min((2, 5), key=lambda unit: rise[unit])]
    assert prune(model, *batch, rings(*angles)) == []


def test_a_run_ends_with_fewer_units_which_are_all_that_is_measured(tmp_path):
    list(train(CONFIG, tmp_path / "pruned-seed0"))
    run = load_run(tmp_path / "pruned-seed0")
    active = run.model.feature_extractor.active.numpy() > 0
    assert 3 <= active.sum() < 8
    result = evaluate(run)
    assert not run.projection["codes"][:, ~active].any() and run.projection["codes"][:, active].std(axis=0).all()
    assert not np.array(result["nmi"])[~active].any() and np.isfinite(result["dci_disentanglement"])
    assert {unit.index for unit in run.active_units} <= {*np.flatnonzero(active)}
    images = run.data.images[:2]
    features = run.encode(images)
    assert np.allclose(features[0, ~active], features[1, ~active], atol=1e-6)


def test_an_interrupted_run_prunes_the_same_units(tmp_path):
    list(train(CONFIG, tmp_path / "whole"))
    loop = train(CONFIG, tmp_path / "cut")
    for record in loop:
        if record["step"] == 30:
            break
    loop.close()
    list(train(CONFIG, tmp_path / "cut"))
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
