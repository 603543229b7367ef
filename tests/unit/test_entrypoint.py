"""What the program makes of errors that are not its own."""

import torch

from subset_trainer import entrypoint
from subset_trainer.errors import UserError


def test_an_operation_without_a_deterministic_kernel_is_the_users_to_mend() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    except RuntimeError as error:
        explained = entrypoint.failure_of(error)
    finally:
        torch.use_deterministic_algorithms(before)
    assert isinstance(explained, UserError)
    assert "deterministic=true" in str(explained) and "deterministic=false (put_ " in str(explained)
