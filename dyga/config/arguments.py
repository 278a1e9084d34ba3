"""Arguments of commands and studies: lists of variants and seeds, names of folders, and checks before the work starts."""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dyga.config.datasets import DATASETS
from dyga.config.presets import IMAGE_SUFFIXES, VARIANTS, absolute_dataset, is_own
from dyga.config.schema import Config, as_text, parse_changes


def parse_variants(text: str) -> tuple[str, ...]:
    """'encdiff,full' -> variant names in the order given; 'all': the first seven; 'ablation': every one. ValueError lists the
    valid."""
    sets = {"all": tuple(VARIANTS)[:7], "ablation": tuple(VARIANTS)}
    names = sets.get(text) or tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"unknown variant '{name}': valid are {', '.join(VARIANTS)}, or alone {' or '.join(sets)}")
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


def parse_number(text: str, what: str, low: int, high: int) -> int:
    """'3' -> 3. ValueError, naming `what`, unless it is one number in low..high."""
    if not re.fullmatch(r"\d+", text) or not low <= int(text) <= high:
        raise ValueError(f"{what} '{text}': valid is one number from {low} to {high}")
    return int(text)


def study_name(profile: str, dataset: str, changes: str = "") -> str:
    """The folder of a study: <dataset>-<profile>, then what was changed, as 'rooms3d-quick+steps=3000'."""
    changed = "".join(f"+{name}={as_text(value)}" for name, value in parse_changes(changes).items())
    if len(changed) > 80 or re.search(r"[^\w+=.,-]", changed):
        changed = f"+{hashlib.sha256(changed.encode()).hexdigest()[:10]}"
    return f"{folder_name(dataset)}-{profile}{changed}"


def folder_name(dataset: str) -> str:
    """A data set's name as a folder's: that of own data is its kind, the path's last part, and a digest that tells two apart."""
    dataset = absolute_dataset(dataset)
    if not is_own(dataset):
        return dataset
    kind, _, path = dataset.partition(":")
    last = re.sub(r"[^\w.-]", "_", Path(path).name)[:40]
    return f"{kind}-{last}-{hashlib.sha256(os.fsencode(dataset)).hexdigest()[:6]}"


def existing_dataset(name: str) -> str:
    """`absolute_dataset` of a command's argument. ValueError if own data are not there; the hub is not asked."""
    absolute = absolute_dataset(name)
    kind, _, path = absolute.partition(":")
    there = {"folder": os.path.isdir, "npz": os.path.isfile, "hf": lambda path: os.path.isdir(path) or not os.path.isabs(path)}
    if is_own(name) and not there[kind](path):
        raise ValueError(f"data set {name}: there is no such {'file' if kind == 'npz' else 'folder'}")
    return absolute


def check_writable(folder: Path, option: str = "--out") -> None:
    """ValueError, naming the option, unless files can be written to `folder` or, if it is not there, to its nearest parent."""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"{option} {folder}: {existing} is not a folder that can be written to")


def check_name(name: str) -> None:
    """ValueError unless `name` can be the name of a study's folder."""
    if not re.fullmatch(r"[\w+=,-][\w+=.,-]*", name):
        raise ValueError(f"name '{name}': valid are letters, digits, _ + = , - and dots, except at the start")


def check_variants(configs: Iterable[Config]) -> None:
    """ValueError if changed settings make two variants the same."""
    made: dict[Config, str] = {}
    for config in configs:
        same = made.setdefault(replace(config, variant=""), config.variant)
        if same != config.variant:
            raise ValueError(f"with {config.changes} the variants {same} and {config.variant} are the same: leave one out")


def image_files(folder: Path) -> list[str]:
    """Paths of all files under `folder` with an image's ending, in order. Hidden ones and those that archives leave behind
    (`._x.jpg`, `__MACOSX/`, `.ipynb_checkpoints/`) do not count; links without a target do, and cannot be read. Linked folders
    count, each folder once."""

    def refuse(error: OSError) -> None:
        raise ValueError(f"folder: {error.filename} cannot be read ({error.strerror})") from None

    found, seen, hidden = [], set(), (".", "__MACOSX")
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(hidden))
        images = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(hidden)]
        paths = [os.path.join(parent, name) for name in images]
        found += [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]
    return sorted(found, key=lambda path: path.split(os.sep))


def check_images(config: Config, count: int | None = None, labelled: bool = False) -> None:
    """ValueError if the data set has a single image, fewer than 20 `labelled` ones, or fewer than a batch set by hand. `count` is
    the number of images. By default they are counted, not opened, and those of the Hugging Face library are not counted."""
    count = _count(config.dataset) if count is None else count
    if count == 1:
        raise ValueError(f"{config.dataset} has one image: at least 2 are needed")
    if labelled and count < 20:
        raise ValueError(f"{config.dataset}: {count} images with labels; the metrics need at least 20 (or no labels)")
    if "batch" in parse_changes(config.changes) and count and config.batch > count:
        raise ValueError(
            f"batch={config.batch}: {config.dataset} has {count:,} images; choose a batch of at most that (--set batch=N)"
        )


def _count(dataset: str) -> int:
    """The number of images; 0 if it is not known before they are opened."""
    kind, _, path = dataset.partition(":")
    if dataset in DATASETS:
        return DATASETS[dataset].images
    return len(image_files(Path(path))) if kind == "folder" else _npz_count(path) if kind == "npz" else 0


def _npz_count(path: str) -> int:
    """The number of images in an npz file, from the header of its array; 0 if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("images.npy") as stream:
            found = re.search(rb"'shape': \((\d+),", stream.read(1_000))
    except (OSError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return 0
    return int(found[1]) if found else 0
