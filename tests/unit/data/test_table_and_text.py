"""Tables with free text: what is learned of them, what requests become, and the parts of an example."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import reviews
from subset_trainer.data import Splits, TableAndTextKind, TableKind, TextKind, load_channel, load_splits
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.parts import Several
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.texts.ngrams import encode_texts
from subset_trainer.errors import UserError
from subset_trainer.models import JoinedNGrams, build
from subset_trainer.serving import requests
from tests.kinds import gathered

ROWS = reviews.rows(60)


def read(root: Path, names: tuple[str, ...] = reviews.COLUMNS, **settings: Any) -> Splits:
    (root / "training").mkdir(exist_ok=True)
    reviews.write(root / "training/t.csv", ROWS, names)
    return load_splits({"training": root / "training"}, **gathered({"label_column": "outcome", **settings}))


def kind_of(splits: Splits) -> TableAndTextKind:
    assert isinstance(splits.preprocessing, TableAndTextKind)
    return splits.preprocessing


def inputs_of(splits: Splits) -> torch.Tensor:
    (inputs,) = splits.train.batches([torch.arange(len(splits.train))], torch.device("cpu"))
    return inputs


def body(rows: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    return json.dumps({"instances": [{name: row[name] for name in names} for row in rows]}).encode()


def test_a_row_is_the_tables_inputs_and_each_texts_ngrams(tmp_path: Path) -> None:
    splits = read(tmp_path)
    kind = kind_of(splits)
    assert kind.names == ("review", "title", "price", "shop")
    assert [column.name for column in kind.table.columns] == ["price", "shop"]
    assert [text.text_column for text in kind.texts] == ["review", "title"]
    table, review, title = inputs_of(splits).split(kind.widths, 1)
    of_row = [int(splits.train_ids[row].split(":")[1]) - 2 for row in range(len(splits.train))]
    assert splits.train_texts is not None
    assert splits.train_texts.tolist() == [[ROWS[row]["review"], ROWS[row]["title"]] for row in of_row]
    for text, found, name in zip(kind.texts, (review, title), ("review", "title"), strict=True):
        assert text.hashing is not None
        expected = encode_texts([ROWS[row][name] for row in of_row], text.hashing)
        np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_allclose(table[:, 0].mean(), 0, atol=1e-5)
    assert table[:, 1:].sum(1).eq(1).all()


def test_without_its_texts_the_table_is_encoded_as_a_table_alone(tmp_path: Path) -> None:
    both = read(tmp_path)
    alone = read(tmp_path, ("outcome", "price", "shop"))
    assert isinstance(alone.preprocessing, TableKind)
    assert kind_of(both).table.columns == alone.preprocessing.columns
    torch.testing.assert_close(inputs_of(both)[:, : kind_of(both).widths[0]], inputs_of(alone))


def test_a_text_alone_is_a_text(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, ("outcome", "review")).preprocessing, TextKind)


def test_several_texts_need_no_other_column(tmp_path: Path) -> None:
    splits = read(tmp_path, ("outcome", "review", "title"), columns=Rules(texts=("review", "title")))
    kind = kind_of(splits)
    assert kind.widths[0] == 0 and inputs_of(splits).shape == (len(splits.train), *kind.input_shape)
    network = build("ngrams", kind.input_shape, 2, **kind.network)
    assert network(inputs_of(splits)).shape == (len(splits.train), 2)
    assert kind.show(splits.train, [0], splits.train_texts)[0][1] == 0
    assert from_json(json.loads(json.dumps(kind.to_json()))) == kind


def test_a_column_of_few_texts_is_text_where_the_user_says_so(tmp_path: Path) -> None:
    kind = kind_of(read(tmp_path, ("outcome", "price", "shop"), columns=Rules(texts=("shop",))))
    assert [text.text_column for text in kind.texts] == ["shop"]
    assert [column.name for column in kind.table.columns] == ["price"]


def test_model_json_holds_all_of_it(tmp_path: Path) -> None:
    kind = kind_of(read(tmp_path))
    written = json.loads(json.dumps(kind.to_json()))
    assert written["kind"] == "table_and_text" and written["names"] == list(kind.names)
    again = from_json(written)
    again.check()
    assert again == kind


@pytest.mark.parametrize("change", ["names", "texts", "hashing"])
def test_what_no_training_can_have_produced_is_refused(change: str, tmp_path: Path) -> None:
    kind = kind_of(read(tmp_path))
    damaged = {
        "names": replace(kind, names=kind.names[1:]),
        "texts": replace(kind, texts=kind.texts[1:]),
        "hashing": replace(kind, texts=(kind.texts[0], replace(kind.texts[1], hashing=None))),
    }[change]
    with pytest.raises(ValueError, match=r"names|hashing"):
        damaged.check()


# Requests


def test_requests_become_what_training_made_of_the_same_rows(tmp_path: Path) -> None:
    splits = read(tmp_path)
    kind, trained = kind_of(splits), inputs_of(splits)
    rows = [ROWS[int(splits.train_ids[row].split(":")[1]) - 2] for row in range(len(splits.train))]
    names = kind.names
    file = reviews.write(tmp_path / "request.csv", rows, names)
    with_header = file.read_bytes()
    lines = [json.dumps({"features": [row[name] for name in names]}) for row in rows]
    for content_type, content in (
        ("text/csv", with_header),
        ("text/csv", with_header.split(b"\r\n", 1)[1]),
        ("application/json", body(rows, names)),
        ("application/json", body(rows, names[::-1])),
        ("application/jsonlines", "\n".join(lines).encode()),
    ):
        found = np.concatenate(list(requests.batches(content, content_type, kind)))
        np.testing.assert_array_equal(found, trained.numpy())


def test_a_missing_text_has_no_words(tmp_path: Path) -> None:
    kind = kind_of(read(tmp_path))
    row = {**ROWS[0], "review": None}
    (found,) = requests.batches(body([row], kind.names), "application/json", kind)
    _, review, _ = torch.from_numpy(found).split(kind.widths, 1)
    assert kind.texts[0].hashing is not None and review.eq(kind.texts[0].hashing.buckets).all()


def test_a_request_without_a_text_is_refused(tmp_path: Path) -> None:
    kind = kind_of(read(tmp_path))
    with pytest.raises(UserError, match="example 1 lacks the column 'title', which training has"):
        list(requests.batches(body(ROWS[:1], ("review", "price", "shop")), "application/json", kind))


# Other channels


def test_other_channels_are_read_by_the_trained_columns(tmp_path: Path) -> None:
    """Texts that repeat are no free text by themselves."""
    splits = read(tmp_path)
    few = [dict(row, review=ROWS[0]["review"], title="1") for row in ROWS[:8]]
    (tmp_path / "test").mkdir()
    reviews.write(tmp_path / "test/t.csv", few, ("shop", "title", "outcome", "price", "review"))
    test = load_channel(tmp_path / "test", splits.preprocessing, name="test")
    (found,) = test.batches([torch.arange(8)], torch.device("cpu"))
    (expected,) = requests.batches(body(few, kind_of(splits).names), "application/json", splits.preprocessing)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_network_for_tables_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"model='mlp' .*free text in 'review', 'title', which ignore_columns"
    ):
        kind_of(read(tmp_path)).model("mlp")


# Parts


def test_parts_are_columns_and_words(tmp_path: Path) -> None:
    splits = read(tmp_path)
    kind = kind_of(splits)
    assert splits.train_texts is not None
    row, texts = inputs_of(splits)[3], splits.train_texts[3]
    parts = kind.parts(row, texts, kind.absent(splits.train))
    assert isinstance(parts, Several) and not parts.slow
    assert parts.titles[:3] == ["price", "shop", f"review: {texts[0].split()[0]}"]
    everything = torch.ones(1, parts.count, dtype=torch.bool)
    torch.testing.assert_close(parts.with_only(everything)[0].sort().values, row.sort().values)
    nothing = parts.with_only(~everything)[0].split(kind.widths)
    torch.testing.assert_close(nothing[0], kind.absent(splits.train))
    assert nothing[1].eq(1 << 16).all() and nothing[2].eq(1 << 16).all()
    own, told = parts.to_json(kind.values(row, parts))
    assert own == {"texts": {"review": texts[0], "title": texts[1]}}
    assert told[1]["columns"] == ["shop"] and told[1]["value"] in ("north", "south", "east", "west")
    assert told[2]["column"] == "review" and told[-1]["column"] == "title"


# The network


def test_a_word_may_count_only_beside_some_category() -> None:
    """Neither the text nor the number tells anything by itself."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    word, number = (torch.randint(2, (512,), generator=draw) for _ in range(2))
    labels = word ^ number
    inputs = torch.stack([number * 2.0 - 1, 3.0 + word, torch.full((512,), 8.0)], 1)
    classifier = build("ngrams", (3,), 2, buckets=8, widths=(1, 2), dropout=0.0)
    assert isinstance(classifier.network, JoinedNGrams)
    learned = torch.optim.SGD(classifier.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        learned.zero_grad()
        torch.nn.functional.cross_entropy(classifier(inputs), labels).backward()
        learned.step()
    assert classifier.eval()(inputs).argmax(1).eq(labels).float().mean() > 0.99


def test_the_last_layers_input_depends_on_text_and_table() -> None:
    torch.manual_seed(0)
    classifier = build("ngrams", (3,), 2, buckets=8, widths=(1, 2)).eval()
    rows = torch.tensor([[0.0, 1, 2], [0, 3, 2], [1, 1, 2]])
    _, features = classifier.logits_and_features(rows)
    assert features.shape == (3, 256)
    assert not features[0].equal(features[1]) and not features[0].equal(features[2])


def test_in_training_a_share_of_the_ngrams_is_left_out() -> None:
    torch.manual_seed(0)
    network = build("ngrams", (1001,), 2, buckets=8, widths=(1, 1000), dropout=0.4).network
    assert isinstance(network, JoinedNGrams)
    buckets = torch.zeros(4, 1000)
    assert 0.35 < network.train()._some(buckets).eq(8).float().mean() < 0.45
    assert network.eval()._some(buckets).eq(0).all()
