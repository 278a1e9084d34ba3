"""Disentanglement metrics: functions with a typed result, most of codes (n, units) and factors (n, factors)."""

from dyga.metrics._checks import active_mask, varied_rows
from dyga.metrics.dci import DCI, dci
from dyga.metrics.diagnosis import CodeDiagnosis, diagnose
from dyga.metrics.downstream import SampleEfficiency, sample_efficiency
from dyga.metrics.factor_vae import BetaVAEScore, FactorVAEScore, beta_vae_score, factor_vae_score
from dyga.metrics.fid import FrechetInceptionDistance, fid, frechet_distance, missing_inception
from dyga.metrics.infomec import InfoMEC, infomec
from dyga.metrics.mcc import MeanCorrelation, mcc
from dyga.metrics.mig import MutualInformationGap, NormalisedMutualInformation, mig, nmi, unit_order
from dyga.metrics.modularity_explicitness import ModularityExplicitness, modularity_explicitness
from dyga.metrics.purity import AnchorPurity, Purity, anchor_purity, knn_purity
from dyga.metrics.r_squared import RSquared, r_squared
from dyga.metrics.sap import SAP, sap
from dyga.metrics.table import Scores, evaluate, evaluate_with_intervals
from dyga.metrics.tad import TotalAUROCDifference, total_auroc_difference
from dyga.metrics.udr import UDR, udr

__all__ = [
    "DCI",
    "SAP",
    "UDR",
    "AnchorPurity",
    "BetaVAEScore",
    "CodeDiagnosis",
    "FactorVAEScore",
    "FrechetInceptionDistance",
    "InfoMEC",
    "MeanCorrelation",
    "ModularityExplicitness",
    "MutualInformationGap",
    "NormalisedMutualInformation",
    "Purity",
    "RSquared",
    "SampleEfficiency",
    "Scores",
    "TotalAUROCDifference",
    "active_mask",
    "anchor_purity",
    "beta_vae_score",
    "dci",
    "diagnose",
    "evaluate",
    "evaluate_with_intervals",
    "factor_vae_score",
    "fid",
    "frechet_distance",
    "infomec",
    "knn_purity",
    "mcc",
    "mig",
    "missing_inception",
    "modularity_explicitness",
    "nmi",
    "r_squared",
    "sample_efficiency",
    "sap",
    "total_auroc_difference",
    "udr",
    "unit_order",
    "varied_rows",
]
