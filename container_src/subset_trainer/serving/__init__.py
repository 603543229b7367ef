"""The ``serve`` program: serves a trained model under SageMaker's hosting contract."""
