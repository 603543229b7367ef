import pytest
import torch
from torch import nn

from subset_trainer import models
from subset_trainer.data import ImageKind, TableKind
from subset_trainer.errors import UserError

MEAN = STD = (0.5, 0.5, 0.5)


def images(batch: int, size: int) -> torch.Tensor:
    return torch.randint(256, (batch, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 8),
        ("resnet18", 32),
        ("cnn", 8),
        ("cnn", 32),
        ("cnn", 33),
        ("mobilenet_v3_small", 64),
        ("densenet121", 64),
        ("vit_b_16", 224),
    ],
)
def test_the_heads_input_times_its_weights_is_the_logits(name: str, size: int) -> None:
    classifier = models.build(name, (3, size, size), 5, MEAN, STD).eval()
    with torch.inference_mode():
        logits, features = classifier.logits_and_features(images(2, size))
        assert features.shape == (2, classifier.head.in_features)
        torch.testing.assert_close(classifier.head(features), logits)
        torch.testing.assert_close(classifier(images(2, size)).shape, logits.shape)


def test_the_hook_does_not_stay() -> None:
    classifier = models.build("mlp", (4,), 3).eval()
    classifier.logits_and_features(torch.zeros(2, 4))
    assert not classifier.head._forward_pre_hooks


def test_resnet18_has_cords_shape() -> None:
    """The same parameters, in number and size, as CORDS's ResNet18."""
    from cords.utils.models import ResNet18

    ours = models.build("resnet18", (3, 32, 32), 10, MEAN, STD)
    theirs = ResNet18(10)
    assert sorted(p.shape for p in ours.network.parameters()) == sorted(p.shape for p in theirs.parameters())


def test_resnet18_is_torchvisions_with_another_stem() -> None:
    import torchvision

    theirs = torchvision.models.resnet18(num_classes=5)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    ours = models.build("resnet18", (3, 32, 32), 5, MEAN, STD).network
    assert {name: weight.shape for name, weight in ours.state_dict().items()} == {
        name: weight.shape for name, weight in theirs.state_dict().items()
    }
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if mine.numel() > 5_000:  # as initialised: the deviation of so many says which distribution it is
            torch.testing.assert_close(mine.std(), other.std(), rtol=0.05, atol=0)
            assert mine.mean().abs() < 0.1 * mine.std()
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(ours(inputs), theirs(inputs))


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (8, 8), (64, 40)])
def test_cnn_takes_images_of_any_size(shape: tuple[int, int]) -> None:
    classifier = models.build("cnn", (3, *shape), 7, MEAN, STD)
    batch = torch.randint(256, (4, 3, *shape), dtype=torch.uint8)
    classifier(batch).sum().backward()
    assert classifier.head.in_features == 128
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_cnn_is_small_enough_for_a_cpu() -> None:
    """Multiplications of one 32×32 image, forward: about a hundredth of ResNet-18's 556 million."""
    classifier = models.build("cnn", (3, 32, 32), 10, MEAN, STD).eval()
    multiplications = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal multiplications
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        multiplications += weight.numel() * output[0, 0].numel()

    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        classifier(images(1, 32))
    assert (
        multiplications == 3 * 16 * 32 * 256 + 32 * 32 * 9 * 256 + 32 * 64 * 9 * 64 + 64 * 128 * 9 * 16 + 1280
    )


def test_cnn_gives_the_same_whatever_the_memory_format() -> None:
    classifier = models.build("cnn", (3, 16, 16), 5, MEAN, STD).eval()
    batch = images(3, 16)
    with torch.inference_mode():
        expected = classifier(batch)
        classifier.place(torch.device("cpu"), torch.channels_last)
        assert classifier.prepare(batch).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(classifier(batch), expected)


def test_images_are_normalised_within_the_model() -> None:
    classifier = models.Classifier(nn.Identity(), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    batch = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(classifier(batch).flatten(), torch.tensor([1.0, -1.0, 0.2]))
    assert batch.flatten().tolist() == [255, 0, 51]


def test_an_unknown_name_gets_the_nearest_right_one() -> None:
    models.check_name("resnet50")
    with pytest.raises(UserError, match=r"model='resnet81': expected .* did you mean 'resnet18'"):
        models.check_name("resnet81")


def test_auto_follows_the_data_and_tables_take_no_convolutions() -> None:
    table = TableKind(("a", "b"), ())
    assert (ImageKind(("a", "b"), (8, 8)).model("auto"), table.model("auto")) == ("resnet18", "mlp")
    with pytest.raises(UserError, match="model='resnet18' is not for tables; these expect mlp"):
        table.model("resnet18")


def test_a_network_without_a_last_linear_layer_says_so_when_it_is_needed() -> None:
    classifier = models.build("squeezenet1_1", (3, 64, 64), 3, MEAN, STD)
    with pytest.raises(
        UserError, match="SqueezeNet does not end in a linear layer, which this strategy needs"
    ):
        _ = classifier.head


def test_an_input_that_the_network_cannot_take_is_named() -> None:
    with pytest.raises(
        UserError, match=r"model 'vit_b_16' does not take inputs of shape \(3, 32, 32\) \(set image_size"
    ):
        models.build("vit_b_16", (3, 32, 32), 10, MEAN, STD)


def test_dropout_leaves_out_hidden_values_in_training_only() -> None:
    torch.manual_seed(0)
    plain, dropping = (models.build("mlp", (4,), 3, dropout=share) for share in (0.0, 0.5))
    # A model saved without it is read with it, and the other way round.
    dropping.load_state_dict(plain.state_dict())
    inputs = torch.randn(64, 4)
    assert torch.equal(plain.eval()(inputs), dropping.eval()(inputs))
    _, kept = plain.train().logits_and_features(inputs)
    _, features = dropping.train().logits_and_features(inputs)
    assert (features == 0).float().mean() > (kept == 0).float().mean() + 0.15
