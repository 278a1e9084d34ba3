"""Files of a run: weights (safetensors), the state to resume from, and settings (JSON). All are written atomically."""

import io
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from dyga.config import Config, from_json
from dyga.provenance import write_atomically


def save_model(path: Path, model: nn.Module) -> None:
    """Writes the parameters and buffers of `model` to `path` (safetensors)."""
    write_atomically(path, packed(model))


def packed(model: nn.Module) -> bytes:
    """What `save_model` writes."""
    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})


def load_model(path: Path, model: nn.Module) -> None:
    """Reads `path` into `model`. ValueError, naming the file, if it is missing, damaged or from another model."""
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such checkpoint") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged checkpoint ({error}); delete it and train again") from None
    except RuntimeError:
        raise ValueError(f"{path}: checkpoint of another configuration; delete it and train again") from None


def save_resume(path: Path, state: dict) -> None:
    """Writes a nested dict of tensors and numbers to `path`, for `load_resume`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_resume(path: Path) -> dict | None:
    """Reads what `save_resume` wrote, onto the CPU, without unpickling code. None if absent, ValueError if damaged."""
    if not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}); delete it to start this run again") from None


def load_config(folder: Path) -> Config:
    """Reads the configuration of a run folder. ValueError, naming the folder, if it holds no run."""
    try:
        return from_json((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: cannot be opened as a run ({error})") from None
