"""What the readers of common formats say, and what they hand on unchanged."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest
from typing_extensions import TypedDict

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.readers import (
    as_type,
    read_json,
    read_json_lines,
    read_npy,
    read_npz,
    read_picture,
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    width: int
    rate: float = 0.5
    levels: tuple[int, ...] = (1,)

    def __post_init__(self):
        if self.width < 1:
            raise InputError("width is less than 1.")


class Numbers(TypedDict):
    numbers: list[int]


def refused(read, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pickled_objects_are_refused_without_an_invitation_to_read_them(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    for said in (
        refused(read_npy, path, "numbers"),
        refused(read_npz, tmp_path / "a.npz", "numbers"),
    ):
        assert "holds pickled Python objects" in said and "allow_pickle" not in said


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_numpy_reads_them(tmp_path, rng, mapped, order):
    for x in (rng.random((3, 5, 2)), np.zeros((0, 3), "<f2"), np.array(7), np.array(["a", "bc"])):
        np.save(tmp_path / "a.npy", np.asarray(x, order=order))
        found, expected = (
            read_npy(tmp_path / "a.npy", "x", mapped=mapped),
            np.load(tmp_path / "a.npy"),
        )
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert found.flags.f_contiguous == expected.flags.f_contiguous
        np.testing.assert_array_equal(found, expected)


def test_a_shape_beyond_the_file_asks_for_no_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10.0))
    content = (tmp_path / "a.npy").read_bytes()
    larger = content.replace(b"(10,), }" + b" " * 14, b"(10" + b"0" * 14 + b",), }")
    assert len(larger) == len(content) and larger != content
    (tmp_path / "a.npy").write_bytes(larger)
    assert "80 bytes of data" in refused(read_npy, tmp_path / "a.npy", "numbers")


def test_a_missing_array_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    assert "a.npz lacks y; expected sums" in refused(read_npz, tmp_path / "a.npz", "sums", ("y",))


def test_an_array_of_another_type_or_number_of_axes_is_named(tmp_path):
    layouts = {"x": "iu1", "*": "f2"}
    for x, others, found in (
        (np.zeros(3), {}, "a.npz: x is float64 of shape (3,); expected whole numbers on 1 axis"),
        (np.array(["a"]), {}, "x is <U1 of shape (1,); expected whole numbers on 1 axis"),
        (
            np.arange(3),
            {"z": np.zeros(2)},
            "z is float64 of shape (2,); expected numbers on 2 axes",
        ),
    ):
        np.savez(tmp_path / "a.npz", x=x, **others)
        assert found in refused(read_npz, tmp_path / "a.npz", "numbers", layouts)
    np.savez(tmp_path / "a.npz", x=np.arange(3), z=np.zeros((1, 2)))
    assert set(read_npz(tmp_path / "a.npz", "numbers", layouts)) == {"x", "z"}


def test_a_changed_byte_of_an_npz_is_found_out_wherever_it_lies(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3), y=np.ones(2))
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xA5]) + content[place + 1 :])
        try:
            found = read_npz(path, "numbers", ("x", "y"))
        except InputError:
            continue
        np.testing.assert_array_equal(found["x"], np.arange(3))
        np.testing.assert_array_equal(found["y"], np.ones(2))


def test_a_key_that_a_json_file_lacks_or_gives_another_type_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"other": 1}')
    assert "a.json: lacks the key 'numbers'" in refused(read_json, path, "numbers", Numbers)
    path.write_text('{"numbers": [1, "two"]}')
    assert "numbers.1 is 'two', which should be a valid integer" in refused(
        read_json, path, "numbers", Numbers
    )
    path.write_text("[1, 2]")
    assert "its content is [1, 2]" in refused(read_json, path, "numbers")
    path.write_text('{"numbers": [1], "other": null}')
    assert read_json(path, "numbers", Numbers) == json.loads(path.read_text())


def test_a_dataclass_takes_the_values_of_its_types_alone():
    assert as_type(Sizes, {"width": 3, "rate": 1, "levels": [2, 5]}, "f") == Sizes(3, 1.0, (2, 5))
    assert "width is '3'" in refused(as_type, Sizes, {"width": "3"}, "f")
    assert "unknown key 'depth'" in refused(as_type, Sizes, {"width": 3, "depth": 1}, "f")
    assert "lacks the key 'width'" in refused(as_type, Sizes, {}, "f")
    assert refused(as_type, Sizes, {"width": 0}, "f") == "f: width is less than 1."


def test_a_damaged_line_is_named_and_a_torn_last_one_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    assert read_json_lines(path, "numbers") == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    assert "a.jsonl line 2: is no JSON" in refused(read_json_lines, path, "numbers")


def test_a_changed_pixel_of_a_png_is_found_out(tmp_path, rng):
    path = tmp_path / "a.png"
    pixels = rng.integers(0, 256, (7, 5, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(read_picture(path), pixels)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "a.png: is damaged" in refused(read_picture, path)
