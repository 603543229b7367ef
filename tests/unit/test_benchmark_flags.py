"""The benchmark of the report's flags."""

import numpy as np

from benchmarks import flags


def test_labels_become_wrong_as_told() -> None:
    given = np.arange(1_000) % 4
    for kind in ("uniform", "next class"):
        noisy = flags.changed(given, kind, 0.2, 4, seed=1)
        wrong = noisy != given
        assert wrong.sum() == 200
        others = set(((noisy - given) % 4)[wrong].tolist())
        assert others == ({1, 2, 3} if kind == "uniform" else {1})


def test_a_row_a_method_and_their_mean() -> None:
    data = flags.tables()[0]
    part = flags.Data(data.name, data.inputs[:200], data.labels[:200], {**data.settings, "epochs": 2})
    rows = flags.find_labels(part, "uniform", 0.1, 0, 2, {"strategy": "full", "fraction": "1"})
    assert [row["method"] for row in rows] == ["ours", "mean loss", "cleanlab"]
    assert all(0 <= row["auroc"] <= 1 for row in rows)
    assert rows[1]["precision"] == rows[1]["recall"]
    table = flags.label_table([*rows, {**rows[0], "seed": 1, "auroc": rows[0]["auroc"] - 0.1}])
    assert f"{rows[0]['auroc'] - 0.05:.3f}" in table and len(table.splitlines()) == 5
