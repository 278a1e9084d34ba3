"""Dynamic Gaussian Anchoring: a Gaussian mixture per latent unit, and features drawn to its Gaussians."""

from dyga.anchoring.anchors import AlignmentMode, Diagnosis, GaussianAnchors
from dyga.anchoring.mixture import Mixture
from dyga.anchoring.selection import Selection

__all__ = ["AlignmentMode", "Diagnosis", "GaussianAnchors", "Mixture", "Selection"]
