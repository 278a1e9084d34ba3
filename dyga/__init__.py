"""Latent units via diffusion models: a companion to arXiv 2410.23820 (WACV 2025).

    from dyga import FeatureExtractor, GaussianAnchors, SkipDropout, load_run, metrics

Names are loaded when first used, so that the command line can check its options before torch is loaded.
"""

from importlib import import_module

__version__ = "0.2.0"
_HOMES = {
    "FeatureExtractor": "method",
    "GaussianAnchors": "method",
    "SkipDropout": "method",
    "load_run": "explore",
}
__all__ = [*_HOMES, "metrics", "__version__"]


def __getattr__(name: str):
    if name == "metrics":
        return import_module("dyga.metrics")
    if name not in _HOMES:
        raise AttributeError(f"module 'dyga' has no attribute '{name}'")
    return getattr(import_module(f"dyga.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
