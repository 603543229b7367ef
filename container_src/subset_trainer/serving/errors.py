"""The error for refused requests."""

from subset_trainer.errors import UserError


class RequestError(UserError):
    """An error that the client can fix, or that waiting fixes. `status` gives its cause: 400 the content, 406 the
    Accept header, 408 the time that the body takes, 413 the size, 415 the content type or encoding, 503 that the server
    is full or stopping."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
