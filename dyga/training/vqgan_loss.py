"""Perceptual and adversarial loss, which turn a VQ autoencoder into a VQ-GAN (Esser et al. 2021)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ADVERSARIAL = 0.75
LPIPS_WEIGHTS = ("weights-vgg16-lpips.pth", "vgg16-397923af.pth")
LPIPS_SOURCES = ("github.com/toshas/torch-fidelity/releases/download/v0.2.0", "download.pytorch.org/models")


def lpips() -> nn.Module | None:
    """LPIPS (Zhang et al. 2018) by torch-fidelity, of two batches (batch, 3, H, W) in 0..255 -> (batch,).

    None unless both weight files are in torch hub's checkpoint folder. Nothing is downloaded unasked.
    ValueError for a damaged file.
    """
    files = [Path(torch.hub.get_dir(), "checkpoints", name) for name in LPIPS_WEIGHTS]
    if not all(file.is_file() for file in files):
        return None
    from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

    for file in files:
        try:
            torch.load(file, weights_only=True)  # torch-fidelity's own loading would execute code in the file
        except Exception as error:
            raise ValueError(f"{file}: damaged ({type(error).__name__}); delete it or download it again") from None
    return SampleSimilarityLPIPS("lpips-vgg16").eval().requires_grad_(False)


def missing_weights() -> str:
    """One line: without LPIPS the first stage is not the paper's, where its weights belong, and where they come from."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    files = " and ".join(f"{source}/{name}" for source, name in zip(LPIPS_SOURCES, LPIPS_WEIGHTS, strict=True))
    return (
        "first stage: a VQ autoencoder without the perceptual and adversarial loss of the paper's VQ-GAN, since the weights "
        f"of LPIPS are missing: download {files} to {folder} manually and train again"
    )


class PatchDiscriminator(nn.Sequential):
    """Distinguishes real from decoded patches: (batch, 3, H, W) in [-1, 1] -> logits (batch, 1, h, w) (Isola et al. 2017)."""

    def __init__(self, width: int = 64):
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inner, stride in ((width, 2), (2 * width, 1)):
            layers += [nn.Conv2d(inner, 2 * inner, 4, stride, 1, bias=False), nn.BatchNorm2d(2 * inner), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 4, 1, 1))


class VQGANLoss(nn.Module):
    """The perceptual and the adversarial term, and the discriminator's loss. `perceptual` is a distance as `lpips` returns. It
    is not part of the module: neither trained, saved nor moved to another device with it."""

    def __init__(self, perceptual: nn.Module):
        super().__init__()
        self._perceptual = [perceptual]  # torch ignores modules in a list
        self.discriminator = PatchDiscriminator()

    def terms(self, images: Tensor, decoded: Tensor, last_weight: Tensor, adversarial: bool) -> Tensor:
        """What is added to the autoencoder's L1. The adversarial term is scaled so that its gradient at the decoder's
        `last_weight` is as long as that of the others, times .75 (Esser et al. 2021, equation 7)."""
        reconstruction = F.l1_loss(decoded, images)
        perceptual = self._perceptual[0]((images + 1) * 127.5, (decoded + 1) * 127.5).mean()
        if not adversarial:
            return perceptual
        fooled = -self.discriminator(decoded).mean()
        own = torch.autograd.grad(reconstruction + perceptual, last_weight, retain_graph=True)[0].norm()
        others = torch.autograd.grad(fooled, last_weight, retain_graph=True)[0].norm()
        return perceptual + ADVERSARIAL * (own / (others + 1e-4)).clamp(max=1e4).detach() * fooled

    def loss(self, images: Tensor, decoded: Tensor) -> Tensor:
        """The discriminator's hinge loss; `decoded` gets no gradient."""
        real, fake = self.discriminator(images), self.discriminator(decoded.detach())
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
