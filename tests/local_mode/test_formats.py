"""Every form of data trains in the image, from files that public tools wrote."""

import csv
import json
import subprocess
from pathlib import Path

from tests import encoders
from tests.formats import FORMATS, NUMBERS
from tests.local_mode.conftest import Fit

SECONDS = 550
EACH = """
for base in /jobs/*; do
    SAGEMAKER_BASE_DIR=$base train >$base/log 2>&1
    echo $? >$base/code
done
"""


def test_every_form_trains(image: str, tmp_path: Path) -> None:
    """In one container, one program after the other: what the SDK has beside it is the same for every form."""
    bases = {form: tmp_path / str(number) for number, form in enumerate(FORMATS)}
    for form, write in FORMATS.items():
        channel = bases[form] / "input/data/training"
        channel.mkdir(parents=True)
        write(channel)
        hyperparameters = {
            "model": "ngrams" if form == "texts" else "mlp",
            "augmentation": "none",
            "fraction": 0.5,
            "epochs": 8,
            "batch_size": 4,
            "validation_fraction": 0.25,
            "learning_rate": 0.05,
        }
        configuration = bases[form] / "input/config"
        configuration.mkdir()
        (configuration / "hyperparameters.json").write_text(
            json.dumps({name: str(value) for name, value in hyperparameters.items()})
        )
    mounted = ["--network=none", f"--volume={tmp_path}:/jobs"]
    command = ["docker", "run", "--rm", *mounted, image, "sh", "-c", EACH]
    subprocess.run(command, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    for form, base in bases.items():
        assert (base / "code").read_text().strip() == "0", f"{form}: {(base / 'log').read_text()}"
        summary = json.loads((base / "output/data/summary.json").read_text())
        examples = summary["examples"]
        assert examples["training"] + examples["validation"] == len(NUMBERS), form
        assert summary["validation"]["accuracy"] > 0.6, form  # chance is 1/3


def test_texts_go_through_an_encoder_that_transformers_wrote(fit: Fit, tmp_path: Path) -> None:
    encoders.write(tmp_path / "pretrained")
    (tmp_path / "training").mkdir()
    with (tmp_path / "training/texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("kind", "text"), *encoders.ROWS[::2], *encoders.ROWS[1::2]])
    result = fit(
        {name: tmp_path / name for name in ("training", "pretrained")},
        {"fraction": 0.5, "epochs": 8, "batch_size": 8, "learning_rate": 0.003, "explain": 1},
    )
    assert result.error is None
    assert result.summary["model"] == "encoder"
    assert result.summary["validation"]["accuracy"] > 0.8
    assert "tokenizer.json" in result.model and "data/explanations.json" in result.output
