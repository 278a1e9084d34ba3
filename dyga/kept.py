"""What kept results were made of: recorded beside them, and compared before they are used. Needs no torch."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from dyga.config import Config, is_own
from dyga.provenance import write_atomically, write_json

RESULTS = (".json", ".jsonl", ".npy", ".pt", ".safetensors")
FIRST_STAGE, CLASSIFIER = "first_stage", "factor_classifier"  # folders of a study
GENERATED = "generated"  # a folder of a run


def check_made_of(path: Path, made_of: Mapping) -> None:
    """Compares the record at `path` (JSON) with `made_of`: the names and values of the data and settings that its folder's
    results must be made of. A setting that the record lacks has its default.

    ValueError names what differs. A folder with results but without a record is refused too. Nothing happens for a new folder.
    """
    folder, remedy = path.parent, "delete that folder to make it anew, or choose another one"
    if not path.exists():
        results = sorted(each.name for each in folder.glob("*") if each.suffix in RESULTS or each.name == GENERATED)
        if results:
            raise ValueError(f"{folder} holds {results[0]}, but no {path.name} that says what it was made of: {remedy}")
        return
    try:
        recorded = dict(json.loads(path.read_text()))
    except (TypeError, ValueError):
        raise ValueError(f"{path}: damaged: {remedy}") from None
    defaults, wanted = _plain(asdict(Config())), _plain(made_of)
    names = [*wanted, *(name for name in recorded if name not in wanted)]
    pairs = {name: (recorded.get(name, defaults.get(name)), wanted.get(name)) for name in names}
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if differing:
        kind = "data" if "data" in differing else "settings"
        if kind == "data":  # its identity contains its name
            differing.pop("dataset", None)
        pairs = {name: ("unknown" if there in (None, "") else there, here) for name, (there, here) in differing.items()}
        shown = [f"{name} was {there!r}, now {here!r}" for name, (there, here) in pairs.items()]
        raise ValueError(f"{folder} was made of other {kind} ({'; '.join(shown[:4])}): {remedy}")


def claim(path: Path, made_of: Mapping) -> None:
    """`check_made_of`, then writes the record of a new folder."""
    check_made_of(path, made_of)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(made_of))


def _plain(values: Mapping) -> dict:
    """The values as JSON returns them: tuples as lists."""
    return json.loads(json.dumps(dict(values)))


def same_contents(config: Config, identity: str) -> bool:
    """Whether data of this identity are those of a run. Own data may have moved: their digest decides."""
    if is_own(config.dataset):
        return identity.rpartition(" ")[2] == config.data.rpartition(" ")[2]
    return identity == config.data


def first_stage_settings(config: Config) -> dict:
    """What the first stage of a run is made of."""
    return {"data": config.data, "first_stage": config.first_stage, "first_stage_steps": config.first_stage_steps}


def classifier_settings(config: Config) -> dict:
    """What the factor classifier is made of."""
    return {"data": config.data, "classifier_steps": config.classifier_steps}


def check_first_stage(folder: Path, config: Config) -> Path:
    """The weights of the first stage in `folder`. ValueError unless they are there, are made of the run's data and settings, and
    are those that were trained there, and that the run was trained with."""
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise ValueError(f"{weights}: there is no such first stage: train it first (dyga first-stage)")
    check_made_of(folder / "config.json", first_stage_settings(config))
    found = digest(weights.read_bytes())
    try:
        expected = {json.loads((folder / "provenance.json").read_text())["digest"], config.first_stage_digest or found}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{folder / 'provenance.json'}: missing or damaged: delete the folder and train it again") from None
    if expected != {found}:
        raise ValueError(f"{weights} is another first stage than the run's: its digest is {found}, not {min(expected - {found})}")
    return weights


def first_stage_of(run: Path, config: Config) -> Path:
    """The weights of a run's first stage: its own copy, else its study's. ValueError as in `check_first_stage`."""
    own = run / FIRST_STAGE
    return check_first_stage(own if (own / "model.safetensors").exists() else run.parent / FIRST_STAGE, config)


def keep_first_stage(run: Path, config: Config) -> None:
    """Links or copies the study's first stage into a run's folder, if it is trained and the run's. The run can then be moved."""
    try:
        source = first_stage_of(run, config).parent
    except ValueError:  # said when it is needed
        return
    (run / FIRST_STAGE).mkdir(exist_ok=True)
    for name in ("config.json", "provenance.json", "model.safetensors"):  # the weights last: with them the copy is complete
        try:
            os.link(source / name, run / FIRST_STAGE / name)
        except FileExistsError:
            pass
        except OSError:  # another disk, or one without links
            write_atomically(run / FIRST_STAGE / name, (source / name).read_bytes())


def digest(content: bytes) -> str:
    """16 hexadecimal digits for a file's content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
