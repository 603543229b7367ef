"""The data formats, one file each: recognising a channel in that format, and reading it."""
