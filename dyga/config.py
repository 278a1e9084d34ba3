"""Profiles, variants and their settings: one frozen dataclass, standard library only.

`paper` holds the settings of arXiv 2410.23820; the others depart from them where `DEPARTURES` says, and why.
Source of the paper's settings: its section 4 and the released configuration files.
"""

import json
from dataclasses import asdict, dataclass, fields, replace


@dataclass(frozen=True)
class Config:
    """Every setting of one training run. Sizes are counts, `dim`s are channels, rates are per step."""

    profile: str = "paper"
    dataset: str = "rooms3d"
    variant: str = "full"
    seed: int = 0
    # first stage: image -> latent
    first_stage: str = "vq"
    first_stage_steps: int = 50_000
    # feature extractor: image -> latent units
    extractor_kernels: tuple[tuple[int, int], ...] = ((7, 1), (4, 2), (4, 2), (4, 2), (4, 2))
    extractor_channels: tuple[int, ...] = (64, 128, 256, 256, 256)
    units: int = 20
    unit_scalars: int = 1
    unit_hidden: tuple[int, ...] = (256, 512)
    unit_dim: int = 32
    normalise_scalars: bool = False
    final_relu: bool = True
    # denoiser
    unet_channels: tuple[int, ...] = (64, 128, 256, 256)
    res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    heads: int = 8
    transformer: bool = True
    dropout: float = 0.1
    # the paper's two ideas, and the project's own addition
    skip_dropout: float = 0.2
    skip_dropout_levels: tuple[int, ...] | None = (0, 1)
    anchoring: float = 0.1
    anchoring_from: float = 0.0
    anchoring_until: float = 1.0
    alignment: str = "mean"
    max_anchors: int = 32
    refit_every: int = 1_000
    reservoir: int = 48_000
    anchor_bins: int = 2_048
    anchor_iterations: int = 40
    decorrelation: float = 0.0
    kurtosis: float = 0.0
    levels: int = 0
    levels_from: float = 0.3
    levels_until: float = 0.8
    prune_loss: float = 0.0
    prune_redundant: float = 1.0
    join: float = 1.0
    prune_from: float = 0.4
    prune_until: float = 0.85
    prune_times: int = 20
    min_scalars: int = 12
    # diffusion
    prediction: str = "epsilon"
    loss: str = "l1"
    timesteps: int = 1_000
    beta_start: float = 0.0015
    beta_end: float = 0.0155
    # optimisation
    steps: int = 33_750
    batch: int = 512
    lr: float = 1e-4
    weight_decay: float = 0.0
    beta2: float = 0.999
    warmup: int = 0
    decay: float = 0.0
    clip: float = 0.0
    ema: float = 0.9999
    checkpoint_every: int = 500
    precision: str = "bfloat16"
    # evaluation
    evaluation_images: int = 480_000
    dci_estimator: str = "sklearn"
    num_train: int = 10_000
    num_test: int = 5_000
    probe_steps: int = 2_000
    control_images: int = 256

    def to_json(self) -> str:
        """The settings as JSON; `from_json` reads them back unchanged."""
        return json.dumps(asdict(self), indent=1)


QUICK = dict(
    first_stage="pooled",
    first_stage_steps=300,
    extractor_kernels=((8, 4), (4, 2), (4, 2)),
    extractor_channels=(32, 64, 64),
    units=32,
    unit_hidden=(64, 128),
    normalise_scalars=True,
    final_relu=False,
    unet_channels=(32, 64),
    res_blocks=1,
    attention_levels=(0, 1),
    heads=4,
    transformer=False,
    dropout=0.0,
    refit_every=200,
    reservoir=4_096,
    anchor_bins=256,
    anchor_iterations=20,
    prediction="v_prediction",
    loss="mse",
    steps=1_100,
    batch=64,
    lr=4e-3,
    weight_decay=0.01,
    beta2=0.99,
    warmup=100,
    decay=0.3,
    clip=1.0,
    ema=0.0,
    checkpoint_every=100,
    precision="float32",
    evaluation_images=20_000,
    dci_estimator="lightgbm",
    probe_steps=200,
    control_images=64,
)
SMOKE = QUICK | dict(
    first_stage_steps=20,
    units=8,
    prune_times=5,
    min_scalars=6,
    steps=40,
    batch=16,
    warmup=5,
    refit_every=15,
    reservoir=512,
    checkpoint_every=10,
    evaluation_images=1_000,
    num_train=600,
    num_test=300,
    probe_steps=10,
    control_images=8,
)
# Three and four times the steps: a run takes up to ten minutes on one core.
LONG, LONGER = QUICK | dict(steps=3_300), QUICK | dict(steps=4_400)
PROFILES: dict[str, dict] = {"quick": QUICK, "smoke": SMOKE, "long": LONG, "longer": LONGER, "paper": {}}

DEPARTURES = {
    "first_stage": "4x4 average pooling, whitened, needs no training before the diffusion; a small decoder is learned beside it",
    "first_stage_steps": "the pooled decoder converges in under a minute",
    "extractor_kernels": "strides of 4, 2, 2 leave 16 positions: six times cheaper at 64x64",
    "extractor_channels": "a narrower encoder suffices for a rendered world",
    "units": "32 units rather than 20 with decorrelation: more room to find each factor in few steps",
    "unit_hidden": "narrower unit MLPs; the units stay curves in 32 dimensions",
    "normalise_scalars": "batch normalisation of the scalars: DCI .06 to .19 at a small budget",
    "final_relu": "a final ReLU left 62 to 82% of the features dead",
    "unet_channels": "0.7 M parameters: 8 steps a second on one core",
    "res_blocks": "one residual block a level, for speed",
    "attention_levels": "cross attention at both resolutions",
    "heads": "narrower channels, so fewer heads",
    "transformer": "cross attention alone: self attention and feed-forward cost most of the time and gave nothing",
    "dropout": "few steps do not overfit",
    "refit_every": "a run has about a thousand steps, so anchors are refitted more often",
    "reservoir": "4,096 recent rows give stable anchors at this refitting rate",
    "anchor_bins": "256 bins a unit: a refit in half a second, under 3% of the training time",
    "anchor_iterations": "warm starts need few iterations",
    "prediction": "velocity prediction: DCI .16 to .29 at a small budget",
    "loss": "mean squared error goes with velocity prediction",
    "steps": "three variants, baselines and report in about ten minutes on two cores",
    "batch": "more, smaller steps in the same time",
    "lr": "a small network bears, and a short run needs, a higher rate",
    "weight_decay": "AdamW's default",
    "beta2": "at the high rate the default's long memory of squared gradients lets the loss jump",
    "warmup": "the high rate needs a warm-up",
    "decay": "linear decay over the last 30% of the steps",
    "clip": "guards the high rate",
    "ema": "an average over a short run gained nothing",
    "checkpoint_every": "a checkpoint every dozen seconds",
    "precision": "a CPU computes in float32; bfloat16 is for GPUs",
    "evaluation_images": "20,000 random images instead of all 480,000: the protocols draw 15,000",
    "probe_steps": "the probe reads five of rooms3d's factors without fault after 200 steps, orientation in 98% of pictures",
    "control_images": "64 traversals and 64 exchanges a factor take a quarter of a minute",
    "dci_estimator": "LightGBM: the same measure in a thirtieth of the time",
}

DECORRELATED = dict(decorrelation=0.05, kurtosis=0.01)
PLANAR = dict(decorrelation=0.025, unit_scalars=2, kurtosis=0.05)
PRUNED = DECORRELATED | dict(unit_scalars=2, skip_dropout=0.0, prune_loss=0.01, prune_redundant=0.5, join=0.4)
# The first seven are `all`: the paper's four and the project's own three. The others take one thing away or change one, for
# `ablation`.
VARIANTS: dict[str, dict] = {
    "encdiff": dict(skip_dropout=0.0, anchoring=0.0),
    "skip_dropout": dict(anchoring=0.0),
    "anchoring": dict(skip_dropout=0.0),
    "full": {},
    "decorrelated": DECORRELATED,
    # Two scalars a unit: a unit is a surface, on which a ring of hues fits.
    "planar": PLANAR,
    # Scalars that the denoiser does without, or that another unit tells, leave; two that are views of one factor become one unit.
    "pruned": PRUNED,
    "full_early": dict(anchoring_until=0.35),
    "full_late": dict(anchoring_from=0.5),
    "full_strong": dict(anchoring=0.5),
    "decorrelated_without_anchoring": DECORRELATED | dict(anchoring=0.0),
    "decorrelated_without_skip_dropout": DECORRELATED | dict(skip_dropout=0.0),
    "decorrelated_without_kurtosis": DECORRELATED | dict(kurtosis=0.0),
    "decorrelated_subspace": DECORRELATED | dict(alignment="subspace"),
    # At the end a unit has at most ten exact values.
    "decorrelated_quantised": DECORRELATED | dict(levels=10),
    "planar_without_anchoring": PLANAR | dict(anchoring=0.0),
    "planar_subspace": PLANAR | dict(alignment="subspace"),
}
ALL_VARIANTS = tuple(VARIANTS)[:7]
DEFAULT_VARIANTS = ("encdiff", "full", "pruned")
DATASETS = ("rooms3d", "shapes3d", "mpi3d_toy", "mpi3d_realistic", "mpi3d_real", "cars3d", "dsprites", "celeba")


def make_config(profile: str = "quick", dataset: str = "rooms3d", variant: str = "pruned", seed: int = 0) -> Config:
    """The settings of a variant in a profile. ValueError if any name is unknown."""
    for name, value, valid in (("profile", profile, PROFILES), ("variant", variant, VARIANTS)):
        if value not in valid:
            raise ValueError(f"unknown {name} '{value}': valid are {', '.join(valid)}")
    if dataset not in DATASETS and not dataset.startswith("folder:"):
        raise ValueError(f"unknown data set '{dataset}': valid are {', '.join(DATASETS)}, folder:PATH")
    settings = PROFILES[profile] | VARIANTS[variant]
    return replace(Config(**settings), profile=profile, dataset=dataset, variant=variant, seed=seed)


def from_json(text: str) -> Config:
    """Reads `Config.to_json` back. ValueError for unknown or missing settings."""
    values = json.loads(text)
    names = {f.name for f in fields(Config)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError("config: not a configuration of this version (settings differ)")

    def as_tuple(value):
        return tuple(map(as_tuple, value)) if isinstance(value, list) else value

    return Config(**{name: as_tuple(value) for name, value in values.items()})


def parse_variants(text: str) -> tuple[str, ...]:
    """'encdiff,full' -> variant names in the order given; 'all': the first seven; 'ablation': all there are. ValueError lists the
    valid."""
    sets = {"all": ALL_VARIANTS, "ablation": tuple(VARIANTS)}
    names = sets.get(text) or tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"unknown variant '{name}': valid are {', '.join([*VARIANTS, *sets])}")
    return names


def parse_numbers(text: str, what: str, low: int, high: int) -> tuple[int, ...]:
    """'0,2' or '0-4' or both mixed -> numbers. ValueError, naming `what`, unless all lie in low..high."""
    try:
        spans = [tuple(map(int, part.split("-"))) for part in text.split(",")]
        if any(len(span) > 2 or not low <= span[0] <= span[-1] <= high for span in spans):
            raise ValueError
    except ValueError:
        raise ValueError(f"{what} '{text}': valid are numbers from {low} to {high}, as 0,1 or 0-4") from None
    return tuple(dict.fromkeys(n for span in spans for n in range(span[0], span[-1] + 1)))


def dataset_slug(dataset: str) -> str:
    """A data set's name as part of a folder's name: 'folder:/my/pictures' -> 'folder-pictures'."""
    return "folder-" + dataset.rstrip("/").split("/")[-1].split(":")[-1] if ":" in dataset else dataset
