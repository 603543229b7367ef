"""Training of a classifier on a subset of its data: loop, selection, evaluation, checkpoints, devices."""
