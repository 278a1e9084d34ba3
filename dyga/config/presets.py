"""Profiles and variants: named sets of settings."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dyga.config.datasets import DATASETS
from dyga.config.schema import SETTINGS, Config, as_text, parse_changes, validate

# Each profile's departures from the paper: value and reason.
QUICK: dict[str, tuple[Any, str]] = {
    "first_stage": (
        "patches",
        "principal components of 8x8 patches: no training before the diffusion but of a small decoder",
    ),
    "first_stage_steps": (300, "the decoder converges in under a minute"),
    "extractor_kernels": (((8, 4), (4, 2), (4, 2)), "strides of 4, 2, 2 leave 16 positions: six times cheaper at 64x64"),
    "extractor_channels": ((32, 64, 64), "a narrower extractor suffices for a rendered world"),
    "units": (32, "with decorrelation, 32 units find each factor in fewer steps than 20"),
    "unit_hidden": ((64, 128), "narrower unit MLPs; the units stay curves in 32 dimensions"),
    "global_pools": (True, "raises DCI by .03 to .06 where factors are small, as on arm3d"),
    "normalise_scalars": (True, "raises DCI from .06 to .19 at a small budget"),
    "final_relu": (False, "a final ReLU left 62 to 82% of the features dead"),
    "unet_channels": ((32, 64), "0.7 M parameters: three to six steps a second on one core"),
    "res_blocks": (1, "faster"),
    "attention_levels": ((0, 1), "cross attention at both resolutions"),
    "heads": (4, "narrower channels need fewer heads"),
    "transformer": (False, "self attention and feed-forward took most of the time without a gain"),
    "dropout": (0.0, "few steps do not overfit"),
    "refit_every": (200, "a run has about a thousand steps, so anchors are fitted more often"),
    "feature_buffer": (4_096, "4,096 recent rows give stable anchors at this rate"),
    "anchor_bins": (256, "a fit takes half a second, under 3% of the training time"),
    "anchor_iterations": (20, "warm starts need few iterations"),
    "prediction": ("v_prediction", "raises DCI from .16 to .29 at a small budget"),
    "time_exponent": (0.5, "more training at high noise, where units matter: DCI +.03 to +.13 on arm3d"),
    "loss": ("mse", "the usual loss for velocity prediction"),
    "steps": (1_100, "three to eight minutes of one core"),
    "batch": (64, "more and smaller steps in the same time"),
    "lr": (4e-3, "a short run of a small network needs a higher rate"),
    "weight_decay": (0.01, "AdamW's default"),
    "beta2": (0.99, "with .999 the loss jumps at this rate"),
    "warmup": (100, "the high rate needs a warm-up"),
    "decay": (0.3, "linear decay over the last 30% of the steps"),
    "clip": (1.0, "limits the gradient at the high rate"),
    "ema": (0.0, "averaging over a short run gave no gain"),
    "checkpoint_every": (100, "a checkpoint about every 30 seconds"),
    "sampling_steps": (1, "one step is as sharp as ten, and ten times faster"),
    "temperature": (0.0, "units determine a rendered image, so initial noise only blurs it: 1 dB of PSNR"),
    "precision": ("float32", "CPUs compute in float32"),
    "evaluation_images": (20_000, "the protocols draw 15,000 images"),
    "dci_estimator": ("lightgbm", "nearly the same values in a fortieth of the time"),
    "classifier_steps": (200, "reads five factors of rooms3d without error, orientation in 98% of the images"),
    "intervention_images": (64, "64 traversals and 64 interchanges per factor take 15 seconds"),
    "generated_images": (2_000, "half a minute per run; a distance from so few images is biased upward"),
    "generation_steps": (10, "a tenth of the time"),
}
_SMALL = "as small as the tests allow"
SMOKE = QUICK | {
    name: (value, _SMALL)
    for name, value in dict(
        first_stage_steps=20,
        units=8,
        prune_rounds=3,
        min_scalars=6,
        steps=40,
        batch=16,
        warmup=5,
        refit_every=15,
        feature_buffer=512,
        checkpoint_every=10,
        evaluation_images=1_000,
        num_train=600,
        num_test=300,
        classifier_steps=10,
        intervention_images=8,
        generated_images=32,
        generation_steps=2,
    ).items()
}
LONG = QUICK | {"steps": (3_300, "three times the steps of quick")}
LONGER = QUICK | {"steps": (4_400, "four times the steps of quick: 12 to 30 minutes of one core")}
PROFILES: dict[str, dict[str, tuple[Any, str]]] = {"quick": QUICK, "smoke": SMOKE, "long": LONG, "longer": LONGER, "paper": {}}


class Variant(NamedTuple):
    """A named set of settings: how figures call it, what it adds or removes, and the settings."""

    title: str
    summary: str
    settings: dict[str, Any]


_DECORRELATED = dict(decorrelation=0.05, kurtosis=0.01)
# The first seven are `all`; `ablation` has all of them.
VARIANTS: dict[str, Variant] = {
    "encdiff": Variant("EncDiff", "the baseline: neither idea", dict(skip_dropout=0.0, anchoring=0.0)),
    "skip_dropout": Variant("Skip dropout only", "Skip Dropout only", dict(anchoring=0.0)),
    "anchoring": Variant("Anchoring only", "Dynamic Gaussian Anchoring only", dict(skip_dropout=0.0)),
    "full": Variant("Full (DyGA + SD)", "the paper's method: both ideas", {}),
    "decorrelated": Variant("Decorrelated", "full, with penalties on correlation and kurtosis", _DECORRELATED),
    "two_scalars": Variant(
        "Two scalars", "decorrelated, with two scalars per unit", dict(decorrelation=0.025, scalars_per_unit=2, kurtosis=0.05)
    ),
    "pruned": Variant(
        "Pruned",
        "decorrelated without skip dropout; unneeded scalars are pruned, dependent units are merged",
        _DECORRELATED
        | dict(scalars_per_unit=2, skip_dropout=0.0, prune_loss_increase=0.01, prune_explained=0.5, merge_dependence=0.4),
    ),
    "decorrelated_without_anchoring": Variant(
        "Decorrelated, no anchoring", "decorrelated, without anchoring", _DECORRELATED | dict(anchoring=0.0)
    ),
    "decorrelated_without_skip_dropout": Variant(
        "Decorrelated, no skip dropout", "decorrelated, without skip dropout", _DECORRELATED | dict(skip_dropout=0.0)
    ),
    "decorrelated_subspace": Variant(
        "Decorrelated, subspaces", "decorrelated, aligned to the anchors' subspaces", _DECORRELATED | dict(alignment="subspace")
    ),
    "decorrelated_quantised": Variant(
        "Decorrelated, quantised", "decorrelated, each unit quantised to ten values", _DECORRELATED | dict(quantiser_values=10)
    ),
}
DEFAULT_VARIANTS = ("encdiff", "full", "pruned")
OWN = {
    "folder:PATH": "images, with labels if PATH holds factors.csv (file, factor, factor, ...)",
    "npz:FILE": "arrays: images (n, h, w[, 3]) uint8, optional factors (n, k) and factor_names (k,)",
    "hf:NAME": "a data set of the library datasets: a folder, or a name on the hub; class labels and numbers are the factors",
}
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def make_config(
    profile: str = "quick",
    dataset: str = "rooms3d",
    variant: str = "pruned",
    seed: int = 0,
    changes: str = "",
) -> Config:
    """The settings of a variant in a profile, with `changes` as "steps=3000, units=16". ValueError for an unknown name, a wrong
    type or an impossible combination."""
    for name, value, valid in (("profile", profile, PROFILES), ("variant", variant, VARIANTS)):
        if value not in valid:
            raise ValueError(f"unknown {name} '{value}': valid are {', '.join(valid)}")
    if dataset not in DATASETS and not is_own(dataset):
        raise ValueError(f"unknown data set '{dataset}': valid are {', '.join([*DATASETS, *OWN])}")
    dataset, changed = absolute_dataset(dataset), parse_changes(changes)
    values = {name: value for name, (value, _) in PROFILES[profile].items()} | VARIANTS[variant].settings | changed
    config = Config(**values, profile=profile, dataset=dataset, variant=variant, seed=seed)
    config = replace(config, changes=", ".join(f"{name}={as_text(value)}" for name, value in changed.items()))
    validate(config)
    if config.image_size != 64 and not is_own(dataset):
        raise ValueError(f"setting image_size={config.image_size}: {dataset} has 64x64 images; own data can have another size")
    return config


def is_own(name: str) -> bool:
    """Whether a data set's name is that of own data: `folder:PATH`, `npz:FILE` or `hf:NAME`."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind in [own.partition(":")[0] for own in OWN]


def absolute_dataset(name: str) -> str:
    """`folder:PATH`, `npz:FILE` and `hf:FOLDER` with an absolute path without links; another name as it is. ValueError without a
    path, and for what is neither a folder nor a name on the hub."""
    kind, _, path = name.partition(":")
    if not is_own(name):
        return name
    if not path:
        raise ValueError(f"data set '{name}': valid is {next(own for own in OWN if own.startswith(kind))}")
    absolute = Path(path).expanduser().resolve()
    if kind == "hf" and not absolute.is_dir() and not path.startswith(("/", "~", ".")):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
            raise ValueError(f"data set '{name}': valid is a folder, or a name on the hub as 'owner/name'")
        return name
    return f"{kind}:{absolute}"


def describe_settings(config: Config) -> list[dict[str, str]]:
    """One record per setting: name, value, the paper's value, meaning, and the reason where the value departs from the paper."""
    changed = parse_changes(config.changes)
    rows = []
    for name, metadata in SETTINGS.items():
        value, paper = getattr(config, name), getattr(Config, name)
        reason = ""
        if name in changed:
            reason = "changed by hand"
        elif name in VARIANTS[config.variant].settings:
            reason = f"variant {config.variant}: {VARIANTS[config.variant].summary}"
        elif value != paper:
            reason = PROFILES[config.profile][name][1]
        texts = {"value": as_text(value), "paper": as_text(paper)}
        rows.append({"name": name, **texts, "meaning": metadata["meaning"], "reason": reason})
    return rows
