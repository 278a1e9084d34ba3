"""The project's own ideas, which are not in the paper: each plugs into the model and the training loop."""
