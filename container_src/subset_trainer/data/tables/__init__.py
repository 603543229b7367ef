"""The columns of tables: what training learns of each, and how values become numbers."""
