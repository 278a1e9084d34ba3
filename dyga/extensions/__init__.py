"""The project's own ideas, which are not in the paper. Each is an `Extension`, plugged into the model and the training loop."""

from dyga.extensions.base import Extension
from dyga.extensions.build import build_model

__all__ = ["Extension", "build_model"]
