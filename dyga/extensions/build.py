"""Settings -> model: the paper's parts, and the extensions that are switched on."""

import warnings
from collections.abc import Sequence

from dyga.config import Config, automatic_min_scalars
from dyga.extensions.alignment import FORMS
from dyga.extensions.base import Extension
from dyga.extensions.independence import Independence
from dyga.extensions.pruning import Pruning
from dyga.extensions.quantisation import Quantisation
from dyga.method import FeatureExtractor, LatentUnitDiffusion, SkipDropout, UNet
from dyga.method.first_stages import FIRST_STAGES


def build_model(config: Config, extensions: Sequence[Extension] = ()) -> LatentUnitDiffusion:
    """The untrained model of `config`, with the user's own `extensions` after the configured ones."""
    latent_shape = FIRST_STAGES[config.first_stage].latent_shape(config.image_size)
    extractor = FeatureExtractor(
        units=config.units,
        dim=config.unit_dim,
        kernels=config.extractor_kernels,
        channels=config.extractor_channels,
        unit_hidden=config.unit_hidden,
        normalise_scalars=config.normalise_scalars,
        final_relu=config.final_relu,
        scalars_per_unit=config.scalars_per_unit,
        global_pools=config.global_pools,
        image_size=config.image_size,
    )
    denoiser = UNet(
        latent_channels=latent_shape[0],
        channels=config.unet_channels,
        res_blocks=config.res_blocks,
        attention_levels=config.attention_levels,
        heads=config.heads,
        context_dim=config.unit_dim,
        transformer=config.transformer,
        dropout=config.dropout,
    )
    with warnings.catch_warnings(action="ignore"):  # this U-Net is new, whatever was compiled before
        SkipDropout(config.skip_dropout, config.skip_dropout_levels).attach(denoiser)
    return LatentUnitDiffusion(
        feature_extractor=extractor,
        denoiser=denoiser,
        latent_shape=latent_shape,
        max_anchors=config.max_anchors,
        anchoring=config.anchoring,
        alignment=FORMS[config.alignment],
        prediction=config.prediction,
        loss=config.loss,
        time_exponent=config.time_exponent,
        extensions=[*configured(config), *extensions],
    )


def configured(config: Config) -> list[Extension]:
    """The project's own extensions that `config` switches on; none for the paper's variants."""
    found: list[Extension] = []
    if config.prune_loss_increase:
        found.append(
            Pruning(
                config.units,
                config.scalars_per_unit,
                loss_increase=config.prune_loss_increase,
                explained=config.prune_explained,
                dependence=config.merge_dependence,
                min_scalars=config.min_scalars or automatic_min_scalars(config.dataset, config.units),
                rounds=config.prune_rounds,
            )
        )
    if config.decorrelation or config.kurtosis:
        found.append(Independence(config.decorrelation, config.kurtosis, config.scalars_per_unit))
    if config.quantiser_values:
        found.append(Quantisation(config.units, config.quantiser_values))
    return found
