"""Encoded images: where they lie, and how they become pixels."""
