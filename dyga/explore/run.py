"""A trained model to play with: encode, decode, traverse, swap, attention."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from dyga import metrics
from dyga.checkpoint import load_config, load_model
from dyga.config import Config
from dyga.data import load_dataset
from dyga.extensions import Extension, build_model
from dyga.method.diffusion import to_images, to_tensor
from dyga.method.first_stages import FIRST_STAGES


class Unit(NamedTuple):
    """A latent unit by its number, and the factor that it follows best with their NMI; None where factors are not known."""

    index: int
    factor: str | None = None
    score: float | None = None

    def __str__(self) -> str:
        """'object hue .71 (unit 12)'."""
        named = f"{self.factor.replace('_', ' ')} {self.score:.2f} ".replace(" 0.", " .") if self.factor else ""
        return f"{named}(unit {self.index})" if named else f"unit {self.index}"


class Run:
    """One trained variant. Made by `load_run`; images are uint8 (n, 64, 64, 3), features float32 (n, units, dim)."""

    def __init__(self, folder: Path, data_dir: Path | None = None, extensions: Sequence[Extension] = ()):
        self.folder = folder
        self.config: Config = load_config(folder)
        given = tuple(type(extension).__name__ for extension in extensions)
        if given != self.config.extensions:
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
        """The data set that the run was trained on."""
        return load_dataset(self.config.dataset, self.data_dir)

    @cached_property
    def first_stage(self):
        """The first stage that the study's runs share."""
        stage = FIRST_STAGES[self.config.first_stage]().eval().requires_grad_(False)
        load_model(self.folder.parent / "first_stage" / "model.safetensors", stage)
        return stage.to(self.device)

    @cached_property
    def log(self) -> list[dict]:
        """The training log's records."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    @cached_property
    def metrics(self) -> dict:
        """metrics.json. ValueError if the run was not evaluated yet."""
        path = self.folder / "metrics.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no metrics.json: run notebook 02_training or 'dyga evaluate' first")
        return json.loads(path.read_text())

    @cached_property
    def projection(self) -> dict[str, np.ndarray]:
        """Each unit's principal axis, from codes.safetensors: mean and axis (units, dim)."""
        path = self.folder / "codes.safetensors"
        if not path.exists():
            raise ValueError(f"{self.folder} has no codes: run notebook 02_training or 'dyga evaluate' first")
        return load_file(path)

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images (n, 64, 64, 3) uint8 -> features (n, units, dim), before alignment. ValueError for other shapes or types."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (64, 64, 3):
            raise ValueError(f"images is {images.dtype} {images.shape}: valid is uint8 (n, 64, 64, 3)")
        batches = range(0, len(images), 256)
        parts = [self.model.encode(to_tensor(images[i : i + 256]).to(self.device)).cpu() for i in batches]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.config.units, self.config.unit_dim), np.float32)

    def decode(self, features: np.ndarray, steps: int = 10, seed: int = 0) -> np.ndarray:
        """Features (n, units, dim) -> images (n, 64, 64, 3) uint8, all from one noise tensor. ValueError for other shapes."""
        features = np.asarray(features, dtype=np.float32)
        expected = (self.config.units, self.config.unit_dim)
        if features.ndim != 3 or features.shape[1:] != expected or not np.isfinite(features).all():
            raise ValueError(f"features is {features.shape}: valid are finite numbers of shape (n, {expected[0]}, {expected[1]})")
        parts = []
        for i in range(0, len(features), 64):
            latents = self.model.sample(torch.from_numpy(features[i : i + 64]).to(self.device), steps, seed)
            parts.append(to_images(self.first_stage.decode(latents)))
        return np.concatenate(parts) if parts else np.zeros((0, 64, 64, 3), np.uint8)

    def codes(self, images: np.ndarray) -> np.ndarray:
        """Images -> (n, units): each unit's first principal component, what the metrics see."""
        return self.project(self.encode(images))

    def project(self, features: np.ndarray) -> np.ndarray:
        """Features (n, units, dim) -> codes (n, units) along the axes fitted when the run was evaluated."""
        return project(features, self.projection["mean"], self.projection["axis"])

    @cached_property
    def active_units(self) -> list[Unit]:
        """The units whose codes spread at least a twentieth as far as the widest's: with factors, first the one assigned to each
        factor, in the factors' order, then the others by how well they follow any; else by spread."""
        spread = self.projection["codes"].std(axis=0)
        active = spread >= 0.05 * spread.max()
        if self.data.factors is None:
            return [Unit(int(i)) for i in np.argsort(-spread, kind="stable") if active[i]]
        nmi, names = np.array(self.metrics["nmi"]), self.data.factor_names
        order = metrics.unit_order(nmi)
        factors = [*range(min(len(names), len(order))), *nmi[order[len(names) :]].argmax(axis=1)]
        pairs = zip(order.tolist(), factors, strict=True)
        return [Unit(u, names[f], float(nmi[u, f])) for u, f in pairs if active[u]]

    def following(self, unit: Unit) -> list[int]:
        """The numbers of all active units that follow the factor of `unit`, its own among them; that alone without factors."""
        same = (other.index for other in self.active_units if other.factor and other.factor == unit.factor)
        return sorted({unit.index, *same})

    @cached_property
    def curve(self) -> np.ndarray:
        """(201, units, dim): each unit's features along the way through the scalars of the evaluated sample (`unit_path`)."""
        grid = torch.from_numpy(self.projection["path"])
        with torch.no_grad():
            return self.model.features(grid.to(self.device)).cpu().numpy()

    @torch.no_grad()
    def align(self, features: np.ndarray) -> np.ndarray:
        """Features (n, units, dim) -> as the denoiser is told them: drawn toward their anchors, if the variant has any."""
        return self.model.align(torch.from_numpy(features).to(self.device)).cpu().numpy()

    def assign(self, features: np.ndarray) -> np.ndarray:
        """Features (n, units, dim) -> (n, units) int64: the number of the anchor that each is drawn to."""
        return self.anchors.assign(torch.from_numpy(features).to(self.device)).cpu().numpy()

    def places(self, features: np.ndarray) -> np.ndarray:
        """Features (units, dim) -> where on each unit's `curve` they are, (units,) int64 from 0 to 200."""
        return np.linalg.norm(self.curve - features, axis=-1).argmin(axis=0)

    def anchors_along(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """A unit's anchors in their order along its range: places on its `curve` (k,) int64, means (k, dim). None in a run
        without anchoring."""
        self._check_units([unit])
        used = self.anchors.mask[unit] if self.config.anchoring else slice(0)
        means = self.anchors.means[unit][used].cpu().numpy()
        places = np.linalg.norm(self.curve[:, None, unit] - means, axis=-1).argmin(axis=0)
        order = np.argsort(places, kind="stable")
        return places[order], means[order]

    def at_anchor(self, features: np.ndarray, unit: int, anchor: int, steps: int = 10, seed: int = 0) -> np.ndarray:
        """Images decoded from features (n, units, dim) with one unit at its anchor number `anchor` along its range."""
        _, means = self.anchors_along(unit)
        if not 0 <= anchor < len(means):
            raise ValueError(f"anchor {anchor}: unit {unit} has {len(means)}, numbered from 0")
        features = features.copy()
        features[:, unit] = means[anchor]
        return self.decode(features, steps, seed)

    def traverse(self, image: np.ndarray, unit: int, count: int = 8, steps: int = 10, seed: int = 0) -> np.ndarray:
        """`count` images along one unit's range, the other units held at those of `image` (64, 64, 3)."""
        self._check_units([unit])
        features = np.repeat(self.encode(image[None]), count, axis=0)
        features[:, unit] = self.curve[np.linspace(0, 200, count).round().astype(int), unit]
        return self.decode(features, steps, seed)

    def swap(self, source: np.ndarray, target: np.ndarray, units: Sequence[int], steps: int = 10, seed: int = 0) -> np.ndarray:
        """Latent interchange (paper, Figure 3): `source` with `units` taken from `target`; one image or (n, 64, 64, 3)."""
        self._check_units(units)
        single = np.ndim(source) == 3
        features = self.encode(source[None] if single else source)
        features[:, list(units)] = self.encode(target[None] if single else target)[:, list(units)]
        images = self.decode(features, steps, seed)
        return images[0] if single else images

    @torch.no_grad()
    def attention(self, images: np.ndarray, steps: int = 10, seed: int = 0) -> np.ndarray:
        """Images (n, 64, 64, 3) -> (n, units, h, w): cross-attention maps while sampling, averaged over steps, heads and the
        layers, each brought to the finest resolution."""
        layers = self.model.denoiser.keep_attention(True)
        maps: list[Tensor] = []
        size = self.model.latent_shape[-1]

        def collect(*_):
            squares = [layer.map.unflatten(-1, (int(layer.map.shape[-1] ** 0.5),) * 2) for layer in layers]
            resized = [torch.nn.functional.interpolate(s, (size, size), mode="bilinear") for s in squares]
            maps.append(torch.stack(resized).mean(dim=0))

        hook = self.model.denoiser.register_forward_hook(collect)
        try:
            self.model.sample(torch.from_numpy(self.encode(images)).to(self.device), steps, seed)
        finally:
            hook.remove()
            self.model.denoiser.keep_attention(False)
        return torch.stack(maps).mean(dim=0).cpu().numpy()

    def _check_units(self, units: Sequence[int]) -> None:
        wrong = [u for u in units if not 0 <= u < self.config.units]
        if wrong:
            raise ValueError(f"units {wrong}: valid are 0 to {self.config.units - 1}")


def load_run(folder: str | Path, data_dir: str | Path | None = None, extensions: Sequence[Extension] = ()) -> Run:
    """Opens runs/<dataset>-<profile>/<variant>-seed<k>, with the user's own `extensions` that it was trained with. ValueError,
    naming the folder, if it holds no complete run."""
    return Run(Path(folder), Path(data_dir) if data_dir else None, extensions)


def project(features: np.ndarray, mean: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Features (n, units, dim) -> codes (n, units) along each unit's axis (units, dim), from its mean (units, dim)."""
    return np.einsum("nud,ud->nu", features, axis) - np.einsum("ud,ud->u", mean, axis)
