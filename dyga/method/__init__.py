"""The paper's method, and the options of the small profiles: image -> feature extractor -> latent units -> alignment to anchors
-> U-Net with skip dropout -> loss, and back: features -> sampler -> decoder -> image."""

from dyga.method.anchors import GaussianAnchors
from dyga.method.diffusion import LatentUnitDiffusion
from dyga.method.feature_extractor import FeatureExtractor
from dyga.method.skip_dropout import SkipDropout
from dyga.method.unet import UNet

__all__ = ["FeatureExtractor", "GaussianAnchors", "LatentUnitDiffusion", "SkipDropout", "UNet"]
