"""Builds classifiers by name. A hook captures the last linear layer's input, so that any network can be used.

Torchvision is imported only if one of its networks is requested.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from subset_selection.last_layer import with_input_of
from subset_trainer.errors import UserError, first_line
from subset_trainer.models.joined import JoinedEncoder as JoinedEncoder
from subset_trainer.models.joined import JoinedNGrams as JoinedNGrams
from subset_trainer.models.resnet import SmallImageResNet18
from subset_trainer.models.text_encoder import Body as Body
from subset_trainer.models.text_encoder import TextEncoder as TextEncoder
from subset_trainer.models.text_encoder import body as body
from subset_trainer.models.text_encoder import lengths
from subset_trainer.objectives import CLASSIFICATION, Objective

OWN_MODELS = ("resnet18", "cnn", "mlp", "ngrams", "encoder")
MLP_WIDTH = 256
NGRAMS_WIDTH, NGRAMS_SPREAD = 64, 0.01
"""Standard deviation of the initial embeddings. Batch normalisation undoes it, and SGD learns small ones faster."""
CNN_WIDTHS = (32, 32, 64, 128)


class Classifier(nn.Module):
    """A network with the preparation of its inputs: raw batches → logits.

    Args:
        network: prepared batch [B, …] → logits [B, C].
        mean, std: per channel, for images scaled to 0…1; images arrive as uint8 [B, 3, H, W]. None for other inputs,
            which need no preparation: tables as float32 [B, D], texts as int32 [B, L] (buckets of n-grams, or
            tokens), and a table with texts as both in one row, float32 [B, D + L1 + … + LT].
    """

    mean: Tensor | None
    std: Tensor | None
    scale: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        objective: Objective = CLASSIFICATION,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        buffers: dict[str, Tensor | None] = dict.fromkeys(("mean", "std", "scale", "shift"))
        if mean is not None and std is not None:
            centre, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
            # (x/255 − mean) / std = x · scale + shift
            buffers = {"mean": centre, "std": spread, "scale": 1 / (255 * spread), "shift": -centre / spread}
        for name, values in buffers.items():
            self.register_buffer(name, values, persistent=name in ("mean", "std"))
        self.memory_format = torch.contiguous_format
        self.positions: dict[str, int] = {}
        """Of each convolution and linear layer of the network, by its name, in how many positions of an example it
        is applied; empty: not known."""
        self._frozen = False

    @property
    def has_large_layers(self) -> bool:
        """Whether an example's activations within the network are much larger than at its end."""
        return self.mean is not None or isinstance(self.network, TextEncoder)

    @property
    def takes_images(self) -> bool:
        return self.mean is not None

    @property
    def mean_colour(self) -> Tensor | None:
        """[3, 1, 1] uint8: the colour that normalisation maps to zero; None for inputs other than images."""
        return None if self.mean is None else (255 * self.mean[0]).round().to(torch.uint8)

    def freeze_backbone(self) -> None:
        """Train only what follows the backbone from now on: the last layer, or the layers that join an encoder with a
        table. All other weights and batch-normalisation statistics are frozen."""
        trained = set(self.tail.parameters())
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter in trained)
        self._frozen = True

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._frozen:
            self.network.eval()
            self.tail.train(mode)
        return self

    @property
    def tail(self) -> nn.Module:
        """What :meth:`freeze_backbone` leaves to train."""
        return self.network.head if isinstance(self.network, JoinedEncoder) else self.head

    @property
    def is_frozen(self) -> bool:
        return self._frozen

    def place(self, device: torch.device, memory_format: torch.memory_format) -> None:
        """Move the classifier, and store images and kernels in this memory format; tables have none."""
        if self.mean is not None:
            self.memory_format = memory_format
            self.to(memory_format=memory_format)
        self.to(device)

    def prepare(self, inputs: Tensor) -> Tensor:
        """Raw batch → the network's input."""
        if self.scale is None or self.shift is None:
            return inputs
        # Reordered while a pixel takes one byte; all the rest is one kernel.
        return torch.addcmul(self.shift, inputs.contiguous(memory_format=self.memory_format), self.scale)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.network(self.prepare(inputs))
        return logits

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, whose output is the logits.

        Raises:
            UserError: the network does not end in a linear layer.
        """
        last = [module for module in self.network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1:]
        if not last or not isinstance(last[0], nn.Linear):
            raise UserError(
                f"the network {type(self.network).__name__} does not end in a linear layer, which this strategy "
                "needs; choose another model, or a strategy that does not evaluate the model (random, "
                "adaptive-random, rs2)"
            )
        return last[0]

    def logits_and_features(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Raw batch → logits [B, C] and the last linear layer's input [B, D]."""
        return self._with_input_of(self.head, inputs)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Raw batch → the input of the :attr:`tail` [B, F]."""
        return self._with_input_of(self.tail, inputs)[1]

    def lengths(self, inputs: Tensor) -> Tensor:
        """Raw batch → [B] how much of each example there is to compute, for examples of different lengths."""
        return lengths(inputs) if isinstance(self.network, TextEncoder) else torch.zeros(len(inputs))

    def _with_input_of(self, module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return with_input_of(module, lambda: self(inputs))


def check_name(name: str) -> None:
    """Refuse an unknown model before any data is read.

    Raises:
        UserError: there is no such model.
    """
    if name in (*OWN_MODELS, "auto"):
        return
    known = [*OWN_MODELS, "auto", *_torchvision_classifiers()]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"hyperparameter model={name!r}: expected resnet18, cnn, mlp, ngrams, encoder, auto or a torchvision "
            f"classifier{hint}"
        )


def build(
    name: str,
    input_shape: Sequence[int],
    classes: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    buckets: int | None = None,
    dropout: float = 0.0,
    encoder: Body | None = None,
    widths: Sequence[int] | None = None,
) -> Classifier:
    """A classifier with fresh weights, drawn from torch's default generator.

    Args:
        name: as the kind of data returns it, without ``auto``.
        input_shape: of one example: (3, H, W), (D,) or, for a text, (L,).
        classes: C.
        mean, std: see :class:`Classifier`.
        buckets: the number of n-gram buckets of texts; None: other data.
        dropout: for the hidden layers of a table's inputs, the fraction of values that are dropped in training.
        encoder: with its own weights; it becomes part of the classifier.
        widths: for a table with texts: the number of the table's inputs, and the length of each text.

    Raises:
        UserError: the network does not take inputs of this shape.
    """
    if name == "mlp":
        network: nn.Module = _mlp(int(torch.Size(input_shape).numel()), classes, dropout)
    elif widths is not None:
        network = _joined(encoder, buckets or 0, widths, classes, dropout)
    elif name == "ngrams":
        network = _ngrams(buckets or 0, classes)
    elif name == "encoder":
        assert encoder is not None
        network = _tried(TextEncoder(encoder, classes), encoder, input_shape[0])
    elif name == "resnet18":
        network = SmallImageResNet18(classes)
    elif name == "cnn":
        network = _cnn(classes)
    else:
        network = _torchvision(name, classes)
    classifier = Classifier(network, mean, std)
    ids = name in ("ngrams", "encoder") and widths is None
    dtype = torch.int32 if ids else torch.float32 if mean is None else torch.uint8
    _try_out(classifier, name, torch.zeros(1, *input_shape, dtype=dtype), classes)
    return classifier


def _mlp(inputs: int, classes: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for width_in in (inputs, MLP_WIDTH):
        # Dropout shares a module with the activation, so that later layers keep their names in saved models.
        activation = nn.Sequential(nn.ReLU(), nn.Dropout(dropout)) if dropout else nn.ReLU()
        layers += [nn.Linear(width_in, MLP_WIDTH, bias=False), nn.BatchNorm1d(MLP_WIDTH), activation]
    return nn.Sequential(*layers, nn.Linear(MLP_WIDTH, classes))


def _ngrams(buckets: int, classes: int) -> nn.Module:
    """The mean of the n-grams' embeddings, as in fastText, followed by a hidden layer."""
    bag = _bag(buckets)
    hidden = [nn.BatchNorm1d(NGRAMS_WIDTH), nn.Linear(NGRAMS_WIDTH, MLP_WIDTH), nn.ReLU()]
    return nn.Sequential(bag, *hidden, nn.Linear(MLP_WIDTH, classes))


def _bag(buckets: int) -> nn.EmbeddingBag:
    bag = nn.EmbeddingBag(buckets + 1, NGRAMS_WIDTH, mode="mean", padding_idx=buckets)
    with torch.no_grad():
        bag.weight.normal_(std=NGRAMS_SPREAD)[buckets] = 0
    return bag


def _joined(
    encoder: Body | None, buckets: int, widths: Sequence[int], classes: int, dropout: float
) -> nn.Module:
    """A table's inputs beside the features of its texts, followed by the hidden layers of an mlp."""
    inputs, *lengths = widths
    if encoder is None:
        bags = [_bag(buckets) for _ in lengths]
        head = _mlp(inputs + NGRAMS_WIDTH * len(bags), classes, dropout)
        return JoinedNGrams(bags, widths, dropout, head)
    settings: Any = encoder.module.config
    features = settings.hidden_size * len(lengths)
    network = JoinedEncoder(encoder, inputs, len(lengths), _mlp(inputs + features, classes, dropout))
    return _tried(network, encoder, lengths[0])


def _tried(network: TextEncoder, given: Body, length: int) -> nn.Module:
    try:
        network.try_out(length, given.vocabulary)
    except Exception as error:  # raised by third-party code
        kind = given.config["model_type"]
        raise UserError(
            f"the {kind} encoder does not take texts of {length} tokens ({first_line(error)}); expected another "
            "encoder, or a smaller max_tokens"
        ) from error
    return network


def _cnn(classes: int) -> nn.Module:
    """Four convolutions for small images, for training on a CPU: 5 million multiplications for a 32×32 image.

    The first convolution halves the image, so that the others process a quarter of the pixels; two poolings halve it
    again.
    """
    widths = CNN_WIDTHS
    layers: list[nn.Module] = []
    for place, (channels, width) in enumerate(zip((3, *widths), widths, strict=False)):
        if place == 0:
            layers.append(nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1, bias=False))
        else:
            layers.append(nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        if place in (1, 2):
            # Rounding up keeps one pixel of very small images.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
    # With few updates, the maximum over positions learns faster than the mean.
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def _torchvision_classifiers() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _torchvision(name: str, classes: int) -> nn.Module:
    import torchvision

    # These two networks would otherwise train auxiliary heads and return several logits in training mode.
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    return network


@contextmanager
def _noting_positions(classifier: Classifier) -> Iterator[None]:
    """Note the positions of layers in a pass of one example."""
    handles = []
    for name, layer in classifier.network.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):

            def note(layer: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                weight = layer.weight
                assert isinstance(weight, Tensor)
                classifier.positions[name] = output.numel() // len(weight)

            handles.append(layer.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _try_out(classifier: Classifier, name: str, zeros: Tensor, classes: int) -> None:
    """Run one forward pass on zeros, so that an unsuitable network is reported now, not after the data was read."""
    training = classifier.training
    try:
        with torch.inference_mode(), _noting_positions(classifier):
            logits = classifier.eval()(zeros)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"model {name!r} does not take inputs of shape {tuple(zeros.shape[1:])} "
            f"(set image_size to what it expects): {reason}"
        ) from error
    finally:
        classifier.train(training)
    if logits.shape != (1, classes):
        raise UserError(
            f"model {name!r} gives an output of shape {tuple(logits.shape)}; expected (1, {classes})"
        )
