"""CLIP's byte-pair tokenizer, read from and written to the diffusers layout."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.readers import read_json, read_text

_PARTS, _WHOLE, _LONGEST = ("vocab.json", "merges.txt"), "tokenizer.json", 100_000
_START, _END, _SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>"
_WORDS = _SPECIAL + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_EXPECTED = "expected a CLIP tokenizer (vocab.json and merges.txt, or tokenizer.json)"


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
    # Written out in a text they are one token each.
    tokenizer.add_special_tokens([AddedToken(x, normalized=False) for x in (_START, _END)])
    return tokenizer


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder holds any file that a tokenizer's vocabulary comes in."""
    return any((Path(folder) / name).exists() for name in (*_PARTS, _WHOLE))


def _read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of vocab.json and merges.txt, or else of tokenizer.json alone."""
    missing = [name for name in _PARTS if not (folder / name).is_file()]
    path = folder / (_WHOLE if missing else _PARTS[0])
    if missing and not path.is_file():
        raise MissingFileError(f"{folder / missing[0]}: not found; {_EXPECTED}.")
    if not missing:
        vocabulary = read_json(path, "a CLIP tokenizer's", dict[str, int])
        _require_merges(folder / _PARTS[1], vocabulary)
    with reading(path, "a CLIP tokenizer" if missing else "the pieces that merges.txt makes"):
        if missing:
            tokenizer = Tokenizer.from_file(str(path))
        else:
            files = [str(folder / name) for name in _PARTS]
            tokenizer = _with_clip_rules(
                models.BPE.from_file(*files, unk_token=_END, end_of_word_suffix=_SUFFIX)
            )
    if lacking := [token for token in (_START, _END) if tokenizer.token_to_id(token) is None]:
        raise InputError(
            f"{path}: has no token {lacking[0]}; {_EXPECTED}, so take the text encoder's own."
        )
    return tokenizer


class CLIPTokenizer:
    """Texts -> ids [b, k]: start, the words' pieces, end, then padding to k.

    The ids are those of transformers' `CLIPTokenizer` of version 5: texts are put in lower case and
    in Unicode's composed form (NFC), but not mended in other ways, as earlier versions did where
    the package ftfy was installed.

    Args:
        folder: the backbone's `tokenizer` folder, with tokenizer_config.json, and vocab.json and
            merges.txt, or, as transformers 5 writes it, tokenizer.json alone.

    Raises:
        MissingFileError: one of the files is not there.
        InputError: a file is damaged or of another tokenizer.

    Examples:
        >>> from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> tokenizer = CLIPTokenizer(ASSETS / "tiny-sd" / "tokenizer")
        >>> ids = tokenizer(["a dog upper left, castle, grass, night"])
        >>> ids.shape[1] == tokenizer.length, int(ids[0, 0]) == tokenizer.start
        (True, True)
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        path = folder / "tokenizer_config.json"
        if not path.is_file():
            raise MissingFileError(f"{path}: not found; {_EXPECTED} and its configuration.")
        self._tokenizer = _read_tokenizer(folder)
        config = read_json(path, "the settings of a CLIP tokenizer")
        # SD 1.x pads with the end token; another pad token is written as text or as an object.
        pad = config.get("pad_token") or _END
        pad = str(pad.get("content") if isinstance(pad, dict) else pad)
        length = config.get("model_max_length")
        ids: dict[str, Any] = {
            name: self._tokenizer.token_to_id(name) for name in (_START, _END, pad)
        }
        # transformers writes 10^30 where it knows no length.
        if ids[pad] is None or not isinstance(length, int) or not 2 <= length <= _LONGEST:
            raise InputError(
                f"{path}: pad_token is {pad!r} and model_max_length {length!r}; expected a token "
                f"of the vocabulary and 2 to {_LONGEST} (77 for Stable Diffusion 1.x), so copy the "
                "model's own file."
            )
        self.length, self.vocab_size = length, self._tokenizer.get_vocab_size()
        self.start, self.end, self.pad = (int(ids[name] or 0) for name in (_START, _END, pad))

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "b k"]:
        """Ids of the texts, cut to the model's length.

        Args:
            texts: any; words beyond the length are left out.
        """
        ids = np.full((len(texts), self.length), self.pad, np.int32)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for row, encoding in zip(ids, encodings, strict=True):
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
