"""Ground Truth's files, and labels to make and to check."""
