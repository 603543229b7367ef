"""Files of text in other encodings than UTF-8: read where the encoding is named, refused with what it may be."""

import gzip
from pathlib import Path

import pytest

from subset_trainer.config import hyperparameters
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.errors import UserError

ROWS = 40
WORDS = {
    "cp1252": ("das war schön, für „5 €“ gut", "né à l’île"),
    "shift_jis": ("とても良い映画でした", "ひどい映画だった"),
    "gb18030": ("这部电影真的很好看", "太差了一点也不好看"),
    "utf-16-le": ("so good it was", "so bad it was"),
    "koi8-r": ("очень хороший фильм", "ужасно плохой фильм"),
}
encodings = pytest.mark.parametrize("encoding", WORDS)


def rows(encoding: str) -> tuple[list[str], list[str]]:
    texts = [f"{WORDS[encoding][n % 2]} {n}" for n in range(ROWS)]
    return texts, ["ab"[n % 2] for n in range(ROWS)]


def write(folder: Path, encoding: str, packed: bool = False) -> None:
    folder.mkdir()
    lines = [f'"{text}",{label}' for text, label in zip(*rows(encoding), strict=True)]
    raw = "\n".join(["text,label", *lines, ""]).encode(encoding)
    (folder / ("a.csv.gz" if packed else "a.csv")).write_bytes(gzip.compress(raw) if packed else raw)


def found(folder: Path, encoding: str | None) -> Texts:
    source = read(open_channel("training", folder), Options(text_encoding=encoding), 1 << 30).source
    assert isinstance(source, Texts)
    return source


@encodings
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_is_read_in_the_encoding_that_is_named(tmp_path: Path, encoding: str, packed: bool) -> None:
    write(tmp_path / "training", encoding, packed)
    source = found(tmp_path / "training", encoding)
    assert (source.texts.tolist(), [source.classes[n] for n in source.labels]) == rows(encoding)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "gb18030"])
def test_without_it_the_line_and_what_it_may_be_are_named(
    tmp_path: Path, encoding: str, packed: bool
) -> None:
    write(tmp_path / "training", encoding, packed)
    with pytest.raises(
        UserError, match=r"file 'a\.csv(\.gz)?', line 2: not UTF-8 text \(byte 0x\w\w\)"
    ) as error:
        found(tmp_path / "training", None)
    assert f"text_encoding={encoding} if it is " in str(error.value)
    assert WORDS[encoding][0][:6] in str(error.value)


def test_the_line_is_the_first_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    lines = [b"text,label", *(b"good old times %d,%d" % (n, n % 2) for n in range(ROWS))]
    lines[30] = b"caf\xe9 " + lines[30]
    (tmp_path / "training" / "a.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(
        UserError, match=r"line 31: not UTF-8 text \(byte 0xe9\); .*text_encoding=cp1252 if it is 'café good"
    ):
        found(tmp_path / "training", None)


def test_another_encoding_than_the_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training", "cp1252")
    with pytest.raises(UserError, match="byte 0xf6 does not belong to text_encoding=ascii"):
        found(tmp_path / "training", "ascii")


def test_utf_16_without_its_mark_says_so(tmp_path: Path) -> None:
    write(tmp_path / "training", "utf-16-le")
    with pytest.raises(UserError, match=r"set text_encoding=utf-16-le if it is UTF-16"):
        found(tmp_path / "training", None)


@encodings
def test_texts_in_folders_are_read_likewise(tmp_path: Path, encoding: str) -> None:
    for n, (text, label) in enumerate(zip(*rows(encoding), strict=True)):
        (tmp_path / "training" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "training" / label / f"{n:02}.txt").write_bytes(text.encode(encoding))
    assert sorted(found(tmp_path / "training", encoding).texts) == sorted(rows(encoding)[0])
    if encoding in ("cp1252", "shift_jis"):
        with pytest.raises(
            UserError, match=rf"text 'a/00\.txt': not UTF-8 text .*text_encoding={encoding} if it is"
        ):
            found(tmp_path / "training", None)


@pytest.mark.parametrize("name", ["latin9000", "base64", "rot13"])
def test_an_unknown_encoding_is_refused_with_the_setting(name: str) -> None:
    with pytest.raises(
        UserError, match=r"hyperparameter text_encoding=.*expected the name of a text encoding"
    ):
        hyperparameters.parse({"text_encoding": name})


@encodings
def test_known_encodings_are_accepted(encoding: str) -> None:
    assert hyperparameters.parse({"text_encoding": encoding}).text_encoding == encoding
