import json

import numpy as np
import pytest

from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer, write_tokenizer
from neuroadapter_jax.diffusion.weights import ASSETS

TEXTS = [
    "",
    " ",
    "a dog upper left, castle, meadow, clear sky",
    "A DOG  upper-left;\ta Castle!\n",
    "a zyzzyva and 2 quokkas (12.5 %)",
    "it's the dog's, isn't it? they'll've",
    "Ünïcode café naïve e\u0301",
    "日本語 🐶 dog🐱cat",
    "...---... !!! ,,,",
    "dog " * 40,
    "antidisestablishmentarianism" * 3,
]


def theirs(folder, texts):
    tokenizer = pytest.importorskip("transformers").CLIPTokenizer.from_pretrained(folder)
    encoded = tokenizer(
        texts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length
    )
    return np.array(encoded["input_ids"]), tokenizer


def test_the_shipped_tokenizer_is_read_as_transformers_reads_it():
    folder = ASSETS / "tiny-sd" / "tokenizer"
    ours = CLIPTokenizer(folder)
    ids = ours(TEXTS)
    truth, tokenizer = theirs(folder, TEXTS)
    assert ids.dtype == np.int32 and ids.shape == (len(TEXTS), ours.length)
    for text, row, expected in zip(TEXTS, ids, truth, strict=True):
        np.testing.assert_array_equal(row, expected, err_msg=text)
    special = (ours.start, ours.end, ours.pad)
    assert special == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    # Empty, and cut to the length with its end kept.
    np.testing.assert_array_equal(ids[0], [ours.start] + [ours.end] * (ours.length - 1))
    assert ids[9, -1] == ours.end and ours.end not in ids[9, :-1]


@pytest.mark.parametrize("pad", ["!", {"content": "!", "lstrip": False}])
def test_another_pad_token(tmp_path, pad):
    write_tokenizer(tmp_path, ["dog", "castle", "upper", "!"], length=7)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": pad}))
    ours = CLIPTokenizer(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    ids = ours(["castle dog"])[0].tolist()
    words = [vocabulary["castle</w>"], vocabulary["dog</w>"]]
    assert ids == [ours.start, *words, ours.end, *[vocabulary["!"]] * 3]


def test_each_given_word_is_one_token(tmp_path):
    words = ["dog", "castle", "upper", ",", "dogs"]
    write_tokenizer(tmp_path, words, length=9)
    ours = CLIPTokenizer(tmp_path)
    truth, _ = theirs(tmp_path, ["dogs, upper castle dog"])
    ids = ours(["dogs, upper castle dog"])
    np.testing.assert_array_equal(ids, truth)
    assert (ids[0] == ours.end).sum() == 3  # five words, start, end and two of padding
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    assert set(ids[0, 1:6]) == {vocabulary[f"{word}</w>"] for word in words}


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    write_tokenizer(tmp_path, ["dog"], length=5)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: not found; expected a CLIP tokenizer"):
        CLIPTokenizer(tmp_path)
