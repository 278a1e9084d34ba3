import pytest
import torch
import torch.nn.functional as F

from dyga.method.first_stages import PatchAutoencoder, VQAutoencoder


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("stage", [PatchAutoencoder, VQAutoencoder])
def test_shapes_and_a_loss_that_training_lowers(stage, size):
    torch.manual_seed(0)
    model, images = stage(size), torch.rand(2, 3, size, size) * 2 - 1
    model.calibrate(images)
    latents = model.encode(images)
    assert latents.shape == (2, *stage.latent_shape(size))
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


def test_patch_latents_are_half_whitened_principal_components():
    torch.manual_seed(0)
    # Patches that span 20 dimensions, fewer than the components.
    basis = torch.randn(20, 192)
    images = F.pixel_shuffle((torch.randn(64, 8, 8, 20) @ basis).movedim(-1, 1), 8) / 30
    stage = PatchAutoencoder()
    stage.calibrate(images)
    latents = stage.encode(images)
    covariance = latents.transpose(0, 1).flatten(1).cov()
    assert torch.allclose(covariance, torch.diag(covariance.diagonal()), atol=1e-3)
    blocks = F.pixel_unshuffle(images, 8).transpose(0, 1).flatten(1)
    variance = torch.linalg.eigvalsh(blocks.double().cov()).float().flip(0)[:20]
    ratio = covariance.diagonal()[:20] / variance.sqrt()
    assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-2)
    torch.nn.init.zeros_(stage.decoder[-2].weight)
    assert torch.allclose(stage.decode(latents), images, atol=1e-3)


def test_the_papers_codebook():
    assert VQAutoencoder().model.quantize.embedding.weight.shape == (2048, 3)
