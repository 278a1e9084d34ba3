"""Training: one linear loop, batches, checkpoints and the first stage."""
