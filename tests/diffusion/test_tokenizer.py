import json
import re

import numpy as np
import pytest
from real_files import real_file

from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer, write_tokenizer
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.errors import InputError

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
    # Special tokens that are written out in a text.
    "a dog<|endoftext|>castle",
    "<|startoftext|> dog <|endoftext|> <|endoftext|>!",
    "<|STARTOFTEXT|> dog <|EndOfText|>, <|endof text|>",
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


def test_special_tokens_in_a_text_are_one_token_each():
    ours = CLIPTokenizer(ASSETS / "tiny-sd" / "tokenizer")
    dog = ours(["dog"])[0, 1]
    ids = ours(["<|startoftext|>dog<|endoftext|>dog"])[0]
    assert ids[:6].tolist() == [ours.start, ours.start, dog, ours.end, dog, ours.end]


def as_transformers_5_writes_it(folder, out):
    """tokenizer.json and tokenizer_config.json alone."""
    pytest.importorskip("transformers").CLIPTokenizer.from_pretrained(folder).save_pretrained(out)
    assert sorted(p.name for p in out.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    return out


def test_a_folder_of_transformers_5_is_the_same_tokenizer(tmp_path):
    before = ASSETS / "tiny-sd" / "tokenizer"
    folder = as_transformers_5_writes_it(before, tmp_path)
    ours, theirs_ids = CLIPTokenizer(folder), theirs(folder, TEXTS)[0]
    former = CLIPTokenizer(before)
    for text, row, expected in zip(TEXTS, ours(TEXTS), theirs_ids, strict=True):
        np.testing.assert_array_equal(row, expected, err_msg=text)
    for name in ("start", "end", "pad", "length", "vocab_size"):
        assert getattr(ours, name) == getattr(former, name)


def test_clips_own_vocabulary_in_a_folder_of_transformers_5():
    folder = real_file("tokenizer_transformers5")
    ours = CLIPTokenizer(folder)
    ids = ours(["it's a café, 2 dogs"])
    expected = [49406, 585, 568, 320, 15304, 267, 273, 3255]
    np.testing.assert_array_equal(ids, [expected + [49407] * 69])
    np.testing.assert_array_equal(ours(TEXTS), theirs(folder, TEXTS)[0])


@pytest.mark.parametrize(
    ("file", "edit", "found"),
    [
        ("tokenizer.json", lambda text: text[:1000], "tokenizer.json: is damaged"),
        ("tokenizer.json", lambda text: text.replace("startoftext", "bos"), "has no token <|start"),
        (
            "tokenizer_config.json",
            lambda text: text.replace("24", "1000000000000000000019"),
            "1000",
        ),
        (
            "tokenizer_config.json",
            lambda text: text.replace('"pad_', '"pad_token": "zyx", "'),
            "zyx",
        ),
        ("tokenizer_config.json", lambda _: "[]", "its content is []"),
    ],
)
def test_another_tokenizer_is_refused(tmp_path, file, edit, found):
    folder = as_transformers_5_writes_it(ASSETS / "tiny-sd" / "tokenizer", tmp_path)
    (folder / file).write_text(edit((folder / file).read_text()))
    with pytest.raises(InputError, match=re.escape(found)) as caught:
        CLIPTokenizer(folder)
    assert str(folder / file) in str(caught.value) and "expected" in str(caught.value)


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
