"""What a study does: launch, evaluate, intervene, compare variants, report and benchmark.

`Study` is loaded when first used: training and evaluating one run need no notebook packages.
"""

__all__ = ["Study"]


def __getattr__(name: str):
    if name != "Study":
        raise AttributeError(f"module 'dyga.study' has no attribute '{name}'")
    from dyga.study.study import Study

    return Study
