"""The settings: names, meanings, types and valid values; and how they are read from text."""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, get_type_hints


def setting(default: Any, meaning: str, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()):
    """A field with its meaning, and its valid range or choices. For a tuple the range holds for each of its numbers."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Config:
    """Every setting of one training run. Sizes are counts, shares lie between 0 and 1, rates are per step."""

    # identity of the run
    profile: str = "paper"
    dataset: str = "rooms3d"
    variant: str = "full"
    seed: int = 0
    changes: str = ""  # what was changed by hand, as "steps=3000, units=16"
    extensions: tuple[str, ...] = ()  # names of the user's own extensions
    data: str = ""  # the identity of the data, set when the training begins
    first_stage_digest: str = ""  # of the first stage's weights, if they are trained before the run (vq)
    image_size: int = setting(64, "pixels per side: 32, 64 or 128; other than 64 for own data only", 32, 128)
    # first stage: image -> latent
    first_stage: str = setting(
        "vq", "vq: the paper's autoencoder; patches: their principal components", choices=("vq", "patches")
    )
    first_stage_steps: int = setting(50_000, "training steps of the first stage", 1)
    # feature extractor: image -> latent units
    extractor_kernels: tuple[tuple[int, int], ...] = setting(
        ((7, 1), (4, 2), (4, 2), (4, 2), (4, 2)), "kernel size and stride of each convolution", 1
    )
    extractor_channels: tuple[int, ...] = setting((64, 128, 256, 256, 256), "output channels of each convolution", 1)
    units: int = setting(20, "number of latent units", 1)
    scalars_per_unit: int = setting(1, "scalars that each unit is a function of", 1, 2)
    unit_hidden: tuple[int, ...] = setting((256, 512), "hidden widths of each unit's MLP", 1)
    unit_dim: int = setting(32, "dimension of a latent unit", 2)
    normalise_scalars: bool = setting(False, "batch normalisation of the scalars")
    global_pools: bool = setting(False, "each layer's maximum and mean over positions also feed the scalars")
    final_relu: bool = setting(True, "a ReLU after the unit MLPs")
    # denoiser
    unet_channels: tuple[int, ...] = setting((64, 128, 256, 256), "channels of each U-Net level, finest first", 1)
    res_blocks: int = setting(2, "residual blocks per level", 1)
    attention_levels: tuple[int, ...] = setting((0, 1, 2), "U-Net levels with cross attention; 0 is the finest", 0)
    heads: int = setting(8, "attention heads", 1)
    transformer: bool = setting(True, "self attention and feed-forward beside the cross attention")
    dropout: float = setting(0.1, "dropout in the residual blocks", 0, 0.99)
    # the paper's two ideas
    skip_dropout: float = setting(0.2, "Skip Dropout: probability of dropping a skip channel; 0 is off", 0, 0.99)
    skip_dropout_levels: tuple[int, ...] | None = setting((0, 1), "U-Net levels with Skip Dropout; none means all", 0)
    anchoring: float = setting(0.1, "strength of Dynamic Gaussian Anchoring; 0 is off", 0, 1)
    alignment: str = setting("mean", "features are aligned to the anchor's mean or its subspace", choices=("mean", "subspace"))
    max_anchors: int = setting(32, "upper limit of anchors per unit", 1)
    refit_every: int = setting(1_000, "steps between two fits of the anchors", 1)
    feature_buffer: int = setting(48_000, "recent rows that anchors are fitted to", 2)
    anchor_bins: int = setting(2_048, "rows per unit in the coreset of a fit", 2)
    anchor_iterations: int = setting(40, "upper limit of EM iterations per stage of a fit", 1)
    # the project's own extensions; not in the paper
    decorrelation: float = setting(0.0, "weight of the penalty on correlations between scalars; 0 is off", 0)
    kurtosis: float = setting(0.0, "weight of the penalty on the scalars' kurtosis; 0 is off", 0)
    quantiser_values: int = setting(0, "values per unit that scalars are quantised to; 0 is off", 0)
    prune_loss_increase: float = setting(0.0, "prune scalars whose removal raises the loss by less than this share; 0 is off", 0)
    prune_explained: float = setting(
        1.0, "with pruning: prune scalars of which another unit explains more than this share of the variance", 0, 1
    )
    prune_rounds: int = setting(20, "pruning rounds during training", 1)
    merge_dependence: float = setting(1.0, "with pruning: merge units whose nonlinear dependence exceeds this; 1 is off", 0, 1)
    min_scalars: int = setting(
        0, "scalars that pruning keeps at least; 0: 12 for up to six known factors, else 20, and at most 5/8 of the units", 0
    )
    # diffusion
    prediction: str = setting("epsilon", "what the denoiser predicts", choices=("epsilon", "v_prediction"))
    time_exponent: float = setting(1.0, "training times are 1,000 u^x for uniform u: below 1 favours high noise", 0.05, 10)
    loss: str = setting("l1", "distance between prediction and target", choices=("l1", "mse"))
    # optimisation
    steps: int = setting(33_750, "training steps", 1)
    batch: int = setting(512, "images per step", 2)
    lr: float = setting(1e-4, "peak learning rate", 0)
    weight_decay: float = setting(0.0, "AdamW's weight decay", 0)
    beta2: float = setting(0.999, "AdamW's second beta", 0, 0.99999)
    warmup: int = setting(0, "steps of linear warm-up", 0)
    decay: float = setting(0.0, "share of the steps, at the end, with linear decay of the rate", 0, 1)
    clip: float = setting(0.0, "gradient norm limit; 0 is off", 0)
    ema: float = setting(0.9999, "decay of the averaged weights; 0 is off", 0, 0.999999)
    checkpoint_every: int = setting(500, "steps between two checkpoints", 1)
    precision: str = setting("bfloat16", "precision on a GPU", choices=("bfloat16", "float32"))
    # sampling
    sampling_steps: int = setting(20, "DDIM steps in which units are decoded", 1, 1_000)
    temperature: float = setting(1.0, "standard deviation of the noise that sampling starts from", 0, 10)
    # evaluation
    evaluation_images: int = setting(480_000, "random images that are encoded for the metrics", 20)
    dci_estimator: str = setting("sklearn", "gradient boosting library of DCI", choices=("sklearn", "lightgbm"))
    num_train: int = setting(10_000, "training samples of the metrics", 10)
    num_test: int = setting(5_000, "test samples of the metrics", 10)
    classifier_steps: int = setting(2_000, "training steps of the factor classifier", 1)
    intervention_images: int = setting(256, "images per factor for traversal and interchange scores", 2)
    generated_images: int = setting(50_000, "images generated for FID, if at least three factors are binary", 2)
    generation_steps: int = setting(100, "sampling steps of each of these images", 1, 1_000)


IDENTITY = ("profile", "dataset", "variant", "seed", "changes", "extensions", "data", "first_stage_digest")
SETTINGS = {f.name: f.metadata for f in fields(Config) if f.name not in IDENTITY}
TYPES = get_type_hints(Config)
IMAGE_SIZES = (32, 64, 128)


def parse_changes(changes: str | Mapping[str, str]) -> dict[str, Any]:
    """ "steps=3000, units=16" (or a mapping of names to texts) -> values by name, in the settings' order. ValueError for an
    unknown name, which lists the nearest valid ones, and for a value of the wrong type."""
    if isinstance(changes, str):
        parts = [part.strip() for part in re.split(r",(?=\s*[A-Za-z_]\w*\s*=)", changes) if part.strip()]
        wrong = [part for part in parts if "=" not in part]
        if wrong:
            raise ValueError(f"setting '{wrong[0]}': valid is NAME=VALUE, as steps=3000")
        changes = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parts)}
    for name in changes:
        if name not in SETTINGS:
            near = get_close_matches(name, SETTINGS, n=4, cutoff=0.5) or list(SETTINGS)
            hint = f"use --{name}" if name in IDENTITY[:4] else f"the nearest valid ones are {', '.join(near)}"
            raise ValueError(f"unknown setting '{name}': {hint} ('dyga settings' lists all)")
    return {name: _parse(name, changes[name]) for name in SETTINGS if name in changes}


def _parse(name: str, text: str) -> Any:
    kind, metadata = TYPES[name], SETTINGS[name]
    try:
        if metadata["choices"]:
            if text not in metadata["choices"]:
                raise ValueError
            return text
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            value = kind(text)
            if not abs(value) < float("inf"):
                raise ValueError
            return value
        if text.lower() == "none" and name == "skip_dropout_levels":
            return None
        value = ast.literal_eval(f"({text.strip('()') if name != 'extractor_kernels' else text},)")
        value = value[0] if len(value) == 1 and isinstance(value[0], tuple) and isinstance(value[0][0], tuple) else value
        nested = name != "extractor_kernels" and any(isinstance(part, tuple) for part in value)
        if nested or not all(isinstance(n, int) and not isinstance(n, bool) for n in _numbers(value)):
            raise ValueError
        return value
    except (ValueError, KeyError, SyntaxError, TypeError, IndexError):
        kinds = {bool: "true or false", int: "a whole number", float: "a finite number"}
        valid = ", ".join(metadata["choices"]) or kinds.get(kind) or f"whole numbers, as {as_text(getattr(Config, name))}"
        raise ValueError(f"setting {name}='{text}': valid is {valid}") from None


def _numbers(value: Any) -> list:
    """All numbers of nested tuples."""
    return [n for part in value for n in _numbers(part)] if isinstance(value, tuple) else [value]


def as_text(value: Any) -> str:
    """A setting's value as `--set` reads it."""
    if isinstance(value, tuple):
        return ",".join(f"({as_text(part)})" if isinstance(part, tuple) else str(part) for part in value)
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def validate(config: Config) -> None:
    """ValueError that names the first setting out of its range, or the first settings that do not go together."""
    for name, metadata in SETTINGS.items():
        low, high = metadata["low"], metadata["high"]
        value = getattr(config, name)
        for number in _numbers(value) if low is not None and value is not None else ():
            if not low <= number <= (float("inf") if high is None else high):
                valid = f"at least {low}" if high is None else f"from {low} to {high}"
                raise ValueError(f"setting {name}={as_text(value)}: valid is {valid}")
    if config.image_size not in IMAGE_SIZES:
        raise ValueError(f"setting image_size={config.image_size}: valid are {', '.join(map(str, IMAGE_SIZES))}")
    kernels, levels = config.extractor_kernels, len(config.unet_channels)
    if any(not isinstance(kernel, tuple) or len(kernel) != 2 for kernel in kernels):
        raise ValueError(f"setting extractor_kernels={as_text(kernels)}: valid are pairs of kernel and stride, as (4,2),(4,2)")
    latent = config.image_size // 4 if config.first_stage == "vq" else 8
    shared = config.scalars_per_unit > 1 and config.quantiser_values
    wrong = {
        "extractor_kernels and extractor_channels must have the same length": len(kernels) != len(config.extractor_channels),
        f"extractor_kernels reduce a {config.image_size}x{config.image_size} image to nothing": _extractor_size(
            kernels, config.image_size
        )
        < 1,
        "extractor_kernels: a stride must not exceed its kernel by more than one": any(s > k + 1 for k, s in kernels),
        f"attention_levels must lie below the {levels} levels of unet_channels": max(config.attention_levels, default=0)
        >= levels,
        f"skip_dropout_levels must lie below the {levels} levels of unet_channels": config.skip_dropout
        and max(config.skip_dropout_levels or (), default=0) >= levels,
        f"unet_channels: a latent of {latent}x{latent} allows at most {latent.bit_length()} levels": levels > latent.bit_length(),
        "heads must divide every entry of unet_channels": any(c % config.heads for c in config.unet_channels),
        "the first entry of unet_channels must be even": config.unet_channels[0] % 2,
        "feature_buffer must be at least as large as batch": config.feature_buffer < config.batch,
        "feature_buffer must be at least 128 with pruning": config.prune_loss_increase and config.feature_buffer < 128,
        "min_scalars must not exceed units * scalars_per_unit": config.prune_loss_increase
        and config.min_scalars > config.units * config.scalars_per_unit,
        "evaluation_images must be at least num_train + num_test": config.evaluation_images < config.num_train + config.num_test,
        "lr must be greater than 0": not config.lr,
        "merge_dependence below 1 needs scalars_per_unit=2 with pruning": config.merge_dependence < 1
        and config.prune_loss_increase
        and config.scalars_per_unit != 2,
        "quantiser_values needs scalars_per_unit=1": shared,
    }
    for problem, found in wrong.items():
        if found:
            raise ValueError(f"impossible settings: {problem}")


def _extractor_size(kernels: tuple[tuple[int, int], ...], size: int) -> int:
    """Height of the last feature map of the extractor."""
    for kernel, stride in kernels:
        size = (size + 2 * ((kernel - stride + 1) // 2) - kernel) // stride + 1
    return size


def from_json(text: str) -> Config:
    """Reads the settings of a run's config.json; a missing setting takes its default. ValueError for an unknown setting."""
    values = json.loads(text)
    if not (isinstance(values, dict) and values):
        raise ValueError("config: no settings found")
    if unknown := sorted(set(values) - set(TYPES)):
        raise ValueError(f"config: unknown settings {', '.join(unknown)}; made by another version")

    def as_tuple(value):
        return tuple(map(as_tuple, value)) if isinstance(value, list) else value

    return Config(**{name: as_tuple(value) for name, value in values.items()})
