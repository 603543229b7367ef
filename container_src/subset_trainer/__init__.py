"""Trains a classifier on a chosen fraction of its data, under Amazon SageMaker's training contract."""

__version__ = "0.1.0"
