import pytest
import torch
import torch.nn.functional as F

from dyga.method.first_stages import PatchAutoencoder, VQAutoencoder


@pytest.mark.parametrize("stage", [PatchAutoencoder, VQAutoencoder])
def test_shapes_and_a_loss_that_training_lowers(stage):
    torch.manual_seed(0)
    model, images = stage(), torch.rand(2, 3, 64, 64) * 2 - 1
    model.calibrate(images)
    latents = model.encode(images)
    assert latents.shape == (2, *stage.latent_shape)
    assert model.decode(latents).shape == images.shape
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        loss = model.loss(images)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]


def test_calibrated_latents_have_unit_variance():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 64, 64) * 2 - 1
    for model in (PatchAutoencoder(), VQAutoencoder().requires_grad_(False)):
        model.calibrate(images)
        assert model.encode(images).std() == pytest.approx(1, abs=0.02)


def test_pooled_latents_are_half_whitened_and_go_back_to_the_pooled_picture():
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(64, 3, 8, 8), size=64, mode="bicubic")
    stage = PatchAutoencoder()
    stage.calibrate(smooth)
    latents = stage.encode(smooth)
    covariance = latents.transpose(0, 1).flatten(1).cov()
    assert torch.allclose(covariance, torch.diag(covariance.diagonal()), atol=1e-4)
    blocks = F.pixel_unshuffle(F.avg_pool2d(smooth, 4), 2).transpose(0, 1).flatten(1)
    variance = torch.linalg.eigvalsh(blocks.double().cov()).float()
    kept = variance > 1e-3 * variance[-1]  # the others are not enlarged further
    ratio = covariance.diagonal()[kept] / variance[kept].sqrt()
    assert kept.sum() >= 3 and torch.allclose(ratio, ratio[-1].expand_as(ratio), rtol=1e-3)
    torch.nn.init.zeros_(stage.decoder[-2].weight)
    torch.nn.init.zeros_(stage.decoder[-2].bias)
    coarse = F.interpolate(F.avg_pool2d(smooth, 4), scale_factor=4.0, mode="bilinear")
    assert torch.allclose(stage.decode(latents), coarse, atol=1e-4)


def test_the_papers_codebook():
    assert VQAutoencoder().model.quantize.embedding.weight.shape == (2048, 3)
