"""Trained models to look at: `load_run`, widgets for notebooks, and explorers that need no kernel."""

from dyga.explore.run import Run, Unit, load_run

__all__ = ["Run", "Unit", "load_run"]
