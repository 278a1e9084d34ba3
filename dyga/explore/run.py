"""A trained model: encode, decode, traversal, interchange and attention maps."""

import json
from collections.abc import Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor

from dyga.checkpoint import load_config, load_model
from dyga.config import Config
from dyga.data import load_dataset
from dyga.extensions import Extension, build_model
from dyga.kept import first_stage_of, same_contents
from dyga.method.diffusion import to_images, to_tensor
from dyga.method.first_stages import FIRST_STAGES
from dyga.metrics import active_mask
from dyga.provenance import checkout

PRETRAINED = "pretrained:"
EXAMPLES_FILE = "examples.png"  # of an exported run
GRID_SIZE = 201  # points on a unit's traversal grid, hence positions of a slider


class Unit(NamedTuple):
    """A latent unit: its index, the one or two factors after which it is named, and its NMI with them. Both are empty if the data
    set has no factors."""

    index: int
    factors: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """For example 'eyes open + glasses', or 'unit 12' without a factor."""
        return " + ".join(self.factors).replace("_", " ") or f"unit {self.index}"

    def __index__(self) -> int:
        return self.index

    def __str__(self) -> str:
        """For example 'eyes open .56 + glasses .48 (unit 12)', or 'unit 12' without a factor."""
        if not self.factors:
            return self.name
        pairs = zip(self.factors, self.scores, strict=True)
        parts = (f"{factor} {score:.2f}".replace("_", " ").replace(" 0.", " .") for factor, score in pairs)
        return f"{' + '.join(parts)} (unit {self.index})"


def named_unit(index: int, nmi: np.ndarray, names: Sequence[str]) -> Unit:
    """A unit named after the factor with its highest NMI of `nmi` (factors,), and after the second one too if that NMI is at
    least half as high and at least .1."""
    first, *others = np.argsort(-nmi, kind="stable").tolist()
    followed = [first, *(f for f in others[:1] if nmi[f] >= max(nmi[first] / 2, 0.1))]
    return Unit(index, tuple(names[f] for f in followed), tuple(float(nmi[f]) for f in followed))


class Run:
    """One trained variant, opened by `load_run`.

    Images are uint8 (n, size, size, 3); `size` is the setting `image_size`. Features are float32 (n, units, dim), before
    alignment to the anchors. A unit is given by its index or as a `Unit`. Methods that decode take the number of sampling `steps`
    (None: the setting `sampling_steps`) and the `seed` of the initial noise.
    """

    def __init__(self, folder: Path, data_dir: Path | None = None, extensions: Sequence[Extension] = ()):
        self.folder = folder
        self.config: Config = load_config(folder)
        if tuple(type(extension).__name__ for extension in extensions) != self.config.extensions:
            names = ", ".join(self.config.extensions) or "no extensions"
            raise ValueError(f"{folder}: trained with {names}; pass the same to load_run(..., extensions=[...])")
        self.name = f"{self.config.variant}-seed{self.config.seed}"
        self.data_dir = data_dir
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = build_model(self.config, extensions).eval().requires_grad_(False)
        load_model(folder / "model.safetensors", self.model)
        self.model.to(self.device)

    @property
    def anchors(self):
        """The run's `GaussianAnchors`."""
        return self.model.anchors

    @cached_property
    def data(self):
        """The training data set. ValueError if it is not what the run was trained on."""
        data = load_dataset(self.config.dataset, self.data_dir, self.config.image_size)
        if not same_contents(self.config, data.identity):
            known = self.config.data or "data that an earlier version did not record"
            raise ValueError(f"{self.folder} was trained on {known}, now there is {data.identity}: restore that, or train anew")
        return data

    @cached_property
    def first_stage(self):
        """The run's trained first stage: its own copy, or that of its study. ValueError if it is not the run's."""
        stage = FIRST_STAGES[self.config.first_stage](self.config.image_size).eval().requires_grad_(False)
        load_model(first_stage_of(self.folder, self.config), stage)
        return stage.to(self.device)

    @cached_property
    def examples(self) -> np.ndarray:
        """16 images of the data set, (16, size, size, 3) uint8. An exported run has them in its folder."""
        path = self.folder / EXAMPLES_FILE
        if path.exists():
            with Image.open(path) as row:
                return np.stack(np.split(np.asarray(row.convert("RGB")), 16, axis=1))
        rows = np.random.default_rng(3).choice(len(self.data.images), 16, replace=len(self.data.images) < 16)
        return self.data.images[np.sort(rows)]

    @cached_property
    def factor_names(self) -> tuple[str, ...]:
        """The names of the data set's factors; empty if it has none."""
        return tuple(self.metrics.get("factor_names", ()))

    @cached_property
    def log(self) -> list[dict]:
        """The records of the training log, log.jsonl. ValueError if there is none, as in an exported run."""
        path = self._existing("log.jsonl", "log.jsonl: exports do not contain it")
        return [json.loads(line) for line in path.read_text().splitlines()]

    @cached_property
    def metrics(self) -> dict:
        """The contents of metrics.json. ValueError if the run has not been evaluated."""
        path = self._existing("metrics.json", "metrics.json: run notebook 02_training or 'dyga evaluate' first")
        return json.loads(path.read_text())

    @cached_property
    def projection(self) -> dict[str, np.ndarray]:
        """The contents of codes.safetensors. ValueError if the run has not been evaluated.

        Each unit's `mean` and principal `axis` (units, dim), the evaluated `rows` (n,) of the data set, their `codes` (n, units),
        and the scalars of the traversal grid, `path` (201, units * scalars).
        """
        return load_file(self._existing("codes.safetensors", "codes: run notebook 02_training or 'dyga evaluate' first"))

    def _existing(self, name: str, missing: str) -> Path:
        if not (self.folder / name).exists():
            raise ValueError(f"{self.folder} has no {missing}")
        return self.folder / name

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> np.ndarray:
        """Encode images (n, size, size, 3) uint8 to features (n, units, dim), before alignment. ValueError for other input."""
        images = np.asarray(images)
        side = self.config.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise ValueError(f"images is {images.dtype} {images.shape}: valid is uint8 (n, {side}, {side}, 3)")
        batches = range(0, len(images), 256)
        parts = [self.model.encode(to_tensor(images[i : i + 256]).to(self.device)).cpu() for i in batches]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.config.units, self.config.unit_dim), np.float32)

    def decode(
        self, features: np.ndarray, steps: int | None = None, seed: int = 0, temperature: float | None = None
    ) -> np.ndarray:
        """Decode features (n, units, dim) to images (n, size, size, 3) uint8, all from the same initial noise, whose standard
        deviation is `temperature` (None: the setting of this name). With 0, `seed` has no effect.

        ValueError if the shape is wrong, a value is not finite, or `steps` is not from 1 to 1,000.
        """
        features = np.asarray(features, dtype=np.float32)
        expected = (self.config.units, self.config.unit_dim)
        if features.ndim != 3 or features.shape[1:] != expected or not np.isfinite(features).all():
            raise ValueError(f"features is {features.shape}: valid are finite numbers of shape (n, {expected[0]}, {expected[1]})")
        steps = self.config.sampling_steps if steps is None else steps
        temperature = self.config.temperature if temperature is None else temperature
        parts = []
        for i in range(0, len(features), 64):
            latents = self.model.sample(torch.from_numpy(features[i : i + 64]).to(self.device), steps, seed, temperature)
            parts.append(to_images(self.first_stage.decode(latents)))
        return np.concatenate(parts) if parts else np.zeros((0, *[self.config.image_size] * 2, 3), np.uint8)

    def codes(self, images: np.ndarray) -> np.ndarray:
        """Encode images to codes (n, units): each unit's first principal component, the input of the metrics."""
        return self.project(self.encode(images))

    def project(self, features: np.ndarray) -> np.ndarray:
        """Project features (n, units, dim) on the principal axes of the evaluation: codes (n, units)."""
        return project(features, self.projection["mean"], self.projection["axis"])

    @cached_property
    def active(self) -> np.ndarray:
        """(units,) bool: the units that vary (`active_mask`)."""
        return active_mask(self.projection["codes"])

    @cached_property
    def active_units(self) -> list[Unit]:
        """The units whose codes have at least 5% of the largest standard deviation.

        With factors: first each factor's best unit by NMI, in the order of the factors, then the other units by their highest NMI
        with any factor. Without factors: by decreasing standard deviation.
        """
        spread, active = self.projection["codes"].std(axis=0), self.active
        if not self.factor_names:
            return [Unit(int(i)) for i in np.argsort(-spread, kind="stable") if active[i]]
        nmi = np.array(self.metrics["nmi"])
        order = dict.fromkeys([*nmi.argmax(axis=0).tolist(), *np.argsort(-nmi.max(axis=1), kind="stable").tolist()])
        return [named_unit(u, nmi[u], self.factor_names) for u in order if active[u]]

    def following(self, unit: Unit) -> list[int]:
        """The indices of `unit` and of all active units whose best factor is one of its factors. Without factors: only `unit`
        itself."""
        same = (other.index for other in self.active_units if set(other.factors[:1]) & set(unit.factors))
        return sorted({unit.index, *same})

    @cached_property
    def traversal_grid(self) -> np.ndarray:
        """Features along each unit's range, (201, units, dim). The grid index, 0 to 200, runs along the scalars of the evaluated
        sample (`dyga.study.evaluation.unit_path`)."""
        grid = torch.from_numpy(self.projection["path"])
        with torch.no_grad():
            return self.model.features(grid.to(self.device)).cpu().numpy()

    @torch.no_grad()
    def align(self, features: np.ndarray) -> np.ndarray:
        """Align features (n, units, dim) to their anchors: the denoiser's input. Unchanged in a variant without anchors."""
        return self.model.align(torch.from_numpy(features).to(self.device)).cpu().numpy()

    def assign(self, features: np.ndarray) -> np.ndarray:
        """The slot, 0 to max_anchors - 1, of the anchor that is most responsible for each of the features (n, units, dim): (n,
        units) int64. Slots are not the numbers of `anchors_along`. ValueError in a run without anchors."""
        return self.anchors.assign(torch.from_numpy(features).to(self.device)).cpu().numpy()

    def grid_indices(self, features: np.ndarray) -> np.ndarray:
        """The index of the nearest point on each unit's traversal grid: features (units, dim) -> (units,) int64, 0 to 200."""
        return np.linalg.norm(self.traversal_grid - features, axis=-1).argmin(axis=0)

    def anchors_along(self, unit: int | Unit) -> tuple[np.ndarray, np.ndarray]:
        """A unit's anchors, ordered along its traversal grid: the nearest grid indices (k,) int64 and the means (k, dim).

        k is 0 in a run without anchoring. ValueError for an unknown unit.
        """
        (unit,) = self._indices([unit])
        used = self.anchors.mask[unit] if self.config.anchoring else slice(0)
        means = self.anchors.means[unit][used].cpu().numpy()
        indices = np.linalg.norm(self.traversal_grid[:, None, unit] - means, axis=-1).argmin(axis=0)
        order = np.argsort(indices, kind="stable")
        return indices[order], means[order]

    def at_anchor(
        self, features: np.ndarray, unit: int | Unit, anchor: int, steps: int | None = None, seed: int = 0
    ) -> np.ndarray:
        """Decode features (n, units, dim) with one unit set to one of its anchors, numbered as in `anchors_along`.

        Returns images (n, size, size, 3). ValueError for an unknown unit or anchor.
        """
        (unit,), (_, means) = self._indices([unit]), self.anchors_along(unit)
        if not 0 <= anchor < len(means):
            raise ValueError(f"anchor {anchor}: unit {unit} has {len(means)} anchors, numbered from 0")
        features = features.copy()
        features[:, unit] = means[anchor]
        return self.decode(features, steps, seed)

    def traverse(
        self, image: np.ndarray, unit: int | Unit, count: int = 8, steps: int | None = None, seed: int = 0
    ) -> np.ndarray:
        """Vary one unit of `image` (size, size, 3) along its range and keep the others fixed: (count, size, size, 3).
        ValueError for an unknown unit, and as in `encode` and `decode`."""
        return self.decode(self.traversal_features(self.encode(image[None])[0], *self._indices([unit]), count), steps, seed)

    def traversal_features(self, features: np.ndarray, unit: int, count: int) -> np.ndarray:
        """Copies of features (units, dim) in which one unit takes `count` evenly spaced values of its traversal grid:
        (count, units, dim)."""
        moved = np.repeat(features[None], count, axis=0)
        moved[:, unit] = self.traversal_grid[even_indices(count), unit]
        return moved

    def swap(
        self, source: np.ndarray, target: np.ndarray, units: Sequence[int | Unit], steps: int | None = None, seed: int = 0
    ) -> np.ndarray:
        """Latent interchange (paper, Figure 3): decode `source` with `units` replaced by those of `target`.

        Both are one image (size, size, 3) or n images, and so is the result. ValueError for an unknown unit, and as in `encode`
        and `decode`.
        """
        indices, single = self._indices(units), np.ndim(source) == 3
        features = self.encode(source[None] if single else source)
        features[:, indices] = self.encode(target[None] if single else target)[:, indices]
        images = self.decode(features, steps, seed)
        return images[0] if single else images

    def export(self, folder: str | Path, half: bool = False) -> Path:
        """Writes one folder that can be moved and given away, with a model card: see `dyga.explore.export.export`."""
        from dyga.explore.export import export

        return export(self, Path(folder), half)

    @torch.no_grad()
    def attention(self, images: np.ndarray, steps: int = 10, seed: int = 0) -> np.ndarray:
        """Cross-attention maps (n, units, h, w) of images (n, size, size, 3) during sampling (paper, Figure 4).

        Maps are averaged over steps, heads and layers; each layer is first interpolated to the size of the latent.
        """
        layers, size = self.model.denoiser.keep_attention(True), self.model.latent_shape[-1]
        maps: list[Tensor] = []

        def collect(*_):
            squares = [layer.map.unflatten(-1, (int(layer.map.shape[-1] ** 0.5),) * 2) for layer in layers]
            resized = [torch.nn.functional.interpolate(s, (size, size), mode="bilinear") for s in squares]
            maps.append(torch.stack(resized).mean(dim=0))

        hook = self.model.denoiser.register_forward_hook(collect)
        try:
            features = torch.from_numpy(self.encode(images)).to(self.device)
            self.model.sample(features, steps, seed, self.config.temperature)
        finally:
            hook.remove()
            self.model.denoiser.keep_attention(False)
        return torch.stack(maps).mean(dim=0).cpu().numpy()

    def _indices(self, units: Sequence[int | Unit]) -> list[int]:
        indices = [index(unit) for unit in units]
        if wrong := [i for i in indices if not 0 <= i < self.config.units]:
            raise ValueError(f"units {wrong}: valid are 0 to {self.config.units - 1}")
        return indices


def load_run(folder: str | Path, data_dir: str | Path | None = None, extensions: Sequence[Extension] = ()) -> Run:
    """Opens runs/<dataset>-<profile>/<variant>-seed<k>, an exported folder, or "pretrained:rooms3d", with the user's own
    `extensions` that it was trained with. ValueError, naming the folder, if it holds no complete run, or for other
    extensions."""
    if str(folder).startswith(PRETRAINED):
        folder = _pretrained(str(folder))
    return Run(Path(folder).expanduser(), Path(data_dir).expanduser() if data_dir else None, extensions)


def _pretrained(name: str) -> Path:
    """The folder of a model that comes with the repository. ValueError lists what there is."""
    root = checkout()
    if root is None:
        raise ValueError(f"{name}: pretrained models come with a clone of the repository, not with the package")
    folders = {PRETRAINED + path.parent.name: path.parent for path in sorted(root.glob("data/pretrained/*/config.json"))}
    if name not in folders:
        raise ValueError(f"{name}: there is no such model: valid are {', '.join(folders)}")
    return folders[name]


def project(features: np.ndarray, mean: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Project features (n, units, dim), centred by `mean` (units, dim), on each unit's `axis` (units, dim): codes (n, units)."""
    return np.einsum("nud,ud->nu", features, axis) - np.einsum("ud,ud->u", mean, axis)


def even_indices(count: int) -> np.ndarray:
    """`count` evenly spaced indices of the traversal grid, from 0 to 200."""
    return np.linspace(0, GRID_SIZE - 1, count).round().astype(int)
