import pytest
import torch
from torch import nn

from dyga.training import vqgan_loss as module
from dyga.training.vqgan_loss import PatchDiscriminator, VQGANLoss, lpips


class AbsoluteError(nn.Module):
    def forward(self, a, b):
        return (a - b).abs().mean((1, 2, 3), keepdim=True) / 127.5


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.rand(4, 3, 64, 64) * 2 - 1, nn.Conv2d(3, 3, 1)


def test_before_the_adversary_joins_only_the_perceptual_distance_counts(pair):
    images, decoder = pair
    decoded = decoder(images)
    terms = VQGANLoss(AbsoluteError()).terms(images, decoded, decoder.weight, adversarial=False)
    assert terms.item() == pytest.approx((images - decoded).abs().mean().item(), rel=1e-5)


def test_the_adversarial_gradient_is_three_quarters_as_long_as_the_others(pair):
    images, decoder = pair
    critic = VQGANLoss(AbsoluteError()).eval()

    def gradient(adversarial):
        decoder.zero_grad()
        decoded = decoder(images)
        loss = (decoded - images).abs().mean() + critic.terms(images, decoded, decoder.weight, adversarial)
        loss.backward()
        return decoder.weight.grad.clone()

    others = gradient(False)
    assert (gradient(True) - others).norm().item() == pytest.approx(0.75 * others.norm().item(), rel=0.05)


def test_the_adversary_learns_to_tell_and_moves_nothing_else(pair):
    images, decoder = pair
    critic, decoded = VQGANLoss(AbsoluteError()), decoder(images)
    optimiser = torch.optim.Adam(critic.parameters(), 2e-4)
    losses = []
    for _ in range(8):
        loss = critic.loss(images, decoded)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0] and decoder.weight.grad is None
    assert PatchDiscriminator()(images).shape == (4, 1, 14, 14)


def test_the_comparison_is_neither_trained_nor_saved(pair):
    critic = VQGANLoss(nn.Linear(2, 2))
    assert all(name.startswith("discriminator") for name in critic.state_dict())
    assert len(list(critic.parameters())) == len(list(critic.discriminator.parameters()))


def test_without_weights_there_is_no_perceptual_distance_and_damaged_ones_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips() is None
    (tmp_path / "checkpoints").mkdir()
    for name in module.LPIPS_WEIGHTS:
        (tmp_path / "checkpoints" / name).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"weights-vgg16-lpips\.pth: damaged"):
        lpips()
