"""What differs on a GPU: the device of inputs and anchors, bfloat16, compilation. `./run_all.sh test -m gpu` runs these tests."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from conftest import dyga
from diffusers import UNet2DModel

from dyga import GaussianAnchors, SkipDropout, load_run
from dyga.config import make_config
from dyga.training.loop import train

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and -m gpu"),
]


def clusters() -> torch.Tensor:
    """Features (600, 3, 8) of three clusters per unit."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(3, 3, 8, generator=generator)
    return centres[torch.arange(600) % 3] + torch.randn(600, 3, 8, generator=generator)


@pytest.mark.parametrize("given", [DEVICE, "cpu"])
def test_anchors_of_a_gpu_are_those_of_the_cpu(given):
    features = clusters()
    expected = GaussianAnchors(units=3, dim=8).fit(features)
    anchors = GaussianAnchors(units=3, dim=8).to(DEVICE).fit(features.to(given))
    assert anchors.means.device.type == DEVICE and anchors.counts.tolist() == expected.counts.tolist() == [3, 3, 3]
    torch.testing.assert_close(anchors.means.cpu(), expected.means, rtol=1e-4, atol=1e-4)
    aligned = anchors.align(features.to(DEVICE))
    assert aligned.device.type == DEVICE
    torch.testing.assert_close(aligned.cpu(), expected.align(features), rtol=1e-4, atol=1e-4)
    assert torch.equal(anchors.assign(features.to(DEVICE)).cpu(), expected.assign(features))
    assert anchors.diagnose(features.to(DEVICE)).moved == pytest.approx(expected.diagnose(features).moved, abs=0.01)


def test_aligned_features_keep_bfloat16():
    anchors = GaussianAnchors(units=3, dim=8).to(DEVICE).fit(clusters())
    with torch.autocast(DEVICE, torch.bfloat16):
        aligned = anchors.align(clusters().to(DEVICE, torch.bfloat16).requires_grad_())
    aligned.float().sum().backward()
    assert aligned.dtype == torch.bfloat16 and aligned.isfinite().all()


def test_skip_dropout_acts_in_training_only():
    torch.manual_seed(0)
    shape = dict(block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    unet, image = UNet2DModel(sample_size=16, **shape).to(DEVICE), torch.randn(2, 3, 16, 16, device=DEVICE)
    with torch.no_grad():
        before = unet.eval()(image, 10).sample
        handle = SkipDropout(p=0.5).attach(unet)
        torch.testing.assert_close(unet(image, 10).sample, before)
        assert not torch.allclose(unet.train()(image, 10).sample, before, atol=1e-3)
        handle.remove()
        torch.testing.assert_close(unet(image, 10).sample, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_decoding_and_a_continued_run(precision, tmp_path):
    smoke = make_config("smoke", variant="full")
    config = dataclasses.replace(smoke, steps=20, refit_every=8, checkpoint_every=10, precision=precision)
    assert dyga("first-stage", "--profile", "smoke", "--folder", str(tmp_path / "first_stage")).returncode == 0
    folder = tmp_path / "full-seed0"
    loop = train(config, folder)
    first = next(loop)
    loop.close()
    assert [record["step"] for record in train(config, folder)] == [20]
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records[0]["loss"] == first["loss"] and all(math.isfinite(record["loss"]) for record in records)
    run = load_run(folder)
    features = run.encode(run.data.images[:4])
    assert features.dtype == np.float32 and np.isfinite(features).all()
    assert run.decode(features).shape == (4, 64, 64, 3)
