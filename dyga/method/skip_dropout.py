"""Skip Dropout (paper, section 3.3): dropout of whole skip channels, so that the U-Net must use the latent units.

For skip tensors h of shape (batch, channels, height, width): h~ = m h / (1 - p). The mask m is 0 with probability p and else 1,
drawn for each channel of each image. In evaluation mode h~ = h.
"""

import inspect
import sys
import warnings
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SkipDropoutHandle:
    """Returned by `SkipDropout.attach`; `remove()` detaches it completely."""

    def __init__(self, blocks: Sequence[nn.Module], hooks: list):
        self._blocks, self._hooks = blocks, hooks
        for block in blocks:
            block._skip_dropout = True

    def remove(self) -> None:
        """Detaches; calling it again does nothing. Warns as `attach` does."""
        if self._hooks:
            _warn_if_compiled()
        while self._hooks:
            self._hooks.pop().remove()
            for block in self._blocks:
                block.__dict__.pop("_skip_dropout", None)


def _warn_if_compiled() -> None:
    if "torch._dynamo" in sys.modules and sys.modules["torch._dynamo"].utils.counters["frames"]["ok"]:
        words = (
            "torch.compile has run before. If it compiled this U-Net, call torch.compiler.reset(): compiled code does not change"
        )
        warnings.warn(words, stacklevel=3)


def _takes_skips(block: nn.Module) -> bool:
    return "res_hidden_states_tuple" in inspect.signature(block.forward).parameters


class SkipDropout:
    """Drops each channel of the skip tensors with probability `p` in training mode, and scales the others by 1 / (1 - p).

    `attach` works with this project's UNet and with any diffusers UNet2DModel or UNet2DConditionModel: their `up_blocks`
    receive the skip tensors as the argument `res_hidden_states_tuple`. `levels` counts resolutions from the finest (0); None
    means all. ValueError unless 0 <= p < 1.
    """

    def __init__(self, p: float = 0.2, levels: Sequence[int] | None = None):
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}: valid is 0 <= p < 1")
        self.p, self.levels = p, levels

    def attach(self, unet: nn.Module) -> SkipDropoutHandle:
        """Attaches to `unet`. ValueError if its `up_blocks` take no skip tensors, if a SkipDropout is
        attached already, or if a level that does not exist is asked for. Warns if torch.compile has compiled anything before:
        what it compiled of this U-Net stays without skip dropout."""
        blocks = getattr(unet, "up_blocks", None)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks) or not all(map(_takes_skips, blocks)):
            raise ValueError(
                f"{type(unet).__name__} has no up_blocks that take skip tensors: valid are dyga's UNet and diffusers' 2D U-Nets"
            )
        if any(getattr(block, "_skip_dropout", None) for block in blocks):
            raise ValueError("SkipDropout is attached to this U-Net already: call .remove() of the handle first")
        levels = range(len(blocks)) if self.levels is None else dict.fromkeys(self.levels)  # a level once
        if not set(levels) <= set(range(len(blocks))):
            raise ValueError(f"levels {tuple(levels)}: this U-Net has levels 0 to {len(blocks) - 1}")
        _warn_if_compiled()
        # up_blocks run from the coarsest level to the finest
        chosen = [blocks[len(blocks) - 1 - level] for level in levels]
        return SkipDropoutHandle(chosen, [b.register_forward_pre_hook(self._thin, with_kwargs=True) for b in chosen])

    def _thin(self, block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if not block.training or self.p == 0:
            return args, kwargs
        if "res_hidden_states_tuple" in kwargs:
            return args, kwargs | {"res_hidden_states_tuple": self._drop(kwargs["res_hidden_states_tuple"])}
        return (args[0], self._drop(args[1]), *args[2:]), kwargs

    def _drop(self, skips: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(F.dropout2d(skip, self.p, training=True) for skip in skips)
