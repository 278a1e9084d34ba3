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


def test_two_scalars_per_unit_affect_that_unit_only():
    extractor = FeatureExtractor(units=3, scalars_per_unit=2, normalise_scalars=True).eval()
    assert extractor.scalars(torch.randn(2, 3, 64, 64)).shape == (2, 6)
    assert extractor(torch.randn(2, 3, 64, 64)).shape == (2, 3, 32)
    scalars = torch.randn(1, 6, requires_grad=True)
    extractor.features(scalars)[0, 1].sum().backward()
    assert scalars.grad[0].nonzero().flatten().tolist() == [2, 3]
    with pytest.raises(ValueError, match="scalars_per_unit is 3: valid are 1 and 2"):
        FeatureExtractor(scalars_per_unit=3)
