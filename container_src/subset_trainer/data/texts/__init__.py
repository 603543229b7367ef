"""Encoding texts as hashed n-grams or as tokens."""
