"""An extension of a user's own: a class of twenty lines, and nothing of the package changes."""

import dataclasses

import numpy as np
import pytest
import torch

from dyga import load_run
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.extensions import Extension, build_model
from dyga.training.loop import train

CONFIG = dataclasses.replace(make_config("smoke", variant="full"), steps=20, refit_every=8, checkpoint_every=10)


class Clamp(Extension):
    """Keeps scalars within a limit that shrinks, penalises their size, and counts the steps and the refits."""

    def __init__(self, limit: float = 3.0):
        super().__init__()
        self.register_buffer("limit", torch.tensor(limit))
        self.register_buffer("refits", torch.tensor(0))

    def on_scalars(self, scalars):
        return scalars.clamp(-self.limit, self.limit)

    def penalties(self, scalars):
        return {"size": 0.1 * scalars.square().mean()}

    def refit(self, scalars, features, **options):
        self.refits += 1

    def after_step(self, training):
        if training.done % 10 == 0:
            self.limit *= 0.5


def test_it_takes_part_in_training_is_saved_and_resumes(tmp_path):
    records = list(train(CONFIG, tmp_path / "run", extensions=[Clamp()]))
    assert all(record["size"] > 0 for record in records)
    run = load_run(tmp_path / "run", extensions=[Clamp()])
    (clamp,) = run.model.extensions
    assert (float(clamp.limit), int(clamp.refits)) == (0.75, 3)
    images = load_dataset("rooms3d").images[:8]
    with torch.no_grad():
        scalars = run.model.scalars(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    assert scalars.abs().max() <= 0.75
    for record in train(CONFIG, tmp_path / "cut", extensions=[Clamp()]):
        if record["step"] == 10:
            break
    assert [record["step"] for record in train(CONFIG, tmp_path / "cut", extensions=[Clamp()])] == [20]
    weights = "model.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()
    with pytest.raises(ValueError, match=r"trained with Clamp; pass the same to load_run"):
        load_run(tmp_path / "run")
    list(train(dataclasses.replace(CONFIG, steps=1), tmp_path / "plain"))
    with pytest.raises(ValueError, match=r"trained with no extensions; pass the same to load_run"):
        load_run(tmp_path / "plain", extensions=[Clamp()])
    with pytest.raises(ValueError, match="was made of other settings"):
        next(train(CONFIG, tmp_path / "run"))


def test_a_penalty_may_begin_between_two_records(tmp_path):
    class Late(Extension):
        on = False

        def penalties(self, scalars):
            return {"late": scalars.square().mean()} if self.on else {}

        def after_step(self, training):
            self.on = training.done >= 13

    records = list(train(dataclasses.replace(CONFIG, steps=30), tmp_path, extensions=[Late()]))
    assert ["late" in record for record in records] == [False, True, True]
    assert all(np.isfinite(record["loss"]) for record in records)


@pytest.mark.parametrize("name", ["loss", "diffusion", "decorrelation", "mig"])
def test_a_penalty_whose_name_is_taken_is_refused(name, tmp_path):
    class Taken(Extension):
        def penalties(self, scalars):
            return {name: scalars.square().mean()}

    config = dataclasses.replace(make_config("smoke", variant="decorrelated"), steps=1)
    with pytest.raises(ValueError, match=f"an extension's penalty is called '{name}': that name is taken, choose another"):
        list(train(config, tmp_path, extensions=[Taken()]))


def test_an_extension_that_does_nothing_changes_no_bit(tmp_path):
    """Nor does a penalty of weight 0: the paper's variants are the same with and without the project's additions."""

    class Zero(Extension):
        def penalties(self, scalars):
            return {"zero": 0.0 * scalars.square().sum()}

    for name, extensions in (("alone", []), ("with", [Extension(), Zero()])):
        list(train(dataclasses.replace(CONFIG, steps=10), tmp_path / name, extensions=extensions))
    weights = "model.safetensors"
    assert (tmp_path / "alone" / weights).read_bytes() == (tmp_path / "with" / weights).read_bytes()


@pytest.mark.parametrize("variant", ["encdiff", "skip_dropout", "anchoring", "full"])
def test_the_papers_variants_have_no_extensions(variant):
    assert not build_model(make_config("smoke", variant=variant)).extensions
