"""What to say of text files that are not in UTF-8, nor in the encoding that the user names."""

_USUAL = ("cp1252", "shift_jis", "gb18030", "big5", "euc_kr", "cp1251")
_SHOWN = 2
_AROUND = 12
"""Characters that are shown on both sides of a byte that is not UTF-8."""


def refusal(line: bytes, encoding: str | None) -> str | None:
    """The end of a sentence on a line that is not UTF-8, or not in the given encoding, with the settings that would
    read it; None if it is."""
    try:
        line.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        at = error.start
    else:
        return None
    if encoding is not None:
        return f"byte 0x{line[at]:02x} does not belong to text_encoding={encoding}; expected another encoding"
    readings: list[tuple[float, str]] = []
    for name in _USUAL:
        try:
            before, whole = line[:at].decode(name), line.decode(name)
        except UnicodeDecodeError:
            continue
        part = whole[max(0, len(before) - _AROUND) : len(before) + _AROUND].strip()
        readings.append((-_letters(whole), f"text_encoding={name} if it is {part!r}"))
    readings.sort(key=lambda reading: reading[0])
    settings = " or ".join(reading for _, reading in readings[:_SHOWN]) or "text_encoding"
    return f"not UTF-8 text (byte 0x{line[at]:02x}); expected UTF-8, so set {settings}, or write the file in UTF-8"


def _letters(text: str) -> float:
    """The share of letters among characters beyond ASCII; those of half a width stand for misread bytes."""
    others = [letter for letter in text if not letter.isascii()]
    right = sum(letter.isalpha() and not "\uff61" <= letter <= "\uff9f" for letter in others)
    return right / max(1, len(others))
