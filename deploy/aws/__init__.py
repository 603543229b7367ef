"""What speaks to AWS."""
