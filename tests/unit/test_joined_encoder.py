"""An encoder joined with a table: its features, what is trained at which rate, and what later jobs start from."""

from pathlib import Path

import pytest
import torch

from subset_trainer import artifacts
from subset_trainer.config import parse
from subset_trainer.config.resolved import as_trained
from subset_trainer.data import TableAndTextKind, TableKind, TextKind
from subset_trainer.data.tables.table import Column
from subset_trainer.data.texts.tokens import encode_tokens
from subset_trainer.models import Classifier, JoinedEncoder, build
from subset_trainer.pretrained import encoders
from subset_trainer.pretrained.encoders import Encoder
from subset_trainer.training import optimizer
from tests.encoders import ROWS, write

CLASSES = ("food", "weather")
LENGTH = 24
TEXTS = [text for _, text in ROWS[::11]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bert"))


def given(root: Path) -> Encoder:
    found = encoders.read(root, LENGTH)
    assert found is not None
    return found


def joined(root: Path, texts: int = 2) -> tuple[Classifier, TableAndTextKind]:
    encoder = given(root)
    names = tuple(f"text {number}" for number in range(texts))
    kind = TableAndTextKind(
        CLASSES,
        ("size", *names),
        TableKind(CLASSES, (Column("size", "numeric"),), header=True),
        tuple(TextKind(CLASSES, tokens=encoder.tokens, text_column=name, header=True) for name in names),
    )
    torch.manual_seed(0)
    return build("encoder", kind.input_shape, 2, encoder=encoder.body, **kind.network), kind


def rows_of(kind: TableAndTextKind) -> torch.Tensor:
    """The size of each is its number; the second text is the first of the next row."""
    assert kind.tokens is not None
    tokens = torch.from_numpy(encode_tokens(TEXTS, kind.tokens)).float()
    numbers = torch.arange(len(TEXTS)).float()[:, None]
    return torch.cat([numbers, tokens, tokens.roll(-1, 0)], 1)


def test_each_texts_features_stand_beside_the_tables_inputs(bert: Path) -> None:
    classifier, kind = joined(bert)
    alone = build("encoder", (LENGTH,), 2, encoder=given(bert).body).eval()
    captured: list[torch.Tensor] = []
    network = classifier.eval().network
    assert isinstance(network, JoinedEncoder) and kind.tokens is not None
    network.head.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    with torch.inference_mode():
        classifier(rows_of(kind))
        _, expected = alone.logits_and_features(torch.from_numpy(encode_tokens(TEXTS, kind.tokens)))
    numbers = torch.arange(len(TEXTS)).float()[:, None]
    torch.testing.assert_close(captured[-1], torch.cat([numbers, expected, expected.roll(-1, 0)], 1))


def train(classifier: Classifier, kind: TableAndTextKind, **values: str) -> set[str]:
    """One step; the names of what it changed."""
    hp = as_trained(parse(values), "text", "encoder")
    updates = optimizer.make(classifier, hp, hp.learning_rate)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimizer.set_rate(updates, hp.learning_rate)
    labels = torch.arange(len(TEXTS)) % 2
    torch.nn.functional.cross_entropy(classifier.train()(rows_of(kind)), labels).backward()
    updates.step()
    return {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}


def test_beside_a_frozen_encoder_the_joining_layers_are_trained(bert: Path) -> None:
    classifier, kind = joined(bert)
    classifier.freeze_backbone()
    changed = train(classifier, kind, fine_tune="head")
    assert {name.split(".")[1] for name in changed} == {"head"}
    trained = {name for name, value in classifier.named_parameters() if value.requires_grad}
    assert trained <= changed and len(trained) == 8


def rates(classifier: Classifier, **values: str) -> dict[str, float]:
    """Name of what is trained → its learning rate at the peak of the schedule."""
    hp = as_trained(parse(values), "text", "encoder")
    updates = optimizer.make(classifier, hp, hp.learning_rate)
    optimizer.set_rate(updates, hp.learning_rate)
    of = {id(value): group["lr"] for group in updates.param_groups for value in group["params"]}
    return {name: of[id(value)] for name, value in classifier.named_parameters() if value.requires_grad}


def test_fresh_layers_learn_faster_than_the_encoder(bert: Path) -> None:
    alone = build("encoder", (LENGTH,), 2, encoder=given(bert).body)
    for classifier, fresh in ((joined(bert)[0], 1e-3), (alone, 5e-3)):
        for name, rate in rates(classifier).items():
            assert rate == pytest.approx(5e-5 if name.startswith("network.body.") else fresh), name
    assert max(rates(alone, learning_rate="1e-4").values()) == pytest.approx(1e-2)


def test_an_earlier_jobs_last_layer_learns_like_its_encoder(bert: Path, tmp_path: Path) -> None:
    texts = TextKind(CLASSES, tokens=given(bert).tokens)
    first = build("encoder", (LENGTH,), 2, encoder=given(bert).body)
    artifacts.save_model(tmp_path, first, "encoder", texts, {})
    for classes, fresh in ((CLASSES, False), (("other", *CLASSES), True)):
        encoder = given(tmp_path)
        later = build("encoder", (LENGTH,), len(classes), encoder=encoder.body)
        encoders.load_head(later, encoder, classes)
        assert set(rates(later).values()) == ({5e-5, 5e-3} if fresh else {5e-5})


def test_where_the_encoder_is_trained_too_the_run_is_shorter(bert: Path) -> None:
    def shape(**values: str) -> tuple[int, int, int]:
        hp = as_trained(parse(values), "text", "encoder")
        # Nothing is warned about that nobody gave.
        assert hp.model_fields_set - {"model"} == set(values)
        return hp.epochs, hp.batch_size, hp.select_every

    assert shape() == (8, 32, 2)
    assert shape(fine_tune="head") == (30, 128, 5)
    assert shape(epochs="30", batch_size="128", select_every="5") == (30, 128, 5)


def test_a_saved_model_answers_as_it_did(bert: Path, tmp_path: Path) -> None:
    classifier, kind = joined(bert)
    artifacts.save_model(tmp_path, classifier, "encoder", kind, {})
    again = artifacts.load_model(tmp_path)
    assert again.preprocessing == kind
    with torch.inference_mode():
        torch.testing.assert_close(
            again.classifier(rows_of(kind)), classifier.eval()(rows_of(kind)), rtol=0, atol=0
        )


def test_a_later_job_starts_from_the_encoder_with_new_layers(bert: Path, tmp_path: Path) -> None:
    """Of a table with texts for texts, of texts for a table with texts, and of one such table for another."""
    classifier, kind = joined(bert)
    artifacts.save_model(tmp_path / "joined", classifier, "encoder", kind, {})
    texts = TextKind(CLASSES, tokens=given(bert).tokens)
    alone = build("encoder", (LENGTH,), 2, encoder=given(bert).body)
    artifacts.save_model(tmp_path / "texts", alone, "encoder", texts, {})
    for place in ("joined", "texts"):
        encoder = given(tmp_path / place)
        for later in (joined(tmp_path / place)[0], build("encoder", (LENGTH,), 2, encoder=encoder.body)):
            told = encoders.load_head(later, encoder, CLASSES)
            same = place == "texts" and not isinstance(later.network, JoinedEncoder)
            assert ("its last layer included" if same else "with a fresh last layer") in told
