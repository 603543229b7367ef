"""Encoders of texts: what is read of a folder, what is refused, and what becomes of texts in them."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from subset_trainer import artifacts, job
from subset_trainer.config import Hyperparameters, parse
from subset_trainer.config.resolved import as_trained
from subset_trainer.contract import Contract
from subset_trainer.data import ImageKind, Kind, MemoryDataset, TextKind, load_splits
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.texts.ngrams import Hashing
from subset_trainer.data.texts.tokens import Tokens, encode_tokens, read_tokenizer
from subset_trainer.errors import UserError
from subset_trainer.job import read
from subset_trainer.models import Classifier, TextEncoder, build
from subset_trainer.models.text_encoder import TOGETHER
from subset_trainer.pretrained import encoders
from subset_trainer.pretrained.encoders import Encoder
from subset_trainer.serving import requests
from subset_trainer.serving.predictor import Predictor
from subset_trainer.training import devices, optimizer
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.optimizer import AdamW
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.place import Place
from tests.encoders import ROWS, change, tokenizer, write
from tests.kinds import text_kind

CLASSES = ("food", "weather")
TEXTS = [text for _, text in ROWS[::7]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    """To be changed."""
    return Path(shutil.copytree(bert, tmp_path / "pretrained"))


def given(root: Path, most_tokens: int = 32) -> Encoder:
    found = encoders.read(root, most_tokens)
    assert found is not None
    return found


def classifier_of(root: Path, most_tokens: int = 32, seed: int = 0) -> tuple[Classifier, Kind]:
    encoder = given(root, most_tokens)
    torch.manual_seed(seed)
    preprocessing = TextKind(CLASSES, tokens=encoder.tokens)
    return build("encoder", preprocessing.input_shape, 2, encoder=encoder.body), preprocessing


def features_of(classifier: Classifier, preprocessing: Kind, texts: list[str]) -> torch.Tensor:
    assert preprocessing.tokens is not None
    with torch.inference_mode():
        ids = torch.from_numpy(encode_tokens(texts, preprocessing.tokens))
        return classifier.eval().logits_and_features(ids)[1]


def reference(folder: Path, texts: list[str], first: bool = False) -> torch.Tensor:
    """The features by transformers' own reading of the folder, one text at a time without any padding."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = []
    with torch.inference_mode():
        for text in texts:
            hidden = model(input_ids=torch.tensor([tokens.encode(text).ids])).last_hidden_state[0]
            found.append(hidden[0] if first else hidden.mean(0))
    return torch.stack(found)


# What is read

KINDS: dict[str, dict[str, Any]] = {
    "BertForMaskedLM": {},
    "BertForSequenceClassification": {"num_labels": 5},
    "DistilBertModel": {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
    "RobertaForMaskedLM": {"pad_token_id": 0, "max_position_embeddings": 34},
    "ModernBertModel": {"pad_token_id": 0, "classifier_pooling": "mean"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_transformers_own(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind, **KINDS[kind])
    classifier, preprocessing = classifier_of(tmp_path)
    found = features_of(classifier, preprocessing, TEXTS)
    torch.testing.assert_close(found, reference(tmp_path, TEXTS), rtol=1e-4, atol=1e-5)


def test_roberta_has_fewer_positions_than_it_says(tmp_path: Path) -> None:
    write(tmp_path, "RobertaModel", pad_token_id=1, max_position_embeddings=34)
    assert given(tmp_path, 128).tokens.length == 32
    classifier, preprocessing = classifier_of(tmp_path, 128)
    assert features_of(classifier, preprocessing, ["rain " * 100]).isfinite().all()


@pytest.mark.parametrize("form", ["below", "sharded", "bin", "sharded bin", "archive", "half precision"])
def test_the_forms_of_a_folder(form: str, copy: Path, bert: Path, tmp_path: Path) -> None:
    root = copy
    tolerance = 1e-5
    weights = load_file(copy / "model.safetensors")
    names = sorted(weights)
    parts = {"part-1": names[::2], "part-2": names[1::2]}
    if form == "below":
        root = tmp_path / "channel"
        shutil.move(copy, root / "some/bert")
    elif form == "archive":
        root = tmp_path / "channel"
        root.mkdir()
        with tarfile.open(root / "bert.tar.gz", "w:gz") as archive:
            archive.add(copy, "bert")
    elif form == "half precision":
        save_file({name: value.half() for name, value in weights.items()}, copy / "model.safetensors")
        tolerance = 1e-2
    else:
        (copy / "model.safetensors").unlink()
        suffix, save = (".bin", torch.save) if form.endswith("bin") else (".safetensors", save_file)
        whole = "pytorch_model.bin" if form.endswith("bin") else "model.safetensors"
        if form == "bin":
            torch.save(weights, copy / whole)
        else:
            places = {name: f"{part}{suffix}" for part, own in parts.items() for name in own}
            (copy / f"{whole}.index.json").write_text(json.dumps({"weight_map": places}))
            for part, own in parts.items():
                save({name: weights[name] for name in own}, copy / f"{part}{suffix}")
    classifier, preprocessing = classifier_of(root)
    torch.testing.assert_close(
        features_of(classifier, preprocessing, TEXTS), reference(bert, TEXTS), rtol=tolerance, atol=tolerance
    )


def test_a_vocabulary_is_as_good_as_a_tokenizer(copy: Path, bert: Path) -> None:
    (copy / "tokenizer.json").unlink()
    known = tokenizer().get_vocab()
    (copy / "vocab.txt").write_text("\n".join(sorted(known, key=known.__getitem__)) + "\n")
    (copy / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    ours, theirs = given(copy).tokens, given(bert).tokens
    np.testing.assert_array_equal(encode_tokens(TEXTS, ours), encode_tokens(TEXTS, theirs))


def test_the_first_token_counts_where_the_model_says_so(copy: Path) -> None:
    assert given(copy).body.pooling == "mean"
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    classifier, preprocessing = classifier_of(copy)
    torch.testing.assert_close(
        features_of(classifier, preprocessing, TEXTS),
        reference(copy, TEXTS, first=True),
        rtol=1e-4,
        atol=1e-5,
    )
    (copy / "1_Pooling/config.json").unlink()
    change(copy / "config.json", classifier_pooling="cls")
    assert given(copy).body.pooling == "first"


def test_other_models_folders_are_none(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert encoders.read(tmp_path, 32) is None
    # As timm's models of images have it.
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50"}))
    assert encoders.read(tmp_path, 32) is None


# What is refused


def _drop(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def _say(**values: Any) -> Callable[[Path], None]:
    return lambda root: change(root / "config.json", **values)


def _fill(name: str, content: bytes) -> Callable[[Path], None]:
    def fill(root: Path) -> None:
        (root / name).write_bytes(content)

    return fill


def _weights(**changes: torch.Tensor | None) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        kept = load_file(root / "model.safetensors") | {
            f"bert.{name.replace('__', '.')}": value for name, value in changes.items()
        }
        save_file(
            {name: value for name, value in kept.items() if value is not None}, root / "model.safetensors"
        )

    return make


def _more_tokens(root: Path) -> None:
    grown = tokenizer()
    grown.add_tokens([f"word{n}" for n in range(50)])
    grown.save(str(root / "tokenizer.json"))


def _pickle(root: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("this must not run",))

    (root / "model.safetensors").unlink()
    torch.save({"weights": Evil()}, root / "pytorch_model.bin")


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (_drop("model.safetensors"), "holds no model.safetensors"),
    (_fill("model.safetensors", b"nothing of the kind"), "holds a model.safetensors that cannot be read ("),
    (_pickle, "holds a pytorch_model.bin that cannot be read ("),
    (
        _drop("tokenizer.json"),
        "holds no tokenizer that can be used (no tokenizer.json, no vocab.txt and no vocab.json)",
    ),
    (_fill("tokenizer.json", b"{}"), "holds no tokenizer that can be used (Model missing."),
    (_fill("tokenizer.json", b"\xff"), "holds no tokenizer that can be used ('utf-8' codec"),
    (_more_tokens, "holds no tokenizer that can be used (it has the token "),
    (_fill("config.json", b"{"), "holds a config.json that cannot be read ("),
    (_fill("config.json", b"[1]"), "cannot be used: config.json holds [1], not a configuration"),
    (_say(model_type=7), "cannot be used: config.json has 7 for a model_type"),
    (
        _say(model_type="nobert"),
        "cannot be used: model_type 'nobert' is not a text encoder that transformers knows (",
    ),
    (
        _say(model_type="gpt2"),
        "cannot be used: model_type 'gpt2' is not a text encoder that transformers knows (",
    ),
    (_say(model_type="bart"), "cannot be used: a bart that decodes is not a text encoder"),
    (_say(is_decoder=True), "cannot be used: a bert that decodes is not a text encoder"),
    (
        _say(auto_map={"AutoModel": "x.Y"}),
        "cannot be used: it needs code of its own (auto_map), which is not run",
    ),
    (_say(quantization_config={"bits": 4}), "cannot be used: its weights are quantised"),
    (_say(hidden_size="wide"), "cannot be used: its configuration cannot be used ("),
    (_say(hidden_size=10**6), "cannot be used: its configuration "),
    (
        _say(num_hidden_layers=10**9),
        "cannot be used: its configuration has 1000000000 layers, but the weights have ",
    ),
    (_say(num_hidden_layers=3), "cannot be used: its configuration needs "),
    (_say(intermediate_size=48), "has the shape (64,), not (48,) as its configuration says"),
    (
        _weights(encoder__layer__0__output__dense__bias=None, x=torch.zeros(99)),
        "cannot be used: its weights lack ",
    ),
    (
        _weights(embeddings__LayerNorm__bias=torch.full((32,), torch.nan)),
        "has numbers in 'embeddings.LayerNorm.bias' that",
    ),
]


@pytest.mark.parametrize(("spoil", "sentence"), REFUSED, ids=[sentence[:60] for _, sentence in REFUSED])
def test_what_is_no_encoder_is_one_sentence(
    spoil: Callable[[Path], None], sentence: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copy)
    with pytest.raises(UserError) as error:
        encoders.read(copy, 32)
    text = str(error.value)
    assert text.startswith("pretrained channel: the channel's folder ") and sentence in text
    assert text.endswith(f"; expected {encoders.EXPECTED}.") and "\n" not in text
    assert "must not run" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (b"[]", "holds an model.safetensors.index.json without a weight_map of files"),
        (b'{"weight_map": {"a": 1}}', "without a weight_map of files"),
        (b'{"weight_map": {"a": "../../etc/passwd"}}', "lacks '../../etc/passwd', which its index names"),
    ],
)
def test_an_index_of_what_is_not_there(index: bytes, sentence: str, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(UserError) as error:
        encoders.read(copy, 32)
    assert sentence in str(error.value)


# What becomes of texts


def test_texts_are_cut_and_padded(bert: Path) -> None:
    tokens = given(bert, 8).tokens
    rows = encode_tokens(["rain", "", "rain " * 50, "Today \ud800", "[PAD] rain"], tokens)
    assert rows.dtype == np.int32 and rows.shape == (5, 8)
    known = tokenizer()
    cls, sep, rain = (known.token_to_id(name) for name in ("[CLS]", "[SEP]", "rain"))
    assert rows[0].tolist() == [cls, rain, sep, *[-1] * 5]
    assert rows[1].tolist() == [cls, sep, *[-1] * 6]
    assert rows[2].tolist() == [cls, *[rain] * 6, sep]
    assert (rows[4] >= 0).sum() == 4


def test_logits_do_not_depend_on_padding_or_company(bert: Path) -> None:
    classifier, preprocessing = classifier_of(bert)
    assert isinstance(classifier.network, TextEncoder) and preprocessing.tokens is not None
    ids = torch.from_numpy(encode_tokens([*TEXTS, "", *TOGETHER * ["rain"]], preprocessing.tokens))
    seen: list[int] = []
    classifier.network.body.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    with torch.inference_mode():
        together = classifier.eval()(ids)
        alone = torch.cat([classifier(row[None]) for row in ids])
        wide = classifier(torch.nn.functional.pad(ids, (0, 8), value=-1))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together, wide, rtol=1e-4, atol=1e-6)
    parts = -(-len(ids) // TOGETHER)
    assert seen[0] < 32 and seen[parts : parts + len(ids)][-1] == 8  # cut to the longest, in eights
    assert seen[:parts] == seen[-parts:] == sorted(seen[:parts], reverse=True)  # of similar lengths together
    assert seen[parts - 1] < seen[0]


def test_padding_stays_where_it_matters(tmp_path: Path) -> None:
    """FNet mixes all places: a text's logits are those beside all of the padding, whatever its company."""
    write(tmp_path, "FNetModel")
    classifier, preprocessing = classifier_of(tmp_path)
    assert preprocessing.tokens is not None
    ids = torch.from_numpy(encode_tokens(TEXTS, preprocessing.tokens))
    with torch.inference_mode():
        together = classifier.eval()(ids)
        alone = torch.cat([classifier(row[None]) for row in ids])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_a_tokenizer_without_padding_or_ends(copy: Path) -> None:
    bare = tokenizer(special=["[UNK]", "[CLS]", "[SEP]"])
    bare.post_processor = None
    bare.save(str(copy / "tokenizer.json"))
    classifier, preprocessing = classifier_of(copy)
    features = features_of(classifier, preprocessing, ["", *TEXTS])
    assert features.isfinite().all() and "[PAD]" not in bare.get_vocab()


def test_a_text_that_the_tokenizer_has_no_token_for() -> None:
    narrow = Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]"))
    narrow.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens = read_tokenizer(narrow.to_str(), 8, 1)
    with pytest.raises(UserError, match=r"the encoder's tokenizer cannot encode a text \(.*UNK"):
        encode_tokens(["a", "b"], tokens)


def test_reading_a_channel_gives_tokens(bert: Path, tmp_path: Path) -> None:
    for n, (kind, text) in enumerate(ROWS):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{n}.txt").write_text(text)
    tokens = given(bert).tokens
    splits = load_splits({"training": tmp_path}, tokens=tokens)
    assert splits.preprocessing.tokens == tokens and text_kind(splits.preprocessing).hashing is None
    assert isinstance(splits.train, MemoryDataset) and splits.train_texts is not None
    np.testing.assert_array_equal(splits.train.inputs.numpy(), encode_tokens(splits.train_texts, tokens))
    again = from_json(json.loads(json.dumps(splits.preprocessing.to_json())))
    assert again == splits.preprocessing


# Training


def trained(classifier: Classifier, preprocessing: Kind, hp: Hyperparameters, steps: int = 3) -> None:
    assert preprocessing.tokens is not None
    updates = optimizer.make(classifier, hp, hp.learning_rate)
    ids = torch.from_numpy(encode_tokens([text for _, text in ROWS], preprocessing.tokens))
    labels = torch.tensor([CLASSES.index(kind) for kind, _ in ROWS])
    classifier.train()
    for _ in range(steps):
        updates.zero_grad()
        torch.nn.functional.cross_entropy(classifier(ids), labels).backward()
        updates.step()


def test_a_frozen_encoder_stays_as_it_is(bert: Path) -> None:
    classifier, preprocessing = classifier_of(bert)
    classifier.freeze_backbone()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    trained(classifier, preprocessing, as_trained(parse({"fine_tune": "head"}), "text", "encoder"))
    changed = {
        name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"network.head.weight", "network.head.bias"}
    assert [name for name, module in classifier.network.named_modules() if module.training] == ["head"]


def test_an_encoder_is_trained_but_for_what_it_does_not_use(bert: Path) -> None:
    classifier, preprocessing = classifier_of(bert)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    trained(classifier, preprocessing, as_trained(parse({"learning_rate": 0.01}), "text", "encoder"), steps=1)
    unchanged = {name for name, value in classifier.state_dict().items() if torch.equal(value, before[name])}
    assert unchanged == {"network.body.pooler.dense.weight", "network.body.pooler.dense.bias"}
    assert classifier.network.dropout.p == 0.1  # type: ignore[union-attr]


def test_an_encoder_is_trained_with_adamw_alone() -> None:
    assert as_trained(parse({"optimizer": "adamw"}), "text", "encoder").learning_rate == 5e-5
    with pytest.raises(UserError, match="optimizer='muon': an encoder is trained with adamw"):
        as_trained(parse({"optimizer": "muon"}), "text", "encoder")


def test_the_defaults_are_an_encoder_s_where_nothing_is_said() -> None:
    usual = as_trained(parse({}), "text", "encoder")
    assert (usual.learning_rate, usual.weight_decay, usual.learning_rate_scaling) == (5e-5, 0.01, "sqrt")
    assert (usual.eta, usual.model) == (0.05, "encoder")
    assert as_trained(parse({"fine_tune": "head"}), "text", "encoder").learning_rate == 1e-3
    said = parse({"fine_tune": "head", "learning_rate": 0.01, "weight_decay": 0, "eta": 1})
    said = as_trained(said, "text", "encoder")
    assert (said.learning_rate, said.weight_decay, said.eta) == (0.01, 0, 1)


def test_an_encoder_s_defaults_do_not_count_as_given(caplog: pytest.LogCaptureFixture) -> None:
    said = as_trained(parse({"epochs": 3}), "text", "encoder")
    assert said.model_fields_set <= {"epochs", "model"} and not caplog.text
    read.configured(parse({"momentum": 0.5}), "text", "encoder", True)
    assert "momentum=0.5 is not used" in caplog.text


def test_adamw_is_torch_s_to_the_last_bit() -> None:
    ours, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        kind(model.parameters(), lr=0.1, weight_decay=0.1, fused=True)
        for kind, model in ((AdamW, ours), (torch.optim.AdamW, theirs))
    ]
    for _ in range(3):
        for model, each in zip((ours, theirs), optimizers, strict=True):
            each.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            each.step()
        optimizers[0].load_state_dict(optimizers[0].state_dict())
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


def test_a_checkpoint_holds_what_adamw_goes_on_from(tmp_path: Path) -> None:
    def step(model: torch.nn.Module, step_of: torch.optim.Optimizer) -> None:
        step_of.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        step_of.step()

    model = torch.nn.Linear(3, 2)
    optimizer = AdamW(model.parameters(), lr=0.1, fused=True)
    step(model, optimizer)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    Checkpoints(tmp_path, {}, 5.0).save(1, 1, state, last=True)
    found = Checkpoints(tmp_path, {}, 5.0).load()
    assert found is not None
    again = torch.nn.Linear(3, 2)
    again.load_state_dict(found["model"])
    other = AdamW(again.parameters(), lr=0.5, fused=True)
    other.load_state_dict(found["optimizer"])
    step(model, optimizer)
    step(again, other)
    assert torch.equal(again.weight, model.weight)


def test_positions_have_no_average(bert: Path) -> None:
    classifier, _ = classifier_of(bert)
    average = MovingAverage(classifier, 0.9)
    for _ in range(5):
        average.update_parameters(classifier)
    positions = dict(average.module.named_buffers())["network.body.embeddings.position_ids"]
    assert torch.equal(positions[0], torch.arange(40))


def test_selection_looks_at_the_features(bert: Path) -> None:
    classifier, preprocessing = classifier_of(bert)
    assert preprocessing.tokens is not None
    dataset = MemoryDataset(
        torch.from_numpy(encode_tokens(TEXTS, preprocessing.tokens)),
        torch.zeros(len(TEXTS), dtype=torch.int64),
    )
    pool, _ = look_at(classifier, dataset, Place(devices.prepare("cpu", "float32", images=False)))
    assert pool.features is not None and pool.logits is not None
    torch.testing.assert_close(pool.features, features_of(classifier, preprocessing, TEXTS))
    with torch.inference_mode():
        torch.testing.assert_close(pool.logits, classifier.head(pool.features))


# What a job leaves, and what begins from it


@pytest.fixture(scope="module")
def left(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's model folder."""
    classifier, preprocessing = classifier_of(bert)
    trained(classifier, preprocessing, as_trained(parse({"learning_rate": 0.01}), "text", "encoder"), steps=2)
    folder = tmp_path_factory.mktemp("model")
    artifacts.save_model(folder, classifier, "encoder", preprocessing, {})
    np.save(folder.parent / "features.npy", features_of(classifier, preprocessing, TEXTS).numpy())
    return folder


def test_what_was_saved_predicts_the_same(left: Path) -> None:
    assert {path.name for path in left.iterdir()} == {"model.safetensors", "model.json", "tokenizer.json"}
    model = artifacts.load_model(left)
    found = features_of(model.classifier, model.preprocessing, TEXTS)
    np.testing.assert_array_equal(found.numpy(), np.load(left.parent / "features.npy"))
    body = json.dumps({"instances": TEXTS}).encode()
    answers = Predictor(model, torch.device("cpu")).probabilities(
        requests.batches(body, "application/json", model.preprocessing)
    )
    with torch.inference_mode():
        expected = model.classifier.head(found).softmax(1)
    np.testing.assert_allclose(answers, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_an_earlier_job_s_model_is_gone_on_from(packed: bool, left: Path, tmp_path: Path) -> None:
    root = left
    if packed:
        root = tmp_path
        with tarfile.open(root / "model.tar.gz", "w:gz") as archive:
            for file in left.iterdir():
                archive.add(file, file.name)
    encoder = given(root)
    classifier = build("encoder", (32,), 2, encoder=encoder.body)
    note = encoders.load_head(classifier, encoder, CLASSES)
    assert (
        ", its last layer included; the first 32 tokens of a text are used, and their outputs are averaged."
        in note
    )
    state = load_file(left / "model.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())
    other = build("encoder", (32,), 2, encoder=given(root).body)
    assert ", with a fresh last layer; " in encoders.load_head(other, encoder, ("food", "sport"))
    assert not torch.equal(other.head.weight, state["network.head.weight"])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_drop("tokenizer.json"), "tokenizer.json cannot be used ("),
        (
            _fill("tokenizer.json", b"{}"),
            "tokenizer.json cannot be used (it is not the one that the model was trained",
        ),
        (_fill("model.safetensors", b"x"), "model.safetensors is damaged or belongs to another model ("),
        (
            lambda root: change(root / "model.json", encoder=None),
            "is damaged or belongs to another model (its encoder is None",
        ),
        (
            lambda root: change(root / "model.json", encoder={"config": 5, "pooling": "mean"}),
            "holds 5, not a conf",
        ),
        (
            lambda root: change(root / "model.json", architecture="ngrams"),
            "an encoder and tokens belong together",
        ),
    ],
)
def test_a_model_folder_that_is_damaged(
    spoil: Callable[[Path], None], sentence: str, left: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(left, tmp_path / "model"))
    spoil(folder)
    with pytest.raises(UserError) as error:
        artifacts.load_model(folder)
    assert sentence in str(error.value) and "\n" not in str(error.value)


# What goes with what


def test_n_grams_do_not_go_with_an_encoder() -> None:
    given = TextKind(CLASSES, tokens=Tokens(8, 100, ""))
    assert TextKind(CLASSES, hashing=Hashing("word", 8, 8)).model("auto") == "ngrams"
    assert given.model("auto") == given.model("encoder") == "encoder"
    with pytest.raises(UserError) as error:
        given.model("ngrams")
    assert str(error.value) == (
        "hyperparameter model='ngrams' does not go with an encoder in the channel 'pretrained'; expected "
        "model=encoder or auto, or no such channel"
    )
    with pytest.raises(UserError, match="model='encoder' is for texts; images expect another"):
        ImageKind(CLASSES, (8, 8)).model("encoder")


@pytest.mark.parametrize(
    ("data", "begin_with", "hp", "sentence"),
    [
        (
            "texts",
            None,
            {"model": "encoder"},
            "hyperparameter model='encoder' needs the channel 'pretrained', which is not given",
        ),
        (
            "texts",
            None,
            {"fine_tune": "head"},
            "hyperparameter fine_tune='head' needs the channel 'pretrained', which is not given",
        ),
        (
            "table",
            "bert",
            {},
            "channel 'pretrained': the channel's folder is an encoder of texts, and the training channel holds tables",
        ),
        (
            "texts",
            "weights",
            {},
            "channel 'pretrained': it holds no encoder of texts, and the training channel holds texts; expected "
            + encoders.EXPECTED,
        ),
    ],
)
def test_what_does_not_go_with_the_data(
    data: str, begin_with: str | None, hp: dict[str, Any], sentence: str, bert: Path, tmp_path: Path
) -> None:
    training, weights = tmp_path / "training", tmp_path / "weights"
    training.mkdir()
    weights.mkdir()
    save_file({"a": torch.zeros(1)}, weights / "model.safetensors")
    cells = [text for _, text in ROWS] if data == "texts" else range(len(ROWS))
    lines = [f'{kind},"{cell}"' for (kind, _), cell in zip(ROWS, cells, strict=True)]
    (training / "t.csv").write_text("\n".join(["kind,value", *lines]))
    channels = {"training": training}
    if begin_with:
        channels["pretrained"] = {"bert": bert, "weights": weights}[begin_with]
    contract = Contract(tmp_path, {}, channels, ("localhost",), "localhost", None, None)
    with pytest.raises(UserError) as error:
        job.run(contract, parse({"device": "cpu", **hp}), Ranks())
    assert str(error.value) == sentence
