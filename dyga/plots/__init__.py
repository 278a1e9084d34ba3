"""Figures of the notebooks, the report and the README. Each function takes arrays and returns a matplotlib figure."""

from dyga.plots.anchors import Cloud, anchor_samples, anchor_scatter, anchor_stages, cloud
from dyga.plots.charts import (
    ablation,
    anchors_over_training,
    differences,
    heat_map,
    metric_curves,
    sample_efficiency,
    seed_differences,
    training_curves,
)
from dyga.plots.images import attention_maps, data_grid, interchange, traversal, unit_cards
from dyga.plots.schematic import method

__all__ = [
    "Cloud",
    "ablation",
    "anchor_samples",
    "anchor_scatter",
    "anchor_stages",
    "anchors_over_training",
    "attention_maps",
    "cloud",
    "data_grid",
    "differences",
    "heat_map",
    "interchange",
    "method",
    "metric_curves",
    "sample_efficiency",
    "seed_differences",
    "training_curves",
    "traversal",
    "unit_cards",
]
