"""Explore trained models: `load_run`, widgets for notebooks, and static explorers that need no kernel."""

from dyga.explore.run import Run, Unit, load_run

__all__ = ["Run", "Unit", "load_run"]
