"""Texts as numbers: hashed n-grams, or an encoder's tokens."""
