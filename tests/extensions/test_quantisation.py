"""Quantised scalars."""

import dataclasses

import numpy as np
import torch

from dyga.checkpoint import load_model
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.extensions import build_model
from dyga.extensions.quantisation import Quantisation
from dyga.method.diffusion import to_tensor
from dyga.training.loop import train

TINY = dataclasses.replace(make_config("smoke", variant="decorrelated_quantised"), steps=20, refit_every=8, checkpoint_every=10)


def test_scalars_move_to_their_values_as_the_training_proceeds_and_keep_their_gradient():
    torch.manual_seed(0)
    quantisation, scalars = Quantisation(2, values=3), torch.randn(500, 2, requires_grad=True)
    assert torch.equal(quantisation.on_mlp_inputs(scalars, 1.0), scalars)  # before the first fit
    quantisation.refit(scalars.detach()[..., None], torch.zeros(500, 2, 4), seed=0, bins=256, iterations=10)
    rounded = quantisation.on_mlp_inputs(scalars, 1.0)
    assert len(rounded[:, 0].detach().round(decimals=4).unique()) == quantisation.values.counts[0] <= 3
    for progress, strength in ((0.0, 0.0), (0.3, 0.0), (0.55, 0.5), (0.8, 1.0)):
        expected = scalars + strength * (rounded - scalars)
        assert torch.allclose(quantisation.on_mlp_inputs(scalars, progress), expected, atol=1e-6)
    rounded.sum().backward()
    assert torch.equal(scalars.grad, torch.ones_like(scalars))


def test_anchors_are_fitted_to_the_quantised_features(tmp_path):
    list(train(TINY, tmp_path))
    model = build_model(TINY).eval()
    load_model(tmp_path / "model.safetensors", model)
    with torch.no_grad():
        features = model.encode(to_tensor(load_dataset("rooms3d").images[np.arange(300)]))
    distance = (model.anchors.nearest_means(features) - features).norm(dim=-1) / features.norm(dim=-1)
    assert distance.median() < 1e-3


def test_a_quantised_run_ends_with_at_most_ten_exact_features_per_unit(tmp_path):
    config = dataclasses.replace(TINY, anchoring=0.0)
    list(train(config, tmp_path))
    model = build_model(config).eval()
    load_model(tmp_path / "model.safetensors", model)
    values = model.extensions[-1].values
    assert values.fitted and values.counts.max() <= 10
    with torch.no_grad():
        features = model.encode(to_tensor(load_dataset("rooms3d").images[np.arange(300)]))
    for unit in range(config.units):
        distinct: list[torch.Tensor] = []  # a row's place in the batch changes its rounding errors
        for row in features[:, unit]:
            if not any(torch.allclose(row, other, atol=1e-3) for other in distinct):
                distinct.append(row)
        assert len(distinct) <= values.counts[unit]
