"""CLIP's byte-pair tokenizer, read from and written to the diffusers layout."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from jaxtyping import Int
from pydantic import Field
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.readers import read_json, read_text

_START, _END, _SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _with_clip_rules(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


class _Settings(TypedDict):
    model_max_length: Annotated[int, Field(ge=3, le=1 << 16)]
    pad_token: NotRequired[str | dict[str, Any]]


class CLIPTokenizer:
    """Texts -> ids [b, k]: start, the words' pieces, end, then padding to k.

    Args:
        folder: the backbone's `tokenizer` folder, with vocab.json, merges.txt and
            tokenizer_config.json.

    Raises:
        MissingFileError: one of the files is not there.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            if not (folder / name).is_file():
                raise MissingFileError(
                    f"{folder / name}: not found; expected a CLIP tokenizer (diffusers layout)."
                )
        config = read_json(folder / "tokenizer_config.json", "a CLIP tokenizer's", _Settings)
        self.length = int(config["model_max_length"])
        vocabulary = read_json(folder / "vocab.json", "a CLIP tokenizer's", dict[str, int])
        self.vocab_size = len(vocabulary)
        with reading(folder / "vocab.json", "the pieces of a CLIP tokenizer"):
            self.start, self.end = vocabulary[_START], vocabulary[_END]
            # SD 1.x pads with the end token; another pad token is written as text or as an object.
            pad = config.get("pad_token", _END)
            self.pad = vocabulary[pad["content"] if isinstance(pad, dict) else pad]
        _require_merges(folder / "merges.txt", vocabulary)
        with reading(folder / "merges.txt", "merges of the pieces in vocab.json beside it"):
            pieces = models.BPE.from_file(
                str(folder / "vocab.json"),
                str(folder / "merges.txt"),
                unk_token=_END,
                end_of_word_suffix=_SUFFIX,
            )
        self._tokenizer = _with_clip_rules(pieces)

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "b k"]:
        """Ids of the texts, cut to the model's length."""
        ids = np.full((len(texts), self.length), self.pad, np.int32)
        for row, encoding in zip(ids, self._tokenizer.encode_batch(list(texts)), strict=True):
            pieces = [self.start, *encoding.ids[: self.length - 2], self.end]
            row[: len(pieces)] = pieces
        return ids


def _require_merges(path: Path, vocabulary: Mapping[str, int]) -> None:
    """Refuses a file that does not make all pieces: texts would become other ids.

    Raises:
        InputError: a piece of the vocabulary is made by no merge.
    """
    expected = "merges of the pieces in vocab.json beside it"
    lines = read_text(path, expected).splitlines()
    made = {"".join(line.split()) for line in lines}
    pieces = (p for p in vocabulary.keys() - made if not re.fullmatch("<.*>", p))
    if lacking := sorted(p for p in pieces if len(p.removesuffix(_SUFFIX)) > 1):
        raise InputError(
            f"{path}: lacks the merges of {len(lacking)} pieces, such as {lacking[0]!r}; expected "
            f"{expected}; copy both again, together."
        )


def write_tokenizer(folder: str | Path, words: Iterable[str], length: int) -> None:
    """Write a tokenizer in which each of the given words is one token.

    Args:
        folder: where vocab.json, merges.txt and tokenizer_config.json go.
        words: lower-case words and punctuation.
        length: k, the length of a padded text.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _learn_merges(sorted(words))
    pieces = [*letters, *(letter + _SUFFIX for letter in letters), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), _START, _END])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": _END,
        "unk_token": _END,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    special = {k: v for k, v in settings.items() if k.endswith("_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


def _learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges until every word is one piece; the first of equally frequent pairs wins.

    The library's own trainer breaks ties differently in each process.
    """
    spelled = [[*word[:-1], word[-1] + _SUFFIX] for word in words]
    merges = []
    while pairs := Counter(pair for word in spelled for pair in pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in spelled:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges
