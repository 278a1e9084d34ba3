import pytest
import torch

from dyga import FeatureExtractor


def test_the_papers_shapes():
    extractor = FeatureExtractor().eval()
    images = torch.randn(2, 3, 64, 64)
    assert extractor.convolutions(images).flatten(1).shape == (2, 4096)
    assert extractor.scalars(images).shape == (2, 20)
    assert extractor(images).shape == (2, 20, 32)
    assert extractor(images).min() >= 0  # the paper's features end in a ReLU


def test_unit_mlps_equal_a_loop_over_units():
    torch.manual_seed(0)
    mlps = FeatureExtractor(units=3, dim=5, unit_hidden=(7, 6), final_relu=False).unit_mlps
    scalars = torch.randn(4, 3)
    for unit in range(3):
        hidden = scalars[:, unit : unit + 1]
        for layer in range(3):
            hidden = hidden @ mlps.weights[layer][unit] + mlps.biases[layer][unit]
            hidden = hidden.relu() if layer < 2 else hidden
        assert torch.allclose(mlps(scalars)[:, unit], hidden, atol=1e-5)


def test_a_unit_depends_on_its_own_scalar_alone():
    mlps = FeatureExtractor(units=3).unit_mlps
    scalars = torch.randn(1, 3, requires_grad=True)
    mlps(scalars)[0, 1].sum().backward()
    assert scalars.grad[0, 1] != 0
    assert scalars.grad[0, 0] == 0 and scalars.grad[0, 2] == 0


def test_normalised_scalars_have_zero_mean_and_unit_variance_in_training():
    torch.manual_seed(0)
    kernels, channels = ((8, 4), (4, 2), (4, 2)), (32, 64, 64)
    extractor = FeatureExtractor(kernels=kernels, channels=channels, normalise_scalars=True)
    scalars = extractor.scalars(torch.randn(64, 3, 64, 64))
    assert torch.allclose(scalars.mean(dim=0), torch.zeros(20), atol=1e-4)
    assert torch.allclose(scalars.std(dim=0), torch.ones(20), atol=0.05)


def test_levels_leave_a_unit_its_values_and_the_scalars_their_gradient():
    torch.manual_seed(0)
    extractor = FeatureExtractor(units=2, levels=3)
    scalars = torch.randn(500, 2, requires_grad=True)
    raw = extractor.unit_mlps(scalars)
    assert torch.equal(extractor.features(scalars), raw)  # before they are fitted
    extractor.levels.fit(scalars.detach().unsqueeze(-1))
    rounded = extractor.features(scalars)
    assert len(rounded[:, 0].detach().round(decimals=4).unique(dim=0)) == extractor.levels.counts[0] <= 3
    half = extractor.features(scalars, rounding=0.5).detach()
    assert (half != raw).any() and (half != rounded).any()
    assert torch.allclose(extractor.features(scalars, rounding=0.0), raw, atol=1e-6)
    rounded.sum().backward()
    assert (scalars.grad != 0).any()
    assert FeatureExtractor(units=2).levels is None


def test_two_scalars_a_unit_belong_to_it_alone():
    extractor = FeatureExtractor(units=3, unit_scalars=2, normalise_scalars=True).eval()
    assert extractor.scalars(torch.randn(2, 3, 64, 64)).shape == (2, 6)
    assert extractor(torch.randn(2, 3, 64, 64)).shape == (2, 3, 32)
    scalars = torch.randn(1, 6, requires_grad=True)
    extractor.features(scalars)[0, 1].sum().backward()
    assert scalars.grad[0].nonzero().flatten().tolist() == [2, 3]
    assert torch.equal(extractor.by_unit(scalars)[0, 1], scalars[0, 2:4])
    with pytest.raises(ValueError, match="unit_scalars is 3: valid are 1 and 2"):
        FeatureExtractor(unit_scalars=3)


def test_two_units_of_one_scalar_join_with_what_an_optimiser_keeps_of_them():
    torch.manual_seed(0)
    extractor = FeatureExtractor(units=3, unit_scalars=2, normalise_scalars=True)
    extractor.active[:, 1:] = 0
    optimiser = torch.optim.Adam(extractor.parameters())
    images = torch.randn(8, 3, 64, 64)
    extractor(images).square().sum().backward()
    optimiser.step()
    kept = optimiser.state[extractor.to_scalars[-1].bias]["exp_avg"].clone()
    before = extractor.eval().by_unit(extractor.scalars(images))
    extractor.join(2, 0, optimiser.state)
    after = extractor.by_unit(extractor.scalars(images))
    assert extractor.active.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert torch.equal(after[:, 2, 1], before[:, 0, 0]) and torch.equal(after[:, :, 0], before[:, :, 0] * torch.tensor([0, 1, 1]))
    first = extractor.unit_mlps.weights[0]
    assert torch.equal(first[2, 1], first[0, 0])
    assert optimiser.state[extractor.to_scalars[-1].bias]["exp_avg"][5] == kept[0]
    assert torch.equal(extractor(images)[0, 0], extractor(images)[1, 0])  # the unit that left is constant
