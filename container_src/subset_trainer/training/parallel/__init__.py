"""Several processes that train together, on one host or on many."""
