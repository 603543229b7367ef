"""Encoded images: where they are stored, and how they are decoded to pixels."""
