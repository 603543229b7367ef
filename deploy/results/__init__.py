"""Reads, compares and presents the results of finished runs."""
