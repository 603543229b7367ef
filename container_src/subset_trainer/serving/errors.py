"""The error for refused requests."""

from subset_trainer.errors import UserError


class RequestError(UserError):
    """An error that the client can fix. `status` gives its cause: 400 the content, 406 the Accept header, 413 the size,
    415 the content type or encoding."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
