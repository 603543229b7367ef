"""What a job has left is served by the same image: an endpoint and batch transform, as the SDK makes them."""

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer, JSONLinesDeserializer
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, DataSerializer, JSONLinesSerializer
from sagemaker.session import Session

from deploy.aws import launch
from tests.local_mode.conftest import ROLE, Fit, without_ended_containers

CENTRES = {"setosa": (0.0, 0.0), "virginica": (6.0, 0.0), "versicolor": (0.0, 6.0)}
TABLE = {"model": "mlp", "label_column": "species", "strategy": "full", "epochs": 10, "batch_size": 32}


@pytest.fixture
def session(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """For hosting at a port of its own: another server may have the usual one. After `fit`, which sets the region."""
    # Of whom it would ask for credentials that local mode does not need, for many seconds.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = launch.sagemaker_session(local=True)
    assert session.config is not None
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    session.config = {
        "local": {**session.config["local"], "container_root": str(tmp_path), "serving_port": port}
    }
    return session


def trained_model(image: str, session: Session, tmp_path: Path) -> Model:
    """Of the archive that `fit` has left."""
    return Model(
        image_uri=image,
        model_data=(tmp_path / "results/model.tar.gz").as_uri(),
        role=ROLE,
        predictor_cls=Predictor,
        sagemaker_session=session,
    )


@contextmanager
def deployed(model: Model) -> Iterator[Predictor]:
    assert isinstance(model.image_uri, str)
    with without_ended_containers(model.image_uri):
        # Local mode waits for /ping by itself; waiting once more takes 30 s.
        predictor = model.deploy(initial_instance_count=1, instance_type="local", wait=False)
        try:
            yield predictor
        finally:
            predictor.delete_endpoint()


def flowers(folder: Path) -> list[str]:
    """Write a table; its rows without the label."""
    generator = np.random.default_rng(0)
    lines = ["species,width,length,site"]
    for number in range(300):
        species = list(CENTRES)[number % 3]
        width, length = generator.normal(CENTRES[species], 1.0)
        lines.append(f"{species},{width:.3f},{length:.3f},{'north' if number % 2 else 'south'}")
    folder.mkdir()
    (folder / "flowers.csv").write_text("\n".join(lines) + "\n")
    return [line.partition(",")[2] for line in lines[1:]]


def test_a_table(fit: Fit, image: str, session: Session, tmp_path: Path) -> None:
    rows = flowers(tmp_path / "table")
    result = fit({"training": tmp_path / "table"}, TABLE)
    assert result.error is None
    classes = json.loads(result.model["model.json"])["classes"]
    model = trained_model(image, session, tmp_path)

    questions = [[0.0, 0.0, "north"], [6.0, 0.0, "south"], [0.0, 6.0, None]]
    with deployed(model) as predictor:
        predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
        answers: Any = predictor.predict(questions[:2])
        assert [row[0] for row in answers] == ["setosa", "virginica"]
        for row in answers:
            assert sum(map(float, row[1:])) == pytest.approx(1, abs=1e-5)

        # What Clarify sends, and asks for.
        predictor.serializer = JSONLinesSerializer()
        predictor.deserializer = JSONLinesDeserializer(accept="application/jsonlines")
        answers = predictor.predict([{"features": row} for row in questions])
        assert [answer["predicted_label"] for answer in answers] == list(CENTRES)
        for answer in answers:
            assert classes[int(np.argmax(answer["probabilities"]))] == answer["predicted_label"]

    (tmp_path / "input").mkdir()
    (tmp_path / "input/rows.csv").write_text("\n".join(rows) + "\n")
    transformer = model.transformer(
        instance_count=1,
        instance_type="local",
        strategy="MultiRecord",
        assemble_with="Line",
        accept="text/csv",
        max_payload=1,
        output_path=(tmp_path / "transformed").as_uri(),
    )
    with without_ended_containers(image):
        # With logs=True the SDK asks CloudWatch, in local mode as well.
        transformer.transform(
            (tmp_path / "input").as_uri(), content_type="text/csv", split_type="Line", logs=False
        )
    lines = (tmp_path / "transformed/rows.csv.out").read_text().splitlines()
    assert len(lines) == len(rows)
    right = [line.partition(",")[0] == list(CENTRES)[number % 3] for number, line in enumerate(lines)]
    assert sum(right) > 0.9 * len(rows)


def test_images(fit: Fit, image: str, session: Session, digits: Path, tmp_path: Path) -> None:
    result = fit(
        {"training": digits / "training"},
        {"model": "cnn", "augmentation": "none", "strategy": "random", "fraction": 0.5, "epochs": 4},
    )
    assert result.error is None
    files = sorted((digits / "test").glob("*/*.png"))[::12]
    with deployed(trained_model(image, session, tmp_path)) as predictor:
        predictor.serializer, predictor.deserializer = DataSerializer("image/png"), JSONDeserializer()
        answers: list[Any] = [predictor.predict(file.read_bytes()) for file in files]
        found = [answer["predictions"][0]["predicted_label"] for answer in answers]
        right = sum(label == file.parent.name for label, file in zip(found, files, strict=True))
        assert right > 0.7 * len(files)  # chance is 0.1

        predictor.serializer = JSONLinesSerializer()
        predictor.deserializer = JSONLinesDeserializer(accept="application/jsonlines")
        lines = [{"image": base64.b64encode(file.read_bytes()).decode()} for file in files]
        answered: Any = predictor.predict(lines)
        assert [answer["predicted_label"] for answer in answered] == found
