"""The interface through which an idea is added to the model or to its training."""

from typing import Any

from torch import Tensor, nn


class Extension(nn.Module):
    """Base class of all extensions; override what is needed. Buffers and parameters are saved with the model.

    Scalars have the shape (batch, units * scalars_per_unit), unit after unit.
    """

    def on_scalars(self, scalars: Tensor) -> Tensor:
        """Replaces the scalars for everything that follows: unit MLPs, penalties, metrics."""
        return scalars

    def on_mlp_inputs(self, scalars: Tensor, progress: float) -> Tensor:
        """Replaces the scalars for the unit MLPs only; `progress` is the completed share of the training."""
        return scalars

    def penalties(self, scalars: Tensor) -> dict[str, Tensor]:
        """Terms to add to the loss, by name and already weighted. The log lists them."""
        return {}

    def refit(self, scalars: Tensor, features: Tensor, **options) -> None:
        """Is called when the anchors are fitted, with the feature buffer's scalars (n, units, scalars_per_unit) and features (n,
        units, dim) and with the options of `GaussianAnchors.fit`."""

    def after_step(self, training: Any) -> None:
        """Is called after each update of the weights. `training`, a `dyga.training.loop.Training`, holds model, optimiser,
        batches, config and the number of steps done (`training.done`)."""
