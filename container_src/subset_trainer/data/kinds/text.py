"""The kind for texts: hashed n-grams, or the tokens of a given encoder."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from subset_trainer.config.data import MOST_TOKENS
from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import Dataset, MemoryDataset
from subset_trainer.data.kinds.kind import Kind
from subset_trainer.data.loading import Fitting, Loading
from subset_trainer.data.parts import Words, Written
from subset_trainer.data.requests import (
    CSV,
    JSON_LINES,
    REQUEST,
    examples_of,
    in_groups,
    lines_of,
    loaded,
    text_of,
)
from subset_trainer.data.tables.table import Column, Table, TrainedColumns
from subset_trainer.data.texts.labelled import Texts, texts_of
from subset_trainer.data.texts.ngrams import BUCKETS, MOST_NGRAMS, Hashing, encode_texts, fit_hashing
from subset_trainer.data.texts.tokens import Tokens, encode_tokens
from subset_trainer.errors import UserError, shown

PLAIN = "text/plain"
"""The content type of a single text."""
TOKENIZER = "tokenizer.json"
"""Saved beside model.json for an encoder, in the format of Hugging Face's tokenizers."""
TEXTS_AT_ONCE, TOKENISED_AT_ONCE = 4_096, 32
"""Texts of a request that are processed together, which bounds memory; the second is for encoders."""


@dataclass(frozen=True)
class TextKind(Kind):
    """`hashing` or, for an encoder, `tokens`; with `text_column` and the table's fields if the texts were in a table.
    Batches are encoded already."""

    name = "text"
    sources = (Texts,)
    held = "texts"
    default_model = "ngrams"
    takes_encoder = True
    stand_in = "nothing"
    own_content_types = (CSV, PLAIN)
    accepted = (f"{PLAIN}, {CSV}", "texts")

    classes: tuple[str, ...]
    hashing: Hashing | None = None
    tokens: Tokens | None = None
    text_column: str | None = None
    header: bool = False
    label_column: str | None = None
    label_index: int = 0
    left_out: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(tokens,) or (n-grams,)."""
        return ((self.tokens or self._hashing).length,)

    @property
    def _hashing(self) -> Hashing:
        assert self.hashing is not None
        return self.hashing

    @classmethod
    def fit(cls, channel: Channel, source: Texts, fitting: Fitting) -> tuple["TextKind", Dataset]:
        fitted = cls.fitted(source, fitting)
        every = np.arange(len(source.classes))
        return fitted, fitted.encode(channel, source, fitting.loading, every)

    @classmethod
    def fitted(cls, source: Texts, fitting: Fitting) -> "TextKind":
        """What is learned from the training texts, without encoding them."""
        tokens = fitting.loading.tokens
        return cls(
            source.classes,
            None if tokens else fit_hashing(source.texts[fitting.own(fitting.rows)], fitting.of_each),
            tokens,
            source.column,
            source.header,
            source.label_column,
            source.label_index,
            source.left_out,
        )

    def inputs(self, texts: Sequence[str] | np.ndarray) -> np.ndarray:
        """int32 [N, L]: texts as the model takes them. Raises UserError if the tokenizer cannot encode one."""
        if self.tokens is not None:
            return encode_tokens(texts, self.tokens)
        return encode_texts(texts, self._hashing)

    def _dataset(self, channel: Channel, source: Texts, labels: Tensor, loading: Loading) -> Dataset:
        loading.take(channel, self._bytes(len(source)))
        return MemoryDataset(torch.from_numpy(self.inputs(source.texts)), labels)

    def of_table(
        self, channel: Channel, file: str, read: Callable[[str | None, Any], Table]
    ) -> Table | Texts:
        if self.text_column is None:
            table = read(self.label_column, None)
            return texts_of(channel, table, table.text_columns[0]) if len(table.text_columns) == 1 else table
        column = Column(self.text_column, "free text")
        trained = TrainedColumns(
            self.classes, (column,), self.header, self.label_column, self.label_index, self.left_out
        )
        return texts_of(channel, read(None, trained), self.text_column)

    @classmethod
    def common(cls, source: Texts) -> Mapping[str, Any]:
        return {
            "whether there is a header": source.header,
            "the label's column": source.label_column,
            "the column of texts": source.column,
        }

    def model(self, name: str) -> str:
        if self.tokens is None:
            return super().model(name)
        if name not in ("auto", "encoder"):
            raise UserError(
                f"hyperparameter model={name!r} does not go with an encoder in the channel 'pretrained'; expected "
                "model=encoder or auto, or no such channel"
            )
        return "encoder"

    @property
    def network(self) -> dict[str, Any]:
        return {"buckets": self.hashing.buckets if self.hashing else None}

    def to_json(self) -> dict[str, Any]:
        if self.tokens is not None:
            told = {
                "tokens": {name: getattr(self.tokens, name) for name in ("length", "vocabulary", "digest")}
            }
        else:
            told = {"hashing": dict(vars(self._hashing))}
        return {
            "kind": self.name,
            "classes": list(self.classes),
            **told,
            "text_column": self.text_column,
            "header": self.header,
            "label_column": self.label_column,
            "label_index": self.label_index,
            **({"left_out": list(self.left_out)} if self.left_out else {}),
        }

    def check(self) -> None:
        super().check()
        self._check_places(1, self.label_index, self.left_out)

    def check_inputs(self) -> None:
        hashing, tokens = self.hashing, self.tokens
        if tokens is not None:
            if not 0 < tokens.length <= MOST_TOKENS or hashing is not None:
                raise ValueError(f"tokens: {shown(tokens)}")
        elif hashing is None or hashing.buckets != BUCKETS or not 0 < hashing.length <= MOST_NGRAMS:
            raise ValueError(f"hashing: {shown(hashing)}")

    def files(self) -> Mapping[str, str]:
        return {TOKENIZER: self.tokens.definition} if self.tokens else {}

    def with_files(self, read: Callable[[str], str]) -> Self:
        if self.tokens is None:
            return self
        definition = read(TOKENIZER)
        if hashlib.sha256(definition.encode()).hexdigest() != self.tokens.digest:
            raise ValueError("it is not the one that the model was trained with")
        return replace(self, tokens=replace(self.tokens, definition=definition))

    def batches(self, body: bytes, form: str, content_type: str) -> Iterator[np.ndarray]:
        """int32 [B, L] from one text, from CSV with one field per line, or from JSON."""
        at_once = TOKENISED_AT_ONCE if self.tokens else TEXTS_AT_ONCE
        yield from map(self.inputs, in_groups(self._texts(text_of(body), form), at_once))

    def _texts(self, body: str, form: str) -> Iterator[str]:
        """The texts of a body: the whole body, the only field of each CSV line, or those in JSON."""
        if form == PLAIN:
            yield body
        elif form == CSV:
            try:
                for number, fields in enumerate(csv.reader(io.StringIO(body, newline="")), 1):
                    if len(fields) > 1:
                        raise REQUEST.error(
                            f"line {number}: {len(fields)} fields; expected one, the text, in quotes where it holds "
                            "commas."
                        )
                    if fields and not (number == 1 and fields[0] == self.text_column):
                        yield fields[0]
            except csv.Error as error:
                raise REQUEST.error(f"the body is not CSV ({error}).") from error
        else:
            values = lines_of(body) if form == JSON_LINES else examples_of(loaded(body, "the body"))
            for place, value in values:
                if isinstance(value, dict):
                    value = value.get("text", value.get("features"))
                text = value[0] if isinstance(value, list) and len(value) == 1 else value
                if not isinstance(text, str):
                    raise REQUEST.error(
                        f'{place} holds no text; expected a text, {{"text": "…"}} or {{"features": ["…"]}}.'
                    )
                yield text

    def parts(self, inputs: Tensor, text: Any, absent: Tensor | None) -> Words | Written:
        if self.tokens is not None:
            return Written.of(text, self.inputs, self.tokens.length)
        return Words.of(text, inputs, self._hashing)

    def show(self, dataset: Dataset, rows: Sequence[int], texts: np.ndarray | None) -> list[str]:
        assert texts is not None
        return [texts[row] for row in rows]
