"""What a study does: launch, evaluate, intervene, compare variants, report and benchmark."""

from dyga.study.study import Study

__all__ = ["Study"]
