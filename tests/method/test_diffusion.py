"""The diffusion model's loss and sampling, with denoisers whose answer is known."""

import pytest
import torch
from torch import nn

from dyga.method import FeatureExtractor, LatentUnitDiffusion
from dyga.method.diffusion import to_images, to_tensor

SHAPE = (2, 4, 4)


class Oracle(nn.Module):
    """Predicts the noise ("epsilon"), the velocity ("v_prediction") or zeros ("zeros") of known latents; notes the times."""

    def __init__(self, latents: torch.Tensor, answer: str):
        super().__init__()
        self.latents, self.answer, self.times = latents, answer, []

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        self.times.append(time)
        kept = self.schedule.alphas_cumprod[time].reshape(-1, 1, 1, 1)
        noise = (noisy - kept.sqrt() * self.latents) / (1 - kept).sqrt()
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * self.latents
        return {"epsilon": noise, "v_prediction": velocity, "zeros": torch.zeros_like(noisy)}[self.answer]


def model_of(latents: torch.Tensor, answer: str, **options) -> LatentUnitDiffusion:
    extractor = FeatureExtractor(units=3, dim=8)
    model = LatentUnitDiffusion(feature_extractor=extractor, denoiser=Oracle(latents, answer), latent_shape=SHAPE, **options)
    model.denoiser.schedule = model.schedule
    return model


@pytest.fixture
def latents():
    return torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))


def loss_of(model: LatentUnitDiffusion, latents: torch.Tensor, seed: int = 1) -> float:
    return float(model.denoising_loss(torch.zeros(len(latents), 3, 8), latents, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("distance", ["l1", "mse"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_right_prediction_has_no_loss_and_another_has_one(latents, prediction, distance):
    options = {"prediction": prediction, "loss": distance}
    assert loss_of(model_of(latents, prediction, **options), latents) < 1e-3
    other = {"epsilon": "v_prediction", "v_prediction": "epsilon"}[prediction]
    assert loss_of(model_of(latents, other, **options), latents) > 0.2


def test_the_loss_of_zeros_is_the_size_of_the_noise():
    """Mean of |x| and of x^2 for a standard normal x."""
    latents = torch.zeros(4_000, *SHAPE)
    assert loss_of(model_of(latents, "zeros", loss="l1"), latents) == pytest.approx((2 / torch.pi) ** 0.5, abs=0.01)
    assert loss_of(model_of(latents, "zeros", loss="mse"), latents) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("exponent", [0.5, 1, 2])
def test_times_are_those_of_the_exponent(exponent):
    """The mean of u^x for a uniform u is 1 / (1 + x)."""
    latents = torch.zeros(20_000, *SHAPE)
    model = model_of(latents, "zeros", time_exponent=exponent)
    loss_of(model, latents)
    (times,) = model.denoiser.times
    assert times.min() >= 0 and times.max() <= 999
    assert times.float().mean() == pytest.approx(1_000 / (1 + exponent), abs=12)


@pytest.mark.parametrize("steps", [1, 8, 50])  # those that divide 1,000; for others the last step of diffusers keeps some noise
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sampling_with_the_right_prediction_recovers_the_latents(latents, prediction, steps):
    model = model_of(latents, prediction, prediction=prediction)
    found = model.sample(torch.zeros(64, 3, 8), steps)
    torch.testing.assert_close(found, latents, rtol=0.02, atol=0.02)
    assert len(model.denoiser.times) == steps


def test_rows_start_from_the_same_noise_or_from_their_own():
    latents = torch.zeros(4, *SHAPE)
    model, features = model_of(latents, "zeros"), torch.zeros(4, 3, 8)
    same, own = model.sample(features, 2, seed=3), model.sample(features, 2, seed=3, same_noise=False)
    assert torch.equal(same[0], same[3]) and not torch.allclose(own[0], own[3])
    assert torch.equal(same, model.sample(features, 2, seed=3)) and not torch.allclose(same, model.sample(features, 2, seed=4))
    assert not model.sample(features, 2, temperature=0).any()


def test_without_anchoring_features_stay_as_they_are():
    features = torch.randn(200, 3, 8, generator=torch.Generator().manual_seed(0))
    for strength in (0.0, 0.1):
        model = model_of(torch.zeros(1, *SHAPE), "zeros", anchoring=strength)
        assert torch.equal(model.align(features), features)  # before the first fit
        model.anchors.fit(features)
        assert torch.equal(model.align(features), features) == (strength == 0)


def test_all_grey_levels_survive_the_way_to_a_tensor_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3).numpy()
    tensor = to_tensor(levels)
    assert tensor.shape == (1, 3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert (to_images(tensor) == levels).all()
