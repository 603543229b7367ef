"""What a request is refused with."""

from subset_trainer.errors import UserError


class RequestError(UserError):
    """The client can mend it, and the status says how: 400 the content, 406 what was asked for, 413 its size, 415 its
    form."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
