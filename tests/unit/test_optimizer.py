"""Which weights an optimiser treats how, and what an orthogonalised update is."""

import copy

import pytest
import torch
from torch import Tensor, nn

from subset_trainer import models
from subset_trainer.config import parse
from subset_trainer.config.resolved import as_trained
from subset_trainer.job import read
from subset_trainer.training import muon, optimizer
from subset_trainer.training.muon import Muon, orthogonalised
from subset_trainer.training.unwrapped import SGD, AdamW

COLOURS = [0.5] * 3, [0.2] * 3


def cnn() -> models.Classifier:
    torch.manual_seed(0)
    return models.build("cnn", (3, 32, 32), 10, *COLOURS)


def decaying(rows: int, columns: int) -> Tensor:
    """A matrix whose singular values reach over two orders of magnitude."""
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, columns, generator=generator) * torch.logspace(0, -1, columns)


@pytest.mark.parametrize("shape", [(32, 48), (48, 32), (64, 288), (5, 5)])
def test_an_orthogonalised_matrix_has_singular_values_near_one_and_its_own_directions(
    shape: tuple[int, int],
) -> None:
    matrix = decaying(*shape)
    given = orthogonalised(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert given.shape == matrix.shape
    # In the basis of its singular vectors it is diagonal, and the diagonal is near one.
    inner = left.T @ given @ right.T
    assert (inner.diagonal() > 0.5).all() and (inner.diagonal() < 1.3).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-2


def test_an_orthogonalised_matrix_is_that_of_torch_s_own_muon() -> None:
    weight = nn.Parameter(decaying(64, 288))
    theirs, ours = copy.deepcopy(weight), copy.deepcopy(weight)
    gradients = [decaying(64, 288).roll(turn, 0) for turn in range(3)]
    torchs = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.01)
    own = Muon([{"params": [ours], "orthogonal": True, "inner_momentum": 0.9, "weight_decay": 0.01}], 0.1)
    for gradient in gradients:
        theirs.grad, ours.grad = gradient.clone(), gradient.clone()
        torchs.step()
        own.step()
    # Torch's works in bfloat16.
    moved = theirs.detach() - weight.detach()
    assert (ours.detach() - weight.detach() - moved).norm() < 0.03 * moved.norm()


def test_a_zero_gradient_moves_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(4, 9)), torch.zeros(4, 9))


def test_hidden_kernels_are_orthogonalised_and_the_rest_is_left_to_sgd() -> None:
    classifier = cnn()
    made = optimizer.make(classifier, parse({"model": "cnn", "optimizer": "muon"}), 0.05)
    assert isinstance(made, Muon)
    names = {parameter: name for name, parameter in classifier.network.named_parameters()}
    hidden = {
        names[each] for group in made.param_groups if group.get("orthogonal") for each in group["params"]
    }
    assert hidden == {name for name, each in classifier.network.named_parameters() if each.ndim == 4}
    everything = [each for group in made.param_groups for each in group["params"]]
    assert len(everything) == len(names) and set(everything) == set(names)


def test_layers_whose_orthogonalisation_costs_more_than_their_step_are_left_to_sgd() -> None:
    mlp = models.build("mlp", (200,), 3)
    assert muon.chosen(mlp, 128) == set()
    assert len(muon.chosen(mlp, 65_536)) == 2
    # Of many convolutions, those of few positions cost most.
    assert 0 < len(muon.chosen(cnn(), 16)) < 4


@pytest.mark.parametrize(("kind", "expected"), [("sgd", SGD), ("muon", Muon), ("adamw", AdamW)])
def test_the_optimizer_is_the_one_asked_for(kind: str, expected: type) -> None:
    assert type(optimizer.make(cnn(), parse({"optimizer": kind}), 0.05)) is expected


@pytest.mark.parametrize("model", ["cnn", "resnet18", "mlp", "mobilenet_v2"])
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("given", [{}, {"optimizer": "auto"}, {"optimizer": "sgd", "whitening": False}])
def test_the_recipe_is_for_small_image_networks_without_pretrained_weights(
    model: str, pretrained: bool, given: dict[str, object]
) -> None:
    hp = as_trained(parse({"model": model, **given}), "image", model, pretrained)
    ours = model in ("cnn", "resnet18") and not pretrained
    muon_s = ours and given.get("optimizer") != "sgd"
    assert hp.optimizer == ("muon" if muon_s else "sgd")
    assert hp.learning_rate_scaling == ("sqrt" if muon_s else "linear")
    assert hp.whitening == (ours and "whitening" not in given)
    assert (hp.augmentation_reach, hp.flip) == ((0.0625, "alternating") if ours else (0.125, "random"))


def test_adamw_has_defaults_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    hp = read.configured(parse({"optimizer": "adamw", "momentum": 0.8}), "table", "mlp", False)
    assert (hp.learning_rate, hp.weight_decay, hp.learning_rate_scaling) == (1e-3, 0.01, "linear")
    assert "momentum=0.8 is not used" in caplog.text
    given = parse({"optimizer": "adamw", "learning_rate": 0.01})
    assert as_trained(given, "image", "cnn").learning_rate == 0.01


def test_a_step_resumed_from_a_state_is_the_same() -> None:
    hp = parse({"model": "cnn", "optimizer": "muon"})

    def stepped(classifier: models.Classifier, made: torch.optim.Optimizer, times: int) -> None:
        for _ in range(times):
            inputs = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1))
            classifier.zero_grad()
            classifier(inputs.to(torch.uint8)).square().mean().backward()
            made.step()

    one = cnn()
    made = optimizer.make(one, hp, 0.01)
    stepped(one, made, 2)
    other = copy.deepcopy(one)
    again = optimizer.make(other, hp, 0.01)
    again.load_state_dict(copy.deepcopy(made.state_dict()))
    stepped(one, made, 2)
    stepped(other, again, 2)
    for mine, resumed in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, resumed)


def test_a_step_whose_scaled_gradients_overflow_is_skipped_and_others_are_unscaled() -> None:
    classifier, plain = cnn(), cnn()
    hp = parse({"model": "cnn", "optimizer": "muon"})
    scaled, own = optimizer.make(classifier, hp, 0.05), optimizer.make(plain, hp, 0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    inputs = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    before = [parameter.detach().clone() for parameter in classifier.parameters()]
    scaler.scale(classifier(inputs).sum() * torch.inf).backward()
    scaler.step(scaled)
    scaler.update()
    assert all(torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True))
    classifier.load_state_dict(plain.state_dict())
    classifier.zero_grad()
    scaler.scale(classifier(inputs).square().sum()).backward()
    scaler.step(scaled)
    plain(inputs).square().sum().backward()
    own.step()
    for mine, others in zip(classifier.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, others, atol=1e-6)
