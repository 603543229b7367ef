"""What can be said of the examples themselves: which look mislabelled, which are there more than once."""
