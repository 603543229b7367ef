"""Prints the table of hyperparameters."""

from subset_trainer.config.hyperparameters import markdown_table

print(markdown_table())
