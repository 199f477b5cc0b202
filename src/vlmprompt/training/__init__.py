"""Training: one loop, its schedule and optimisers, checkpoints, and the run folder."""
