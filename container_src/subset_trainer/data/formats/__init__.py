"""One file a format: how a channel of it is recognised and read."""
