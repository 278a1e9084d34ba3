"""Exports a run: one folder with all that `load_run` needs, and a model card. The folder can be moved and given away."""

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save as save_arrays
from safetensors.torch import load_file, save

from dyga import __version__, plots
from dyga.config import VARIANTS, Config, is_own
from dyga.explore.run import EXAMPLES_FILE, Run
from dyga.kept import FIRST_STAGE, digest, first_stage_of, first_stage_settings
from dyga.provenance import git_commit, write_json

HALF_ROWS = 2_500  # codes kept by an export in half precision
HALF_SIZE = 1_000  # tensors with fewer numbers keep their precision
SHOWN = 12  # units in the card's picture of traversals


def export(run: Run, folder: Path, half: bool = False) -> Path:
    """Writes `folder`: weights, first stage, settings, anchors, projection, metrics, 16 example images and a model card,
    README.md. `load_run(folder)` opens it on any machine, with the user's own extensions if there are any; on the same machine
    and versions, decoded images are the same bit for bit.

    With `half`, weights are kept as 16 bit numbers and codes of 2,500 images, which halves the size; images then differ by about
    one grey level. The name of own data is reduced to its last part. Returns `folder`. ValueError if it exists and is not empty,
    or if the run is not evaluated or lacks its first stage; nothing is written then.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: choose another folder")
    metrics, projection, examples = run.metrics, run.projection, run.examples
    stage_path = first_stage_of(run.folder, run.config)
    stage, stage_origin = _weights(stage_path, half), json.loads(stage_path.with_name("provenance.json").read_text())
    config = portable(run.config)
    config = replace(config, first_stage_digest=config.first_stage_digest and digest(stage))
    if half:
        kept = np.sort(np.random.default_rng(0).choice(len(projection["rows"]), min(HALF_ROWS, len(projection["rows"])), False))
        projection = projection | {"rows": projection["rows"][kept], "codes": projection["codes"][kept]}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", suffix=".partial") as scratch:
        partial = Path(scratch) / folder.name  # renamed when it is complete
        (partial / FIRST_STAGE).mkdir(parents=True)
        write_json(partial / "config.json", asdict(config))
        (partial / "model.safetensors").write_bytes(_weights(run.folder / "model.safetensors", half))
        (partial / "codes.safetensors").write_bytes(save_arrays({k: np.ascontiguousarray(v) for k, v in projection.items()}))
        (partial / FIRST_STAGE / "model.safetensors").write_bytes(stage)
        write_json(partial / FIRST_STAGE / "config.json", first_stage_settings(config))
        note = stage_origin.get("note", "").partition(": download")[0]  # what follows names a folder of this machine
        write_json(partial / FIRST_STAGE / "provenance.json", stage_origin | {"digest": digest(stage), "note": note})
        write_json(partial / "metrics.json", metrics)
        if (run.folder / "interventions.json").exists():
            shutil.copyfile(run.folder / "interventions.json", partial / "interventions.json")
        Image.fromarray(np.concatenate(list(examples), axis=1)).save(partial / EXAMPLES_FILE)
        _pictures(run, examples, partial)
        (partial / "README.md").write_text(model_card(run, config, half))
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    return folder


def portable(config: Config) -> Config:
    """The settings without the path of own data: `folder:/home/me/photos` becomes `folder:photos`, also in the identity. A folder
    of the library datasets becomes `hf:./faces`, since `hf:faces` is a name on the hub."""
    if not is_own(config.dataset):
        return config
    kind, _, path = config.dataset.partition(":")
    if Path(path).is_absolute():
        path = "./" * (kind == "hf") + Path(path).name
    dataset = f"{kind}:{path}"
    return replace(config, dataset=dataset, data=config.data.replace(config.dataset, dataset, 1))


def _weights(path: Path, half: bool) -> bytes:
    """The file's contents; with `half`, its larger tensors in 16 bit. The anchors' small variances would vanish in 16 bit."""
    if not half:
        return path.read_bytes()
    tensors = load_file(path)
    narrow = {n for n, t in tensors.items() if t.is_floating_point() and t.numel() >= HALF_SIZE and not n.startswith("anchors.")}
    return save({name: tensor.to(torch.float16) if name in narrow else tensor for name, tensor in tensors.items()})


def _pictures(run: Run, examples: np.ndarray, folder: Path) -> None:
    """reconstructions.webp: images and their decoded copies. traversals.webp: a row for each active unit."""
    images = examples[:8]
    units = run.active_units[:SHOWN]
    rows = [run.traverse(examples[0], unit.index, count=9) for unit in units]
    names = [f"{unit.name} (unit {unit.index})" if unit.factors else unit.name for unit in units]
    figures = {
        "reconstructions": plots.traversal([images, run.decode(run.encode(images))], ["image", "decoded"]),
        "traversals": plots.traversal(rows, names),
    }
    for name, figure in figures.items():  # WebP: a fifth of the size of PNG
        figure.savefig(folder / f"{name}.webp", dpi=110, pil_kwargs={"quality": 90})


def model_card(run: Run, config: Config, half: bool) -> str:
    """README.md of an exported run: what it is, how to open it, scores, units, data and limits. All numbers are the run's own."""
    variant, active = VARIANTS[config.variant], run.active_units
    seconds = run.log[-1]["seconds"] if (run.folder / "log.jsonl").exists() else None
    trained = f"{config.steps:,} steps" + (f" in {seconds / 60:.0f} minutes" if seconds else "")
    changes = f" with {config.changes}" if config.changes else ""
    precision = " The weights have 16 bits." if half else ""
    own = f", extensions=[{', '.join(f'{name}()' for name in config.extensions)}]" if config.extensions else ""
    units, scores, limits = ("\n".join(lines) for lines in (_units(run), _scores(run), _limits(run, config)))
    return f"""\
# {variant.title}, trained on {config.dataset}

{len(active)} active latent units that describe images of {config.data}. Variant `{config.variant}`: {variant.summary}. \
Profile `{config.profile}`{changes}, seed {config.seed}, {trained}; \
exported by dyga {__version__}, commit {git_commit()}.{precision}

![Images and their decoded copies](reconstructions.webp)

## Use

```python
from dyga import load_run

run = load_run("PATH OF THIS FOLDER"{own})
features = run.encode(run.examples)         # (16, units, dim)
images = run.traverse(run.examples[0], unit={active[0].index}, count=8)  # (8, size, size, 3) uint8
```

## Units

{units}

![One row of decoded images per unit](traversals.webp)

## Scores

{scores}

## Data and limits

{limits}
"""


def _units(run: Run) -> list[str]:
    if not run.active_units[0].factors:
        numbers = ", ".join(str(unit.index) for unit in run.active_units)
        return [f"The data set has no factors, so units have numbers only, the most varying first: {numbers}."]
    rows = [f"| {u.index} | {' + '.join(u.factors)} | {', '.join(f'{s:.2f}' for s in u.scores)} |" for u in run.active_units]
    return ["| unit | follows | normalised mutual information |", "|---|---|---|", *rows]


def _scores(run: Run) -> list[str]:
    metrics = run.metrics
    if "mig" not in metrics:
        return [f"None: {metrics['note']}."]
    titles = {
        "factor_vae_score": "FactorVAE score",
        "dci_disentanglement": "DCI disentanglement",
        "dci_completeness": "DCI completeness",
        "dci_informativeness": "DCI informativeness",
        "mig": "MIG",
        "knn_purity": "k-NN purity of active units",
    }
    lines = ["| metric (1 is best) | value |", "|---|---|"]
    lines += [f"| {title} | {metrics[name]:.3f} |" for name, title in titles.items()]
    lines += [f"| {r['factor']} is right in a decoded image | {r['decoded_accuracy']:.2f} |" for r in _decoded(run)]
    return [*lines, "", f"One seed. Encoded images: {metrics['images']:,}; the protocols are those of `dyga.metrics`."]


def _decoded(run: Run) -> list[dict]:
    path = run.folder / "interventions.json"
    records = json.loads(path.read_text()) if path.exists() else []
    return [record for record in records if record["moved"] == "traversal"]


def _limits(run: Run, config: Config) -> list[str]:
    lines = ["The model was trained on this data set only. Another image is decoded as a similar one of this data set."]
    if is_own(config.dataset):
        place = (
            "on the hub"
            if config.dataset.startswith("hf:") and not config.dataset.startswith("hf:.")
            else "in the current folder"
        )
        lines.append(f"The data are not in this folder. `run.data` looks for them {place}, as {config.dataset}.")
    elif "version" in config.data:
        lines.append("The images are rendered by dyga. They are no images of a published data set.")
    weak = [f"{r['factor']} in {1 - r['decoded_accuracy']:.0%}" for r in _decoded(run) if r["decoded_accuracy"] < 0.95]
    if weak:
        lines.append(f"Decoded images show a wrong {', a wrong '.join(weak)} of the cases.")
    followed = {factor for unit in run.active_units for factor in unit.factors[:1]}
    missing = [name for name in run.factor_names if name not in followed]
    if missing:
        lines.append(f"No unit follows {' or '.join(missing)} best.")
    lines.append(f"Images have {config.image_size}x{config.image_size} pixels.")
    return [f"- {line}" for line in lines]
