"""What a run learns of its examples: probable label errors, duplicates, why the model errs; and the report of it."""
