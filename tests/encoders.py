"""A tiny Hugging Face encoder with random weights, as public tools write it."""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = {"weather": ("rain", "sun", "wind"), "food": ("bread", "soup", "salt")}
ROWS = [
    (kind, f"Today {word}, and number {n} of it {word}s.")
    for kind, words in WORDS.items()
    for word in words
    for n in range(20)
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def tokenizer(special: Sequence[str] = SPECIAL) -> Tokenizer:
    """A WordPiece tokenizer with BERT's rules: the rows' words are tokens, others are split into characters."""
    words = {word.strip(",.").lower() for _, text in ROWS for word in text.split()}
    letters = [*string.ascii_lowercase, *string.digits, *",."]
    known = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *sorted(words)])
    made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(known)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(list(special))
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def write(folder: Path, kind: str = "BertForMaskedLM", seed: int = 0, **config: Any) -> Path:
    """What `save_pretrained` leaves in a folder.

    Args:
        kind: a class of transformers.
        config: further entries of its configuration.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    network = getattr(transformers, kind)
    settings = network.config_class(vocab_size=made.get_vocab_size(), **{**SIZES, **config})
    network(settings).save_pretrained(folder)
    return folder


def change(file: Path, **values: Any) -> None:
    """Set names of a JSON file's object; None removes one."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
