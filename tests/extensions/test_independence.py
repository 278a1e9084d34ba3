"""The independence penalties."""

import math

import pytest
import torch

from dyga.extensions.independence import Independence, independence_penalties


def test_independence_penalties_from_their_definitions():
    torch.manual_seed(0)
    scalars = torch.randn(100, 4)
    scalars[:, 1] = scalars[:, 0] * 2 + 1
    correlation = torch.corrcoef(scalars.T)
    expected = (correlation**2).sum() - 4
    decorrelation, kurtosis = independence_penalties(scalars)
    assert decorrelation == pytest.approx(float(expected) / 4, rel=1e-3)
    standard = (scalars - scalars.mean(dim=0)) / scalars.std(dim=0)
    assert kurtosis == pytest.approx(float((standard**4).mean()), rel=1e-3)


def test_two_scalars_a_unit_are_penalised_least_on_a_ring():
    angle = torch.rand(4_000, 2) * 2 * math.pi
    ring, other = torch.stack([angle.cos(), angle.sin()], dim=-1).unbind(dim=1)
    whole = independence_penalties(torch.cat([ring, other], dim=1), scalars_per_unit=2)
    torn = independence_penalties(torch.cat([ring, other], dim=1)[:, [0, 2, 1, 3]], scalars_per_unit=2)
    assert whole[0] == pytest.approx(float(torn[0]), abs=1e-4) and whole[0] < 0.01
    assert whole[1] == pytest.approx(1, abs=0.02) and torn[1] == pytest.approx(1.25, abs=0.02)


def test_pruned_scalars_have_no_penalties():
    torch.manual_seed(0)
    scalars = torch.randn(100, 3) @ torch.randn(3, 3)
    nothing = torch.zeros(100, 1)
    alone = independence_penalties(scalars)
    padded = independence_penalties(
        torch.cat([scalars[:, :1], nothing, nothing, nothing, nothing, scalars[:, 1:2], scalars[:, 2:], nothing], dim=1),
        scalars_per_unit=2,
    )
    assert padded[0] == pytest.approx(float(alone[0]) * 3 / 4, rel=1e-4)  # over the number of all units, pruned ones too
    assert padded[1] == pytest.approx(float(alone[1]), rel=1e-4)


def test_unmixed_even_factors_have_less_kurtosis_than_any_rotation_of_them():
    factors = torch.cartesian_prod(torch.linspace(-1, 1, 30), torch.linspace(-1, 1, 30))
    at_rest = independence_penalties(factors)[1]
    assert at_rest == pytest.approx(1.8, abs=0.05)
    for angle in (0.2, 0.5, math.pi / 4):
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        decorrelation, kurtosis = independence_penalties(factors @ turn)
        assert decorrelation < 1e-4 and kurtosis > at_rest + 0.03


def test_the_extension_weighs_the_penalties():
    scalars = torch.randn(50, 6)
    decorrelation, kurtosis = independence_penalties(scalars)
    found = Independence(decorrelation=0.5, kurtosis=2.0).penalties(scalars)
    assert found == {"decorrelation": 0.5 * decorrelation, "kurtosis": 2.0 * kurtosis}
