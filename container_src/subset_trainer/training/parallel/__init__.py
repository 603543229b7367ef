"""Distributed training with several processes, on one or more hosts."""
