"""The training of a classifier on a subset of its data: loop, selection rounds, evaluation, devices."""
