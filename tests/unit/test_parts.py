"""Examples in parts, and without some of them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subset_trainer.data import Column
from subset_trainer.data.parts import MOST_PARTS, REGIONS, Columns, Regions, Words, Written
from subset_trainer.data.texts.ngrams import BUCKETS, Hashing, encode_texts
from subset_trainer.data.texts.tokens import encode_tokens, read_tokenizer
from tests.encoders import tokenizer

GREY = torch.tensor([100, 110, 120], dtype=torch.uint8)


def only(count: int, *present: int) -> Tensor:
    return torch.tensor([[at in present for at in range(count)]])


# Images


def quadrants(side: int) -> Tensor:
    """Four colours."""
    half = side // 2
    pixels = torch.zeros(3, side, side, dtype=torch.uint8)
    pixels[0, :half, :half] = pixels[1, half:, :half] = pixels[2, :half, half:] = 200
    return pixels


@pytest.mark.parametrize("side", [1, 8, 9, 28, 32, 64])
@pytest.mark.parametrize("content", ["colours", "noise", "nothing"])
def test_an_images_regions(side: int, content: str) -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = {
        "colours": quadrants(side),
        "noise": torch.randint(256, (3, side, side), generator=draw, dtype=torch.uint8),
        "nothing": torch.zeros(3, side, side, dtype=torch.uint8),
    }[content]
    image = Regions.of(pixels, GREY)
    assert image.count == len(image.region.unique()) == int(image.region.max()) + 1
    assert min(side**2, REGIONS // 2) <= image.count <= 2 * REGIONS
    whole, none = image.with_only(torch.tensor([[True] * image.count, [False] * image.count]))
    assert torch.equal(whole, pixels) and whole.dtype == torch.uint8
    assert torch.equal(none, GREY[:, None, None].expand_as(pixels))
    (one,) = image.with_only(only(image.count, 0))
    assert torch.equal((one != GREY[:, None, None]).any(0), image.region == 0)


def test_regions_keep_to_colours() -> None:
    image = Regions.of(quadrants(32), GREY)
    for number in range(image.count):
        assert len(image.pixels[:, image.region == number].unique(dim=1)[0]) == 1


# Tables

COLUMNS = (
    Column("n", "numeric", missing=True),
    Column("e", "empty"),
    Column("c", "categorical", categories=("", "a", "b")),
    Column("d", "date", cycles=("year", "week")),
)


def test_a_column_is_one_part_however_it_is_encoded() -> None:
    row, absent = torch.arange(1.0, 11.0), -torch.arange(1.0, 11.0)
    table = Columns.of(row, COLUMNS, absent)
    assert list(table.names) == [("n",), ("c",), ("d",)]
    assert table.part.tolist() == [0] * 2 + [1] * 3 + [2] * 5
    assert table.with_only(only(3, 1)).tolist() == [[-1, -2, 3, 4, 5, -6, -7, -8, -9, -10]]
    assert torch.equal(table.with_only(only(3, 0, 1, 2))[0], row)


def test_of_very_many_columns_neighbours_go_together() -> None:
    columns = [Column(str(at), "numeric") for at in range(3 * MOST_PARTS - 1)]
    table = Columns.of(torch.ones(len(columns)), columns, torch.zeros(len(columns)))
    assert table.count == MOST_PARTS
    assert [table.names[0], table.names[-1]] == [("0", "1", "2"), (columns[-2].name, columns[-1].name)]
    assert table.with_only(only(MOST_PARTS, 1))[0].nonzero().flatten().tolist() == [3, 4, 5]


# Texts


def words(text: str, unit: str = "word", length: int = 64) -> tuple[Words, np.ndarray]:
    hashing = Hashing(unit, BUCKETS, length)  # type: ignore[arg-type]
    (row,) = encode_texts([text], hashing)
    return Words.of(text, torch.from_numpy(row), hashing), row


def buckets(row: Tensor) -> set[int]:
    return set(row.tolist()) - {BUCKETS}


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40) | st.text("ab İß,.\n\t", max_size=40), st.sampled_from(["word", "character"]))
def test_a_whole_text_is_as_it_was_encoded(text: str, unit: str) -> None:
    found, row = words(text, unit)
    assert found.with_only(torch.ones(1, found.count, dtype=torch.bool))[0].tolist() == row.tolist()
    assert buckets(found.with_only(torch.zeros(1, found.count, dtype=torch.bool))[0]) == set()
    assert all(found.text[begin:end] for begin, end in found.spans.tolist())


def test_a_word_goes_with_all_that_it_was_in() -> None:
    found, _ = words("Not good, NOT at all!")
    assert [found.text[begin:end] for begin, end in found.spans.tolist()] == [
        "Not",
        "good",
        "NOT",
        "at",
        "all",
    ]
    (without_good,) = found.with_only(only(5, 0, 2, 3, 4))
    # Of the bigrams "not good" and "good not" are gone, and "not not" has not come.
    assert buckets(without_good) == {
        bucket
        for text in ("not", "not at", "at all", "all")
        for bucket in encode_texts([text], Hashing("word", BUCKETS, 8))[0].tolist()
    } - {BUCKETS}
    # A word that is there twice stays until both are gone.
    assert len(buckets(found.with_only(only(5, 1, 2, 3, 4))[0])) == 4 + 3
    assert len(buckets(found.with_only(only(5, 1, 3, 4))[0])) == 3 + 1


def test_characters_of_a_text_without_spaces() -> None:
    found, _ = words("天気が良い", "character")
    assert [found.text[begin:end] for begin, end in found.spans.tolist()] == list("天気が良い")
    # The middle one is in five of the nine n-grams of two and three.
    assert len(buckets(found.with_only(only(5, 0, 1, 3, 4))[0])) == 5 + 4 + 3 - 1 - 5


def test_what_found_no_room_in_a_row_does_not_come_back() -> None:
    text = " ".join(f"w{n}" for n in range(30))
    found, row = words(text, length=10)
    assert len(buckets(torch.from_numpy(row))) == 10
    draw = torch.rand(50, found.count, generator=torch.Generator().manual_seed(0)) < 0.7
    assert all(buckets(some) <= buckets(torch.from_numpy(row)) for some in found.with_only(draw))


def read_by_an_encoder(text: str, most: int = 100) -> tuple[Written, list[str]]:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return np.zeros((len(texts), 3), np.int32)

    return Written.of(text, encode, most), seen


def test_an_encoder_reads_the_text_without_the_absent_words() -> None:
    found, seen = read_by_an_encoder("«Not good, NOT at all!»")
    rows = found.with_only(torch.cat([only(5, 0, 1, 2, 3, 4), only(5, 0, 2, 3), only(5)]))
    assert rows.shape == (3, 3) and rows.dtype == torch.int32
    assert seen == ["«Not good, NOT at all!»", "«Not NOT at ", "«"]


def test_an_encoder_sees_no_more_words_than_tokens() -> None:
    found, seen = read_by_an_encoder("one two, three four", 2)
    found.with_only(torch.ones(1, found.count, dtype=torch.bool))
    assert (found.count, seen) == (2, ["one two"])


@pytest.mark.parametrize(
    ("text", "count"), [("天気が良いので、今日は海まで歩いて行きました。", 21), ("", 0), (" !", 0)]
)
def test_characters_of_a_text_for_an_encoder(text: str, count: int) -> None:
    found, seen = read_by_an_encoder(text)
    found.with_only(torch.ones(1, found.count, dtype=torch.bool))
    assert (found.count, seen) == (count, [text])


@pytest.mark.parametrize("length", [4, 40])
def test_a_whole_text_is_as_an_encoder_had_it(length: int) -> None:
    tokens = read_tokenizer(tokenizer().to_str(), length, 1_000)
    text = "Today rain, and number 3 of it rains."
    found = Written.of(text, lambda texts: encode_tokens(texts, tokens), length)
    whole, none = found.with_only(torch.tensor([[True] * found.count, [False] * found.count]))
    assert whole.tolist() == encode_tokens([text], tokens)[0].tolist()
    assert none.tolist() == encode_tokens([""], tokens)[0].tolist()
