"""Reads and writes Ground Truth's files, consolidates and audits labels, and chooses examples to label again."""
