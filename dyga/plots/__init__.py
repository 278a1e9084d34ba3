"""Every figure of the notebooks, the report and the README: plain arrays in, a matplotlib figure out."""

from dyga.plots.charts import (
    ablation,
    anchor_scatter,
    anchor_stages,
    anchors_over_training,
    heat_map,
    metric_curves,
    sample_efficiency,
    training_curves,
    unit_order,
)
from dyga.plots.images import attention_maps, data_grid, interchange, traversal
from dyga.plots.schematic import method

__all__ = [
    "ablation",
    "anchor_scatter",
    "anchor_stages",
    "anchors_over_training",
    "attention_maps",
    "data_grid",
    "heat_map",
    "interchange",
    "method",
    "metric_curves",
    "sample_efficiency",
    "training_curves",
    "traversal",
    "unit_order",
]
