import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dyga.config import make_config
from dyga.study.beta_tcvae import BetaTCVAE, total_correlation


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_the_decoder_mirrors_the_encoder(profile):
    config = make_config(profile)
    model = BetaTCVAE(5, config.extractor_kernels, config.extractor_channels)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, log_variance = model.encode(images)
    assert mean.shape == log_variance.shape == (2, 5)
    size = 64 // config.extractor_kernels[0][1]
    assert model.decoder(mean).shape == (2, 3, size, size)
    loss = model.loss(images, torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.parameters())


@settings(max_examples=10)
@given(st.integers(2, 6), st.integers(1, 4))
def test_total_correlation_matches_a_loop(batch, latents):
    generator = torch.Generator().manual_seed(batch * 10 + latents)
    sample, mean, log_variance = torch.randn(3, batch, latents, generator=generator)
    expected = 0.0
    for i in range(batch):
        normals = torch.distributions.Normal(mean, (log_variance / 2).exp())
        density = normals.log_prob(sample[i])  # (under row, latent)
        joint = density.sum(dim=1).exp().mean().log()
        marginals = density.exp().mean(dim=0).log().sum()
        expected += float(joint - marginals) / batch
    assert float(total_correlation(sample, mean, log_variance)) == pytest.approx(expected, abs=1e-4)


def test_latents_that_repeat_each_other_are_correlated_and_one_alone_is_not():
    mean = torch.linspace(-20, 20, 64)[:, None]
    narrow = torch.full((64, 1), -2.0)
    twice = total_correlation(mean.repeat(1, 2), mean.repeat(1, 2), narrow.repeat(1, 2))
    assert float(twice) == pytest.approx(math.log(64), abs=0.7)  # the second latent repeats the first one
    assert float(total_correlation(mean, mean, narrow)) == pytest.approx(0, abs=1e-5)


def test_beta_one_is_the_plain_vae():
    config = make_config("quick")
    torch.manual_seed(0)
    model = BetaTCVAE(3, config.extractor_kernels, config.extractor_channels, beta=1.0)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(300)  # means that differ
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    losses = {}
    for model.beta in (1.0, 4.0):
        losses[model.beta] = model.loss(images, torch.Generator().manual_seed(0)).item()
    sample_mean, log_variance = model.encode(images)
    sample = sample_mean + (log_variance / 2).exp() * torch.randn(sample_mean.shape, generator=torch.Generator().manual_seed(0))
    gap = 3 * total_correlation(sample, sample_mean, log_variance).item()
    assert losses[4.0] - losses[1.0] == pytest.approx(gap, abs=2e-2) and abs(gap) > 0.1
    target = F.avg_pool2d((images + 1) / 2, model.pool)
    error = F.binary_cross_entropy_with_logits(model.decoder(sample), target, reduction="sum") / 4 * model.pool**2
    divergence = 0.5 * (sample_mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    assert losses[1.0] == pytest.approx((error + divergence).item(), rel=1e-5)
