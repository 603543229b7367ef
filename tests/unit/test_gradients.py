import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subset_trainer.models import Classifier
from subset_trainer.training.devices import Machine
from subset_trainer.training.gradients import Gradients
from subset_trainer.training.place import Place

CPU = Place(Machine(torch.device("cpu"), torch.float32))
FEATURES, CLASSES = 4, 3


class Small(nn.Module):
    """A linear layer that memory runs out for at more than so many examples; notes what it was given."""

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(FEATURES, CLASSES)
        self.most = most
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        logits: Tensor = self.layer(inputs)
        return logits


def batch(examples: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return (
        torch.randn(examples, FEATURES, generator=draw),
        torch.randint(CLASSES, (examples,), generator=draw),
        torch.rand(examples, generator=draw),
    )


def gradients(network: Small, microbatch_size: int | None = None) -> Gradients:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Gradients(Classifier(network), CPU, scaler, 0.1, microbatch_size)


@pytest.mark.parametrize("microbatch_size", [None, 2, 3, 4, 10, 99])
def test_parts_add_up_to_the_weighted_mean_of_the_batch(microbatch_size: int | None) -> None:
    inputs, labels, weight = batch(10)
    network = Small()
    losses, choices = gradients(network, microbatch_size).of(inputs, labels, weight)

    expected = Small()
    each = F.cross_entropy(expected.layer(inputs), labels, reduction="none", label_smoothing=0.1)
    ((each * weight).sum() / weight.sum()).backward()
    torch.testing.assert_close(network.layer.weight.grad, expected.layer.weight.grad)
    torch.testing.assert_close(losses, each.detach())
    assert torch.equal(choices > 0, expected.layer(inputs).argmax(1) == labels)
    assert sum(network.sizes) == 10 and min(network.sizes) >= 2
    assert max(network.sizes) <= (microbatch_size or 10) or microbatch_size == 3


def test_the_gradient_of_an_earlier_batch_is_gone() -> None:
    network = Small()
    accumulate = gradients(network)
    accumulate.of(*batch(8))
    accumulate.of(*batch(10))
    again = Small()
    gradients(again).of(*batch(10))
    torch.testing.assert_close(network.layer.weight.grad, again.layer.weight.grad)


def test_what_does_not_fit_is_halved_and_stays_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    network = Small(most=3)
    accumulate = gradients(network)
    losses, _ = accumulate.of(*batch(10))
    assert network.sizes == [10, 5, 3, 3, 2, 2]
    assert "a batch of 10 does not fit in the GPU's memory: it is taken in parts of 5" in caplog.text
    network.sizes.clear()
    accumulate.of(*batch(10))
    assert network.sizes == [3, 3, 2, 2]
    whole = Small()
    expected, _ = gradients(whole).of(*batch(10))
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(network.layer.weight.grad, whole.layer.weight.grad)


def test_where_not_even_three_fit_the_error_goes_on() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        gradients(Small(most=1)).of(*batch(10))


def test_a_run_that_goes_on_knows_what_fits() -> None:
    network = Small(most=3)
    first = gradients(network)
    first.of(*batch(10))
    network.sizes.clear()
    again = gradients(network)
    again.load_state_dict(first.state_dict())
    again.of(*batch(10))
    assert network.sizes == [3, 3, 2, 2]
