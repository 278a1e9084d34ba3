import numpy as np
import pytest
import torch

from dyga.data import load_dataset
from dyga.method.diffusion import to_tensor
from dyga.study.factor_classifier import FactorClassifier


def test_logits_come_by_factor_and_read_is_their_largest():
    torch.manual_seed(0)
    classifier = FactorClassifier((10, 4, 15)).eval()
    images = torch.randn(3, 3, 64, 64)
    logits = classifier(images)
    assert [tuple(part.shape) for part in logits] == [(3, 10), (3, 4), (3, 15)]
    assert classifier.read(images).tolist() == [[int(part[i].argmax()) for part in logits] for i in range(3)]


def test_the_loss_of_a_blind_probe_is_that_of_guessing():
    classifier = FactorClassifier((10, 4)).eval()
    torch.nn.init.zeros_(classifier.layers[-1].weight)
    torch.nn.init.zeros_(classifier.layers[-1].bias)
    loss = classifier.loss(torch.randn(5, 3, 64, 64), torch.tensor([[1, 2]] * 5))
    assert loss.item() == pytest.approx((np.log(10) + np.log(4)) / 2)


def test_it_learns_to_read_real_pictures():
    data = load_dataset("rooms3d")
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    classifier = FactorClassifier(data.factor_sizes)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    for _ in range(60):
        rows = rng.integers(len(data.images), size=48)
        loss = classifier.loss(to_tensor(data.images[rows]), torch.from_numpy(data.factors[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rows = rng.integers(len(data.images), size=300)
    right = classifier.eval().read(to_tensor(data.images[rows])).numpy() == data.factors[rows]
    assert (right.mean(axis=0)[:3] > 0.9).all()  # the hues come first
