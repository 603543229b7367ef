"""The commands of `python -m deploy`, a module each."""
