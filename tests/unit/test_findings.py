"""Examples as the report shows them."""

import re

import numpy as np
import pytest
import torch

from subset_trainer import pages
from subset_trainer.data import Column, ImageKind, MemoryDataset, TableKind, TextKind
from subset_trainer.data.texts.ngrams import Hashing
from subset_trainer.insight import findings

COLUMNS = (
    Column("n<1>", "numeric", mean=10.0, std=2.0, missing=True),
    Column("c", "categorical", categories=("", "<i>a</i>", "b")),
    Column("d", "date", mean=19_000.0, std=100.0, cycles=("year",)),
    Column("e", "empty"),
)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1.5, 0, 0, 1, 0, 0.5, 0, 0], ["13", "&lt;i&gt;a&lt;/i&gt;", "2022-02-27", "–"]),
        ([0.0, 1, 0, 0, 1, 0.0, 0, 0], ["–", "b", "2022-01-08", "–"]),
        ([0.0, 0, 0, 0, 0, 0.01, 0, 0], ["10", "–", "2022-01-09", "–"]),
    ],
)
def test_a_row_of_a_table_is_shown_as_it_stood_there(row: list[float], expected: list[str]) -> None:
    table = TableKind(("x", "y"), columns=COLUMNS)
    dataset = MemoryDataset(torch.tensor([row]), torch.zeros(1, dtype=torch.int64))
    (shown,) = findings.show(dataset, [0], table)
    html = pages.render("shown/table.html", shown=shown)
    assert re.findall("<dd>(.*?)</dd>", html) == expected
    assert re.findall("<dt>(.*?)</dt>", html) == ["n&lt;1&gt;", "c", "d", "e"]


def test_an_image_is_small_whatever_it_was() -> None:
    pixels = torch.randint(256, (2, 3, 200, 400), dtype=torch.uint8)
    dataset = MemoryDataset(pixels, torch.zeros(2, dtype=torch.int64))
    image = ImageKind(("x", "y"), image_size=(200, 400))
    shown = [pages.render("shown/image.html", shown=one) for one in findings.show(dataset, [1, 0], image)]
    assert all('<img alt="" src="data:image/webp;base64,' in html for html in shown)
    assert max(map(len, shown)) < 12_000 and shown[0] != shown[1]
    assert findings.show(dataset, [], image) == []


def test_a_text_is_cut_and_escaped() -> None:
    dataset = MemoryDataset(torch.zeros(2, 3, dtype=torch.int32), torch.tensor([0, 1]))
    preprocessing = TextKind(("a", "b"), hashing=Hashing("word", 1 << 16, 3))
    texts = np.array(["<b>short</b>", "x" * 1_000], object)
    shown = findings.show(dataset, [0, 1], preprocessing, texts)
    short, long = (pages.render("shown/text.html", shown=one) for one in shown)
    assert short == "<blockquote>&lt;b&gt;short&lt;/b&gt;</blockquote>"
    assert long == f'<blockquote><span class="long" tabindex="0">{"x" * 300}…</span></blockquote>'
