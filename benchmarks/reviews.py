"""A table of free text beside a number and a category, in which each says a part of the label."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

GOOD = ("delighted", "sturdy", "reliable", "quick", "elegant", "recommended")
BAD = ("broken", "flimsy", "late", "noisy", "disappointing", "refund")
FILLER = (
    "the",
    "parcel",
    "arrived",
    "on",
    "my",
    "table",
    "it",
    "was",
    "and",
    "box",
    "with",
    "two",
    "of",
    "this",
)
COLUMNS = ("outcome", "review", "title", "price", "shop")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`review` and `title` are texts, `price` is a number and `shop` a category: each agrees with the outcome more
    often than not, independently, so that all together tell more than any."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        kept = bool(draw.random() < 0.5)
        shares = (0.8, 0.7, 0.8, 0.75)
        review, title, price, shop = (bool(draw.random() < share) == kept for share in shares)
        words = [str(word) for word in draw.choice(FILLER, 9)]
        words.insert(int(draw.integers(9)), str(draw.choice(GOOD if review else BAD)))
        found.append(
            {
                "outcome": "kept" if kept else "returned",
                "review": " ".join(words) + f", {number}.",
                "title": f"{draw.choice(FILLER)} {draw.choice(GOOD if title else BAD)} {draw.choice(FILLER)} {number}",
                "price": round(float(draw.normal(20 if price else 26, 2)), 2),
                "shop": str(draw.choice(("north", "south") if shop else ("east", "west"))),
            }
        )
    return found


def write(file: Path, given: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> Path:
    """As CSV with a header, with these columns."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(given)
    return file
