"""The first stage: trained once, going on after a kill, with the latents of every image beside it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import save_images
from torch_fidelity.sample_similarity_lpips import URL_VGG16_LPIPS

from dyga.checkpoint import load_model, save_resume
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.kept import claim, first_stage_settings
from dyga.method.diffusion import to_tensor
from dyga.method.first_stages import PatchAutoencoder, VQAutoencoder
from dyga.training import first_stage
from dyga.training.first_stage import StoredLatents, store_latents, train_first_stage


def paper(pictures):
    """The paper's settings, with images that take a quarter of the time."""
    return make_config("paper", pictures, changes="image_size=32")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(first_stage, "BATCH", 8)


@pytest.fixture
def pictures(tmp_path):
    return f"folder:{save_images(tmp_path / 'pictures', range(0, 480_000, 16_000))}"


def test_the_papers_autoencoder_is_trained_and_all_latents_are_kept(pictures, tmp_path, capsys, monkeypatch):
    """Without the weights of LPIPS: a note says so, and how to change it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(first_stage, "SHARD", 20)
    folder = tmp_path / "first_stage"
    config = replace(paper(pictures), first_stage_steps=1)
    train_first_stage(config, folder, tmp_path)
    assert {p.name for p in folder.iterdir()} == {
        ".lock", "config.json", "model.safetensors", "provenance.json", "latents-00000.npy", "latents-00001.npy"
    }  # fmt: skip
    stage, images = VQAutoencoder(32).eval(), load_dataset(pictures, tmp_path, 32).images
    load_model(folder / "model.safetensors", stage)
    rows = np.array([25, 3, 20])
    with torch.no_grad():
        expected = stage.encode(to_tensor(images[rows]))
    latents = StoredLatents(folder, len(images))[rows]
    assert latents.dtype == np.float16 and np.allclose(latents, expected, atol=2e-2)
    measured = json.loads((folder / "provenance.json").read_text())
    assert measured["l1"] > 0 and measured["note"] in capsys.readouterr().err
    places = URL_VGG16_LPIPS.removeprefix("https://"), "download.pytorch.org/models/vgg16-397923af.pth", f"{tmp_path}/torch"
    for words in ("without the perceptual and adversarial loss", *places):
        assert words in measured["note"]
    # Latents of deleted weights are made again.
    stored = (folder / "latents-00000.npy").read_bytes()
    (folder / "latents-00000.npy").write_bytes(b"of the old weights")
    (folder / "model.safetensors").unlink()
    train_first_stage(config, folder, tmp_path)
    assert (folder / "latents-00000.npy").read_bytes() == stored


def test_a_first_stage_of_other_pictures_or_settings_is_refused_begun_or_finished(pictures, tmp_path):
    folder, config = tmp_path / "first_stage", replace(make_config("smoke", pictures), first_stage_steps=2)
    train_first_stage(config, folder, tmp_path)
    with pytest.raises(ValueError, match=r"first_stage was made of other settings \(first_stage_steps was 2, now 3\)"):
        train_first_stage(replace(config, first_stage_steps=3), folder, tmp_path)
    (tmp_path / "pictures" / "00.png").unlink()
    for name in ("model.safetensors", "provenance.json"):
        with pytest.raises(ValueError, match=r"first_stage was made of other data \(data was 'folder:.*30 images, .* 29 images"):
            train_first_stage(config, folder, tmp_path)
        (folder / name).unlink()


def test_a_first_stage_of_another_kind_has_no_note_about_lpips(pictures, tmp_path):
    train_first_stage(replace(make_config("smoke", pictures), first_stage_steps=1), tmp_path / "pooled", tmp_path)
    assert json.loads((tmp_path / "pooled" / "provenance.json").read_text())["note"] == ""


class SquaredError(torch.nn.Module):
    """In the place of LPIPS, whose weights are half a gigabyte."""

    def forward(self, a, b):
        return (a - b).div(127.5).square().mean((1, 2, 3), keepdim=True)


def test_with_a_perceptual_distance_the_autoencoder_meets_an_adversary(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(first_stage, "lpips", SquaredError)
    seen, step = [], first_stage._adversarial_step
    monkeypatch.setattr(first_stage, "_adversarial_step", lambda *a, joined: seen.append(joined) or step(*a, joined=joined))
    train_first_stage(replace(paper(pictures), first_stage_steps=2), tmp_path / "first_stage", tmp_path)
    assert seen == [False, True]
    measured = json.loads((tmp_path / "first_stage" / "provenance.json").read_text())
    assert measured["adversarial"] is True and measured["note"] == ""


def test_going_on_without_the_weights_that_it_began_with_is_refused(pictures, tmp_path, monkeypatch):
    folder = tmp_path / "first_stage"
    config = replace(paper(pictures), first_stage_steps=2_000)
    origin = replace(config, data=load_dataset(pictures, tmp_path, 32).identity)
    claim(folder / "config.json", first_stage_settings(origin))
    save_resume(
        folder / "resume.pt", {"stage": {}, "optimiser": {}, "discriminator": {}, "discriminator_optimiser": {}, "step": 1_000}
    )
    with pytest.raises(ValueError, match="begun with the LPIPS weights"):
        train_first_stage(config, folder, tmp_path)
    save_resume(folder / "resume.pt", {"stage": {}, "optimiser": {}, "step": 1_000})
    monkeypatch.setattr(first_stage, "lpips", SquaredError)
    with pytest.raises(ValueError, match="begun without the LPIPS weights"):
        train_first_stage(config, folder, tmp_path)


def test_a_call_that_was_cut_short_goes_on(pictures, tmp_path, monkeypatch):
    config = replace(make_config("smoke", pictures), first_stage_steps=41)
    monkeypatch.setattr(first_stage, "SAVE_EVERY", 20)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    loss = PatchAutoencoder.loss
    monkeypatch.setattr(PatchAutoencoder, "loss", lambda self, images: loss(self, images[:2]))
    train_first_stage(config, whole, tmp_path)
    step, calls = first_stage.step_seed, []

    def dies(seed, number, **stream):
        calls.append(number)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return step(seed, number, **stream)

    monkeypatch.setattr(first_stage, "step_seed", dies)
    with pytest.raises(KeyboardInterrupt):
        train_first_stage(config, cut, tmp_path)
    assert not (cut / "model.safetensors").exists()
    calls.clear()
    monkeypatch.setattr(first_stage, "step_seed", lambda seed, number, **s: calls.append(number) or step(seed, number, **s))
    train_first_stage(config, cut, tmp_path)
    assert calls[0] == 20 and not (cut / "resume.pt").exists()
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_latents_that_are_there_are_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(first_stage, "SHARD", 4)
    images = load_dataset().images[np.arange(10)]
    stage = PatchAutoencoder()
    stage.calibrate(to_tensor(images))
    store_latents(stage, images, tmp_path)
    (tmp_path / "latents-00001.npy").unlink()
    before = (tmp_path / "latents-00000.npy").stat().st_mtime_ns
    with pytest.raises(ValueError, match="holds latents of 6 images, the data set 10"):
        StoredLatents(tmp_path, 10)
    store_latents(stage, images, tmp_path)
    assert (tmp_path / "latents-00000.npy").stat().st_mtime_ns == before
    assert StoredLatents(tmp_path, 10)[np.array([9, 0, 4])].shape == (3, 24, 8, 8)
    (tmp_path / "latents-00002.npy").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged latents"):
        StoredLatents(tmp_path, 10)
