"""`dyga score`: the metrics of codes in a file, whatever made them."""

import html
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dyga import metrics
from dyga.data import known_factors
from dyga.data.labels import as_classes
from dyga.metrics.factor_vae import MIN_STD
from dyga.metrics.tad import binary_columns

ENDINGS = (".npy", ".npz", ".csv", ".safetensors")
MIXTURE = ("means", "sigma", "pi", "K")
STRENGTH = 0.1  # of the released alignment
MAX_ROWS = 10_000  # rows for the mixing weight


@dataclass(frozen=True)
class Scored:
    """The metrics `table` and the DCI `importance` (units, factors) of codes, a `diagnosis` and `notes` in sentences."""

    title: str
    notes: list[str]
    table: pd.DataFrame
    importance: np.ndarray
    factor_names: tuple[str, ...]
    diagnosis: tuple[str, ...]

    def text(self) -> str:
        """What the command prints."""
        table = _printed(self.table).to_string(index=False)
        diagnosis = "\n".join(f"  {sentence}" for sentence in self.diagnosis)
        return "\n".join([self.title, *self.notes, "", table, "", "Diagnosis", diagnosis])

    def write_page(self, path: Path) -> None:
        """One HTML page that loads nothing: table, diagnosis and heat map."""
        from dyga.plots import heat_map
        from dyga.plots.style import EXPORT_DPI
        from dyga.provenance import describe
        from dyga.study.report import embedded, footer, page

        figure, buffer = heat_map({"DCI importance": self.importance}, self.factor_names, "DCI importance"), io.BytesIO()
        # Hundreds of units make a long picture.
        figure.savefig(buffer, format="png", dpi=min(EXPORT_DPI, 20_000 / figure.get_figheight()))
        picture = f'<img alt="{figure.get_label()}" src="{embedded("png", buffer)}">'
        content = [
            f"<header><h1>Scores of {html.escape(self.title)}</h1></header>",
            *(f"<p>{html.escape(note)}</p>" for note in self.notes),
            "<h2>Diagnosis</h2>",
            f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in self.diagnosis)}</ul>",
            "<h2>Metrics</h2>",
            _printed(self.table).to_html(index=False, escape=True, border=0),
            "<h2>DCI importance</h2>",
            f"<figure>{picture}</figure>",
            footer(describe()),
        ]
        page(path, f"Scores of {self.title}", "\n".join(content))


def score_file(
    codes: Path,
    factors: Path | None = None,
    dataset: str = "",
    *,
    gaussians: Path | None = None,
    num_train: int = 10_000,
    num_test: int = 5_000,
    estimator: metrics.table.Estimator = "lightgbm",
    seed: int = 0,
    progress: bool = True,
) -> Scored:
    """Scores the codes (n, units) or features (n, units, dim) of a file by the factors of another, or of a known `dataset`.

    Features are reduced to each unit's first principal component. Fewer rows than num_train + num_test are shared out in the
    same proportion. With `gaussians`, the authors' published ones, the notes say which mixing weight their alignment has on the
    features. ValueError, which names the file, for anything wrong with the input; all of it is checked before the first metric.
    """
    values = _read(codes, ("codes", "latents"))[0]
    _check_codes(codes, values)
    if values.dtype.kind != "f":  # differences of booleans and of small integers are not what they seem
        values = values.astype(float)
    labels, names = _known(dataset) if factors is None else _read_factors(factors)
    where = dataset if factors is None else factors
    if len(values) != len(labels):
        raise ValueError(f"{codes} has {len(values):,} rows, but {where} has {len(labels):,}: one row each is needed")
    notes = []
    if gaussians is not None:
        if values.ndim != 3:
            raise ValueError(f"--gaussians needs features (n, units, dim), but {codes} has shape {values.shape}")
        notes += _released_alignment(gaussians, values, seed)
    if values.ndim == 3:
        notes.append(f"Features (n, units, dim) {values.shape} are reduced to each unit's first principal component.")
        values = _reduced(values)
    total = num_train + num_test
    if len(values) < total:
        num_train = len(values) * num_train // total
        num_test = len(values) - num_train
        notes.append(
            f"{total:,} rows are asked for, {len(values):,} are there: {num_train:,} for training, {num_test:,} for tests."
        )
    least, least_test = metrics.table.MIN_TRAIN, metrics.table.MIN_TEST
    if num_train < least or num_test < least_test:
        needed = f"{least} are needed for training and {least_test} for tests"
        raise ValueError(f"{codes} has {len(values):,} rows: too few, since {needed}")
    small = (values.std(axis=0) < MIN_STD) & (np.ptp(values, axis=0) > 0)
    if small.any():
        notes.append(f"The FactorVAE score's protocol drops units with a standard deviation below {MIN_STD}: {small.sum()} here.")
    binary = binary_columns(labels)
    chosen = [name for name in metrics.table.AVAILABLE if name != "tad" or binary]
    if 0 < len(binary) < len(names):
        notes.append(f"TAD is of the {len(binary)} binary factors of {len(names)}.")
    options = {"metrics": chosen, "num_train": num_train, "num_test": num_test, "estimator": estimator, "seed": seed}
    table, dci = metrics.evaluate_with_intervals(values, labels, **options, n_jobs=-1, progress=progress)
    notes.append(
        f"DCI by {estimator}; its size score (factors / units) is {dci.size:.2f}. MCC and R2 take factor values as numbers: they "
        "count only for ordered factors. Intervals are 95%, by subsampling rows. Chance: the same codes, rows permuted; "
        "with 4,000 training rows or more an eighth of the rows for DCI, SAP, InfoMEC, modularity and explicitness, which "
        "overstates the chance level of InfoMEC's explicitness."
    )
    found = metrics.diagnose(values, labels, names, dci=dci, num_train=num_train, seed=seed)
    title = f"{codes.name}: {len(values):,} rows, {values.shape[1]} units, {len(names)} factors"
    return Scored(title, notes, table, dci.importance, tuple(names), found.sentences)


def _printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers: names without underscores, three digits, the interval in one column."""
    interval = [f"[{low:.3f}, {high:.3f}]" for low, high in zip(table["low"], table["high"], strict=True)]
    shown = {"metric": table["metric"].str.replace("_", " "), "quantity": table["quantity"]}
    shown |= {"value": table["value"].map("{:.3f}".format), "95% interval": interval}
    return pd.DataFrame(shown | {"chance": table["chance"].map("{:.3f}".format)})


def _read(path: Path, keys: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A file's array, by the first of `keys` where it has several, and its columns' names if it has any. ValueError names the
    file."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path}: unknown ending '{path.suffix}': valid are {', '.join(ENDINGS)}")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        return _read_csv(path) if path.suffix == ".csv" else _read_binary(path, keys)
    except Exception as error:  # readers raise many types for a damaged file
        raise ValueError(f"{path} cannot be read: {error}") from None


def _read_csv(path: Path) -> tuple[np.ndarray, list[str]]:
    """Numbers separated by commas. A first line that holds other words is the header. ValueError for what pandas writes with an
    index, or with numbers as a header."""
    with path.open(encoding="utf-8-sig") as stream:
        first = [cell.strip().strip('"') for cell in stream.readline().split(",")]
    if first == [""]:
        raise ValueError("it is empty")
    if not first[0]:
        raise ValueError("its first column has no name, as an index: write it without one (pandas: index=False)")
    if len(first) > 3 and first == [str(number) for number in range(len(first))]:
        raise ValueError("its first line is 0, 1, 2, ..., as a header: name the columns or delete the line")
    try:
        header = not [float(cell) for cell in first]
    except ValueError:
        header = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # without rows the shape is refused
        array = np.loadtxt(path, delimiter=",", skiprows=int(header), ndmin=2, comments=None, encoding="utf-8-sig", quotechar='"')
    return array, first if header else []


def _read_binary(path: Path, keys: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    if path.suffix == ".safetensors":
        import torch
        from safetensors import safe_open

        with safe_open(path, "pt") as file:  # not numpy, which has no bfloat16
            tensor = file.get_tensor(_key(list(file.keys()), keys, single=True))
            return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy(), []
    with np.load(path, allow_pickle=False) if path.suffix == ".npz" else path.open("rb") as file:
        if path.suffix == ".npy":
            return np.lib.format.read_array(file, allow_pickle=False), []
        names = np.ravel(file["factor_names"]).tolist() if "factor_names" in file else []
        return file[_key(list(file), keys)], [str(name) for name in names]


def _key(found: list[str], keys: Sequence[str], single: bool = False) -> str:
    if single and len(found) == 1:
        return found[0]
    known = [key for key in keys if key in found]
    if not known:
        raise ValueError(f"it has no key {' or '.join(keys)}; its keys are {', '.join(found) or 'none'}")
    return known[0]


def _check_numbers(path: Path, array: np.ndarray) -> None:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds {array.dtype} values: valid are real numbers")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"{path} has {bad:,} NaN or infinite values: all must be finite")


def _check_codes(path: Path, array: np.ndarray) -> None:
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"{path} has shape {array.shape}: valid is (n, units) or (n, units, dim)")
    _check_numbers(path, array)


def _known(dataset: str) -> tuple[np.ndarray, Sequence[str]]:
    try:
        return known_factors(dataset)
    except ValueError as error:
        raise ValueError(f"--dataset {dataset}: {error}") from None


def _read_factors(path: Path) -> tuple[np.ndarray, Sequence[str]]:
    """Factors (n, k) int64 and their names."""
    array, names = _read(path, ("factors",))
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{path} has shape {array.shape}: valid is (n, factors)")
    names = names or [f"factor {column}" for column in range(array.shape[1])]
    if len(names) != array.shape[1]:
        raise ValueError(f"{path} has {len(names)} names for {array.shape[1]} factors")
    _check_numbers(path, array)
    fractions = np.argwhere(array != np.round(array)) if array.dtype.kind == "f" else ()
    if len(fractions):
        row, column = fractions[0]
        raise ValueError(f"{path}: factor '{names[column]}' is {array[row, column]:g} in row {row + 1}: factors must be integers")
    for name, column in zip(names, array.T, strict=True):
        try:
            as_classes(column.astype(np.int64))
        except ValueError as error:
            raise ValueError(f"{path}: factor '{name}' {error}") from None
    return array.astype(np.int64), names


def _reduced(features: np.ndarray) -> np.ndarray:
    """Features (n, units, dim) -> codes (n, units): each unit's first principal component, as in the package's evaluation."""
    from dyga.explore.run import project
    from dyga.study.evaluation import principal_axes

    if features.shape[2] == 1:
        return features[:, :, 0]
    mean, axis = principal_axes(features)
    axis *= (np.ptp(features, axis=0) > 0).any(axis=1, keepdims=True)  # the axis of a constant unit would follow rounding errors
    return project(features, mean, axis)


def _released_alignment(path: Path, features: np.ndarray, seed: int) -> list[str]:
    """What the authors' alignment does to features (n, units, dim) with their published Gaussians, in sentences."""
    import torch

    from dyga.extensions.alignment import align_as_released

    anchors, low, high = released_anchors(path, features)
    rows = np.sort(np.random.default_rng(seed).permutation(len(features))[:MAX_ROWS])
    batch = torch.from_numpy(features[rows].astype(np.float32))
    weight = float(align_as_released(anchors, batch, STRENGTH, low, high)[1])
    paper = anchors.diagnose(batch, STRENGTH).weight.mean()
    zeros = float((batch == 0).float().mean())
    return [
        f"Released alignment on {len(rows):,} rows: mixing weight {weight:.4f} at strength {STRENGTH}. {zeros:.1%} of the "
        "features are exactly 0. The weight falls with the mean relative distance, to which each of them adds up to 1,000,000.",
        f"The paper's formula with the same Gaussians: mean weight {paper:.4f}. Published features were saved after alignment.",
    ]


def released_anchors(path: Path, features: np.ndarray):
    """The authors' Gaussians as `GaussianAnchors` in the space of features (n, units, dim), and the features' smallest and
    largest values (units,), by which the authors normalise them to [-1, 0].

    The file has `means` (sum of K, dim), `sigma` (sum of K, dim, dim) and `pi` (sum of K,), concatenated over units, and `K`
    (units,). ValueError, which names the file, for anything else.
    """
    import torch

    from dyga.method.anchors import GaussianAnchors

    units, dim = features.shape[1:]
    means, sigma, pi, counts = (_read(path, (key,))[0] for key in MIXTURE)
    counts, pi = counts.ravel(), pi.ravel()
    for array in (means, sigma, pi, counts):
        _check_numbers(path, array)
    total = int(counts.sum())
    if counts.shape != (units,) or counts.min() < 1 or counts.dtype.kind not in "iu":
        found = f"it is {counts.dtype} {counts.shape}, its smallest value {counts.min()}"
        raise ValueError(f"{path}: K must be {units} integers of at least 1, one per unit; {found}")
    if means.shape != (total, dim) or sigma.shape != (total, dim, dim) or pi.shape != (total,):
        wanted = f"({total}, {dim}), ({total}, {dim}, {dim}) and ({total},)"
        raise ValueError(f"{path}: means, sigma and pi must be {wanted}; they are {means.shape}, {sigma.shape} and {pi.shape}")
    low, high = features.min(axis=(0, 2)).astype(float), features.max(axis=(0, 2)).astype(float)
    anchors = GaussianAnchors(units, dim, int(counts.max()), subspace=dim).double()
    state = anchors.state_dict()
    starts = np.cumsum(counts) - counts
    for unit, (start, count) in enumerate(zip(starts, counts, strict=True)):
        own = slice(start, start + count)
        span = max(high[unit] - low[unit], np.finfo(np.float32).tiny)
        variances, axes = np.linalg.eigh(sigma[own].astype(float) * span**2)
        variances = np.maximum(variances, 1e-12 * variances.max(axis=1, keepdims=True)).clip(np.finfo(np.float32).tiny)
        slots = {
            "weights": pi[own] / pi[own].sum(),
            "means": means[own] * span + high[unit],
            "axes": axes,
            "variances": variances,
            "noise": variances.min(axis=1),
            "intrinsic_dims": np.full(count, dim),
            "mask": np.full(count, True),
        }
        for name, value in slots.items():
            state[name][unit, :count] = torch.from_numpy(np.asarray(value))
    anchors.load_state_dict(state)
    return anchors, torch.from_numpy(low), torch.from_numpy(high)
