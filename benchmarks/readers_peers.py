"""Reads tables with pandas, polars and skrub, for benchmarks.readers. It runs in an environment of its own.

    python benchmarks/readers_peers.py FOLDER…      # each holds t.csv; one line of JSON for each peer and folder
    python benchmarks/readers_peers.py --time FILE  # seconds of CPU and of wall time to read one file

Each line has `peer`, `folder`, and either `refused` (the error) or `columns`: name → [kind, values], where numbers and
dates are what the peer made of a column, and `text` is a column that it left as texts.
"""

import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl  # type: ignore[import-not-found]
import skrub  # type: ignore[import-not-found]

warnings.filterwarnings("ignore")
Columns = dict[str, list[Any]]


def of_pandas(frame: Any) -> Columns:
    found: Columns = {}
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            found[str(name)] = ["date", [None if pd.isna(one) else one.isoformat() for one in column]]
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            values = [None if pd.isna(one) else one for one in column.tolist()]
            found[str(name)] = ["number", [None if one is None or math.isnan(one) else one for one in values]]
        else:
            found[str(name)] = ["text", [None if pd.isna(one) else str(one) for one in column]]
    return found


def of_polars(frame: Any) -> Columns:
    found: Columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.is_temporal():
            found[name] = ["date", [None if one is None else one.isoformat() for one in column]]
        elif column.dtype.is_numeric():
            found[name] = ["number", column.to_list()]
        else:
            found[name] = ["text", [None if one is None else str(one) for one in column]]
    return found


def read_pandas(file: Path) -> Any:
    """With its own guess of the separator."""
    return pd.read_csv(file, sep=None, engine="python")


def pandas(file: Path) -> Columns:
    return of_pandas(read_pandas(file))


def polars(file: Path) -> Columns:
    return of_polars(pl.read_csv(file, try_parse_dates=True))


def cleaner(file: Path) -> Columns:
    return of_pandas(skrub.Cleaner().fit_transform(read_pandas(file)))


def vectorizer(file: Path) -> Columns:
    """The kinds by which TableVectorizer encodes the features, with the values of its cleaning."""
    frame = read_pandas(file)
    cleaned = of_pandas(skrub.Cleaner().fit_transform(frame))
    features = frame.drop(columns=[name for name in frame.columns if name == "label"])
    fitted = skrub.TableVectorizer().fit(features)
    kinds = {"numeric": "number", "datetime": "date", "low_cardinality": "text", "high_cardinality": "text"}
    taken = {
        str(name): kinds[kind]
        for kind, names in fitted.kind_to_columns_.items()
        for name in names
        if kind in kinds
    }
    kept = {name: [taken[name], list(values)] for name, (_, values) in cleaned.items() if name in taken}
    return {**kept, **({"label": cleaned["label"]} if "label" in cleaned else {})}


PEERS: dict[str, Callable[[Path], Columns]] = {
    f"pandas {version('pandas')}": pandas,
    f"polars {version('polars')}": polars,
    f"skrub {version('skrub')} Cleaner": cleaner,
    f"skrub {version('skrub')} TableVectorizer": vectorizer,
}
TIMED: dict[str, Callable[[Path], object]] = {
    f"pandas {version('pandas')}": pd.read_csv,
    f"polars {version('polars')}": lambda file: pl.read_csv(file, try_parse_dates=True),
    f"skrub {version('skrub')} Cleaner": lambda file: skrub.Cleaner().fit_transform(pd.read_csv(file)),
    f"skrub {version('skrub')} TableVectorizer": lambda file: skrub.TableVectorizer().fit_transform(
        pd.read_csv(file)
    ),
}


def main() -> None:
    if sys.argv[1] == "--time":
        for name, read in TIMED.items():
            cpu, wall = time.process_time(), time.perf_counter()
            read(Path(sys.argv[2]))
            seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
            print(json.dumps({"peer": name, **seconds}), flush=True)
        return
    for folder in sys.argv[1:]:
        for name, peer in PEERS.items():
            line: dict[str, Any] = {"peer": name, "folder": folder}
            try:
                line["columns"] = peer(Path(folder) / "t.csv")
            except Exception as error:  # whatever a peer raises is its refusal
                line["refused"] = f"{type(error).__name__}: {error}"[:200]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
