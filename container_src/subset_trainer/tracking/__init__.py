"""Sends parameters and metrics to experiment trackers."""
