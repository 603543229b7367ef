"""The columns of tables: fitting and encoding them."""
