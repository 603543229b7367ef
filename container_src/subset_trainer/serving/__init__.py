"""The ``serve`` program: a trained model behind SageMaker's hosting contract."""
