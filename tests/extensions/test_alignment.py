"""Other forms of alignment than the paper's."""

import numpy as np
import pytest
import torch

from dyga import GaussianAnchors
from dyga.extensions.alignment import FORMS, align_as_released, align_to_subspaces


def clusters(rows=300, units=3, dim=6, seed=0) -> torch.Tensor:
    """Features (rows, units, dim) in three clusters per unit."""
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(3, units, dim, generator=generator)
    chosen = centres[torch.randint(3, (rows,), generator=generator)]
    return chosen + 0.3 * torch.randn(rows, units, dim, generator=generator)


def fitted(features: torch.Tensor) -> GaussianAnchors:
    return GaussianAnchors(*features.shape[1:], max_anchors=8, start=4).fit(features, bins=256, iterations=10)


def test_subspace_mode_keeps_what_lies_along_the_axis():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([10.0, 0.3, 0.3, 0.3])
    features = torch.randn(500, 1, 4, generator=generator) * scale + torch.tensor([0.0, 5.0, 5.0, 5.0])
    anchors = GaussianAnchors(1, 4, max_anchors=1).fit(features)
    shifted = anchors.align(features, 1.0, form=align_to_subspaces)
    moved = (shifted - features)[:, 0]
    assert moved[:, 0].abs().max() < 0.05
    assert shifted[:, 0, 1:].std() < 0.3 * features[:, 0, 1:].std()
    assert anchors.align(features, 1.0)[:, 0, 0].std() < 0.7 * features[:, 0, 0].std()


def test_released_arithmetic_has_no_effect_on_features_with_zeros():
    features = clusters(512).relu()
    assert (features == 0).any()
    anchors = fitted(features)
    leaf = features.clone().requires_grad_()
    shifted = anchors.align(leaf, form=align_as_released)
    assert torch.equal(shifted, features)
    assert (anchors.align(features) != features).any()
    assert (anchors.diagnose(features, form=align_as_released).weight == 0).all()
    shifted.sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(features))


def test_released_arithmetic_mixes_in_anchors_of_normalised_features():
    features = clusters(512).abs() + 100
    anchors = fitted(features)
    shifted = anchors.align(features, form=align_as_released)
    # Anchors of features in [-1, 0]: relative distance about 1, so that lambda is about 0.1 / e.
    assert (shifted / features).mean().item() == pytest.approx(1 - 0.1 / np.e, abs=0.005)
    assert anchors.diagnose(features, form=align_as_released).weight.std() < 1e-6


@pytest.mark.parametrize("form", ["mean", "subspace"])
def test_gradient_through_align(form):
    features = clusters(40).double()
    anchors = fitted(features).double()
    inner = features[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: anchors.align(value, 0.3, form=FORMS[form]), (inner,))
