"""The networks: feature extractor, conditional U-Net, first stages, and skip dropout as a plug-in."""

from .autoencoder import PooledAutoencoder, VQAutoencoder
from .factor_probe import FactorProbe
from .feature_extractor import FeatureExtractor
from .skip_dropout import SkipDropout
from .unet import UNet

__all__ = ["FactorProbe", "FeatureExtractor", "PooledAutoencoder", "SkipDropout", "UNet", "VQAutoencoder"]
