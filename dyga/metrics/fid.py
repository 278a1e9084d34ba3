"""FID: Fréchet Inception distance between real and generated images."""

from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np

from dyga.metrics._checks import check_count, checked_units

Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FrechetInceptionDistance:
    """Result of `fid`: `score` >= 0 in squared units of the features, and the numbers of images. Equal statistics score 0."""

    score: float
    num_real: int
    num_generated: int


def fid(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    weights: str | Path | None = None,
    features: Features | None = None,
    batch_size: int = 64,
) -> FrechetInceptionDistance:
    """FID (Heusel et al. 2017) of two sets of uint8 images (n, height, width, 3). The two sets may have different image sizes.

    A set is an array, or any object with a length whose slices are such arrays. It is read `batch_size` images at a time. The
    default features are the 2048 pooled ones of torch-fidelity's Inception-v3, computed on CUDA if available. `weights` is a
    local file; if None, the weights are downloaded once. `features` replaces Inception-v3 by another function from uint8 (b,
    height, width, 3) to numbers (b, d).

    The score decreases with the number of images. Compare scores at equal numbers of images, far more than d. Raises ValueError
    for invalid input or weights, and RuntimeError if the weights cannot be downloaded.
    """
    check_count(batch_size, "batch_size")
    for name, images in (("real", real), ("generated", generated)):
        if len(images) < 2:
            raise ValueError(f"{name} has {len(images)} images: at least 2 are needed")
    if features is None:
        features = _inception(weights)
    elif weights is not None:
        raise ValueError("weights and features exclude each other: weights are those of Inception-v3, which features replaces")
    a, b = _statistics(real, "real", features, batch_size), _statistics(generated, "generated", features, batch_size)
    if len(a[0]) != len(b[0]):
        raise ValueError(f"features has {len(a[0])} columns for real but {len(b[0])} for generated")
    return FrechetInceptionDistance(frechet_distance(*a, *b), len(real), len(generated))


def frechet_distance(mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians with means (d,) and covariances (d, d): |a - b|^2 + tr(A + B - 2 (AB)^1/2).

    Computed by torch-fidelity in float64. A negative rounding error is set to 0. Raises ValueError for shapes that do not match,
    values that are not finite or a covariance that is not symmetric.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    gaussians = []
    for name, mean, covariance in (("a", mean_a, covariance_a), ("b", mean_b, covariance_b)):
        mu = checked_units(np.atleast_2d(mean), f"mean_{name}")[0]
        shape = np.shape(gaussians[0]["mu"] if gaussians else mu)
        if np.shape(mean) != shape:
            raise ValueError(f"mean_{name} must have shape {shape}, got {np.shape(mean)}")
        sigma = checked_units(covariance, f"covariance_{name}")
        if sigma.shape != shape * 2 or not np.allclose(sigma, sigma.T):
            raise ValueError(f"covariance_{name} must be symmetric of shape {shape * 2}, got shape {sigma.shape}")
        gaussians.append({"mu": mu, "sigma": sigma})
    return max(fid_statistics_to_metric(*gaussians, verbose=False)[KEY_METRIC_FID], 0.0)


def _statistics(images: np.ndarray, name: str, features: Features, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the images' features, updated batch by batch (Chan et al. 1979)."""
    count, mean, scatter = 0, np.zeros(1), np.zeros((1, 1))
    for start in range(0, len(images), batch_size):
        batch = np.ascontiguousarray(images[start : start + batch_size])
        shape = (min(batch_size, len(images) - start), *batch.shape[1:3], 3)
        if batch.dtype != np.uint8 or batch.shape != shape or 0 in shape:
            raise ValueError(
                f"{name} must be uint8 (n, height, width, 3), but a batch of {shape[0]} is {batch.dtype} {batch.shape}"
            )
        rows = checked_units(features(batch), f"features of {name}")
        if len(rows) != len(batch) or (count and rows.shape[1] != len(mean)):
            raise ValueError(f"features of {name} must have shape {(len(batch), len(mean) if count else 'd')}, got {rows.shape}")
        centred, shift = rows - rows.mean(axis=0), rows.mean(axis=0) - mean
        share = len(rows) / (count + len(rows))
        scatter = scatter + centred.T @ centred + np.outer(shift, shift) * (count * share)
        mean = mean + shift * share
        count += len(rows)
    return mean, scatter / (count - 1)


def inception_weights() -> Path:
    """Where torch-fidelity's Inception-v3 weights belong, in torch's cache, whether or not they are there."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(torch.hub.get_dir(), "checkpoints", Path(URL_INCEPTION_V3).name)


def missing_inception() -> str:
    """How to get the Inception-v3 weights, in one line; '' if they are in torch's cache."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = inception_weights()
    return "" if path.is_file() else f"FID needs torch-fidelity's Inception-v3 weights: get {URL_INCEPTION_V3} (95 MB) as {path}"


def _inception(weights: str | Path | None) -> Features:
    """The 2048 pooled features of torch-fidelity's Inception-v3. The weights file may contain only tensors."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    path = inception_weights() if weights is None else Path(weights)
    if not path.is_file() and weights is not None:
        raise ValueError(f"weights {path}: there is no such file")
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), path.stem.rpartition("-")[2], progress=False)
        except (OSError, HTTPException, RuntimeError) as error:
            raise RuntimeError(
                f"FID needs torch-fidelity's Inception-v3 weights, which cannot be downloaded ({error}): get {URL_INCEPTION_V3} "
                "(95 MB; pytorch-fid's pt_inception-2015-12-05-6726825d.pth is the same file) and pass weights=PATH"
            ) from error
    try:
        torch.load(path, weights_only=True)  # torch-fidelity's own loading would execute code in the file
        network = FeatureExtractorInceptionV3("inception-v3", ["2048"], feature_extractor_weights_path=str(path))
    except Exception as error:
        raise ValueError(f"weights {path}: damaged, or not torch-fidelity's Inception-v3 ({type(error).__name__})") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    return lambda images: network(torch.tensor(images, device=device).permute(0, 3, 1, 2))[0].cpu().numpy()
