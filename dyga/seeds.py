"""Random numbers by name: what a step or a sample draws depends on its seed alone, not on what was drawn before."""

import numpy as np


def step_seed(seed: int, step: int, stream: int = 0) -> int:
    """A 63-bit seed for one step of one run; streams (pictures and noise, dropout) are independent of each other."""
    return int(np.random.SeedSequence((seed, step, stream)).generate_state(1, np.uint64)[0] >> 1)


def sample_rows(total: int, count: int, seed: int) -> np.ndarray:
    """`count` different row numbers below `total`, sorted, the same for the same seed."""
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
