"""Disentanglement metrics as plain functions of (codes (n, units), factors (n, factors))."""

from dyga.metrics.importance import DCI, dci
from dyga.metrics.factor_vae import beta_vae_score, factor_vae_score
from dyga.metrics.mutual_information import mig, nmi
from dyga.metrics.purity import anchor_purity, knn_purity

__all__ = ["DCI", "anchor_purity", "beta_vae_score", "dci", "factor_vae_score", "knn_purity", "mig", "nmi"]
