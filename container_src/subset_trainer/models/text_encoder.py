"""A Hugging Face text encoder with a linear layer on top.

`transformers` takes seconds to import, so it is imported only when an encoder is built. It runs in offline mode and
builds models from its own code for known types only, never from code that comes with the weights.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from subset_trainer.errors import first_line, shown

Pooling = Literal["mean", "first"]
EXAMPLES = "bert, roberta, distilbert, electra, deberta-v2, mpnet, modernbert"
NOTHING = -1
"""Pads the inputs after the last token of a text."""
MULTIPLE = 8
"""Batches are padded to a multiple of this length, which suits tensor cores."""
TOGETHER = 16
"""Texts that a CPU encodes at a time, of nearly the same length. Less is computed of padding, and the layers' values
stay in its caches: 1.4 to 2.6 times as many texts a second as in the data's order
(``benchmarks/encoders.py --passes``)."""
_MOST_LAYERS = 100
_TAKEN_OUT = frozenset(
    (
        # How another machine ran the model, or would have run it.
        *("auto_map", "custom_pipelines", "quantization_config", "attn_implementation"),
        *("dtype", "torch_dtype", "use_cache", "torchscript"),
        *("output_hidden_states", "output_attentions", "return_dict", "use_return_dict"),
        # The classes are those of this job.
        *("architectures", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    )
)
_DROPOUTS = (
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
    "cls_dropout",
    "hidden_dropout_prob",
)


@dataclass(frozen=True)
class Body:
    """An encoder with its weights. `config`: config.json without settings that do not concern the encoder. `positions`:
    the longest text that it takes, in tokens. `vocabulary`: the number of tokens that it knows."""

    module: nn.Module
    config: Mapping[str, Any]
    pooling: Pooling
    positions: int
    vocabulary: int


def body(config: Any, pooling: Any, weights: Mapping[str, Tensor]) -> Body:
    """Build an encoder from the content of config.json, in float32, with these weights.

    Args:
        pooling: of the last layer into the features of a text: the mean over its tokens, or its first token's.
        weights: by their names in ``state_dict``, with or without a prefix such as ``bert.``; further ones are ignored.

    Raises:
        ValueError: the encoder cannot be built; the message says why.
    """
    if pooling not in ("mean", "first"):
        raise ValueError(f"the pooling is {shown(pooling)}, not mean or first")
    own = _own(config)
    transformers = _transformers()
    settings = _settings(transformers, own, weights)
    kind: Any = transformers.MODEL_MAPPING[type(settings)]
    try:
        with torch.device("meta"):
            needed = sum(
                value.numel() for name, value in kind(settings).state_dict().items() if "pooler" not in name
            )
    except Exception as error:  # an unsuitable configuration can raise any exception
        raise ValueError(f"its configuration cannot be used ({first_line(error)})") from error
    given = sum(value.numel() for value in weights.values())
    if needed > given:
        raise ValueError(f"its configuration needs {needed:,} numbers, but the weights have {given:,}")
    try:
        module, told = kind.from_pretrained(
            None,
            config=settings,
            state_dict=dict(weights),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ValueError(f"its weights cannot be used ({first_line(error)})") from error
    _check(module, told)
    embeddings = module.get_input_embeddings()
    return Body(module, own, pooling, _positions(module, settings), int(embeddings.weight.shape[0]))


def _own(config: Any) -> dict[str, Any]:
    if not isinstance(config, dict):
        raise ValueError(f"config.json holds {shown(config, 40)}, not a configuration")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ValueError(f"config.json has {shown(kind, 40)} for a model_type")
    if config.get("auto_map"):
        raise ValueError("it needs code of its own (auto_map), which is not run")
    if config.get("quantization_config"):
        raise ValueError("its weights are quantised")
    return {name: value for name, value in config.items() if name not in _TAKEN_OUT and name[:1] != "_"}


def _transformers() -> Any:
    # transformers reads these variables when it is imported.
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import transformers

    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _settings(transformers: Any, own: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """The configuration as an object of transformers."""
    from transformers.models.auto import modeling_auto

    kind = own["model_type"]
    # Models for masked words are encoders, which read a text in both directions; decoders have no such model.
    if (
        kind not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        or kind not in modeling_auto.MODEL_MAPPING_NAMES
    ):
        raise ValueError(
            f"model_type {shown(kind, 40)} is not a text encoder that transformers knows ({EXAMPLES}, …)"
        )
    try:
        settings = transformers.CONFIG_MAPPING[kind].from_dict(dict(own))
        settings.return_dict = True
        layers = settings.num_hidden_layers
        decodes = settings.is_encoder_decoder or getattr(settings, "is_decoder", False)
    except Exception as error:
        raise ValueError(f"its configuration cannot be used ({first_line(error)})") from error
    if decodes:
        raise ValueError(f"a {kind} that decodes is not a text encoder")
    # The time to build layers depends on their number, not on their size.
    if not (isinstance(layers, int) and 0 < layers <= max(_MOST_LAYERS, len(weights))):
        raise ValueError(
            f"its configuration has {shown(layers, 40)} layers, but the weights have {len(weights)} tensors"
        )
    return settings


def _check(module: nn.Module, told: Mapping[str, Any]) -> None:
    """Raise ValueError if the weights do not match the configuration, or are not finite."""
    wrong = sorted(each for each in told["mismatched_keys"] if "pooler" not in each[0])
    if wrong:
        name, there, wanted = wrong[0]
        raise ValueError(
            f"{name!r} has the shape {tuple(there)}, not {tuple(wanted)} as its configuration says"
        )
    missing = sorted(name for name in told["missing_keys"] if "pooler" not in name)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"its weights lack {missing[0]!r}{more}")
    for name, value in module.state_dict().items():
        if value.is_floating_point() and "pooler" not in name and not bool(value.isfinite().all()):
            raise ValueError(f"it has numbers in {name!r} that are not finite")


def _positions(module: nn.Module, settings: Any) -> int:
    most = [getattr(settings, "max_position_embeddings", None)]
    for name, embedding in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(embedding, nn.Embedding):
            # RoBERTa and related models number positions from after the padding index.
            first = 0 if embedding.padding_idx is None else embedding.padding_idx + 1
            most.append(embedding.num_embeddings - first)
    return min((each for each in most if isinstance(each, int) and each > 0), default=1 << 30)


class TextEncoder(nn.Module):
    """Token ids int32 [B, L], padded with ``NOTHING`` → logits [B, C].

    The features of a text are the mean of the last layer over its tokens, or its first token's. Dropout as configured
    and a linear layer follow. The padding of a batch is cut off if that changes nothing; a CPU then encodes texts of
    similar lengths together.
    """

    def __init__(self, given: Body, classes: int) -> None:
        super().__init__()
        self.config, self.pooling = given.config, given.pooling
        self.body = given.module
        settings: Any = self.body.config
        padding = getattr(settings, "pad_token_id", None)
        self._padding = padding if isinstance(padding, int) and 0 <= padding < given.vocabulary else 0
        self.dropout = nn.Dropout(_dropout(settings))
        last = nn.Linear(settings.hidden_size, classes)
        nn.init.normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)
        self.head: nn.Module = last
        self.head_is_fresh = True
        self._cuts = False

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(inputs))
        return logits

    def features(self, ids: Tensor) -> Tensor:
        """Token ids int32 [B, L] → [B, F]."""
        if not self._cuts or ids.device.type != "cpu" or len(ids) <= TOGETHER:
            found = self._encoded(ids)
        else:
            order = lengths(ids).argsort(descending=True, stable=True)
            parts = [self._encoded(ids[rows]) for rows in order.split(TOGETHER)]
            found = torch.cat(parts)[order.argsort()]
        features: Tensor = self.dropout(found)
        return features

    def _encoded(self, ids: Tensor) -> Tensor:
        there = ids != NOTHING
        # A text without tokens attends to one padding position, because attention to nothing is undefined.
        there[:, 0] = True
        if self._cuts:
            longest = int(there.any(0).sum())
            longest = min(ids.shape[1], math.ceil(longest / MULTIPLE) * MULTIPLE)
            ids, there = ids[:, :longest], there[:, :longest]
        inputs = torch.where(ids == NOTHING, self._padding, ids).long()
        hidden = self.body(input_ids=inputs, attention_mask=there.long())[0]
        return self._pooled(hidden, there)

    def _pooled(self, hidden: Tensor, there: Tensor) -> Tensor:
        if self.pooling == "first":
            return hidden[:, 0]
        # Summed in float32, whatever the precision of the layers.
        counted = there[:, :, None].float()
        return (hidden.float() * counted).sum(1) / counted.sum(1)

    def example(self, ids: Tensor) -> Tensor:
        """Inputs of the network with these token ids [B, L]."""
        return ids

    def try_out(self, length: int, vocabulary: int) -> None:
        """Determine whether padding may be cut off, and on which weights the logits depend. Other weights, such as a
        pooler's, are not trained, because in distributed training processes would wait for their gradients.

        Raises:
            Exception: whatever the encoder raises for inputs of this length.
        """
        mode = self.training
        self.eval()
        short = min(length, MULTIPLE)
        tokens = torch.arange(2 * short, dtype=torch.int32).view(2, short) % vocabulary
        padded = nn.functional.pad(tokens, (0, min(length, 2 * MULTIPLE) - short), value=NOTHING)
        self._cuts = False
        trained = list(self.parameters())
        with torch.enable_grad():
            logits = self(self.example(tokens))
            gradients = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        with torch.inference_mode():
            spread = float(logits.abs().max())
            self._cuts = bool(torch.allclose(self(self.example(padded)), logits, rtol=0, atol=1e-4 * spread))
            # Uses all positions, so that a text that is too long fails here.
            self(self.example(torch.zeros(1, length, dtype=torch.int32)))
        self.train(mode)


def lengths(ids: Tensor) -> Tensor:
    """The number of tokens of each text, [B, L] → [B]."""
    return (ids != NOTHING).sum(1)


def _dropout(settings: Any) -> float:
    given = (getattr(settings, name, None) for name in _DROPOUTS)
    return next((float(share) for share in given if isinstance(share, int | float) and 0 <= share < 1), 0.0)
