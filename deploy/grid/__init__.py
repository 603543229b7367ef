"""Plans comparable training runs, and runs them locally, in containers or on SageMaker."""
