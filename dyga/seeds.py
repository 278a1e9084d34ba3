"""Seeds for each step and sample, so that random numbers do not depend on what was drawn before."""

import numpy as np


def step_seed(seed: int, step: int, stream: int = 0) -> int:
    """A 63-bit seed for one step of one run; different streams (images and noise, dropout) are independent."""
    return int(np.random.SeedSequence((seed, step, stream)).generate_state(1, np.uint64)[0] >> 1)


def sample_rows(total: int, count: int, seed: int) -> np.ndarray:
    """`count` distinct row indices below `total`, sorted: (count,) int64. ValueError if `count` exceeds `total`."""
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
