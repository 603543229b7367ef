"""Prints the table of hyperparameters as Markdown."""

from subset_trainer.config.hyperparameters import markdown_table

print(markdown_table())
