"""Images that others keep, in the layouts that were published."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.interop.image_tensors import read_image_ids, read_image_stack

IDS = [3, 40, 72_999]


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 7, 7, 3), np.uint8)


def mindeye2(images):
    """[b, 3, y, x] floats in 0..1, as torchvision's ToTensor gives."""
    # safetensors writes the memory of an array as it lies, so it has to lie in this order.
    return np.ascontiguousarray(np.moveaxis(images, -1, 1)).astype(np.float32) / 255


def test_every_kind_of_file_gives_the_same_bytes(tmp_path, images):
    torch = pytest.importorskip("torch")
    stack = mindeye2(images)
    torch.save(torch.from_numpy(stack), tmp_path / "float.pt")
    torch.save({"recons": torch.from_numpy(stack), "image_ids": torch.tensor(IDS)},
               tmp_path / "named.pt")  # fmt: skip
    torch.save(torch.from_numpy(stack).to(torch.bfloat16), tmp_path / "coarse.pt")
    np.save(tmp_path / "bytes.npy", images)
    np.save(tmp_path / "candidates.npy", np.stack([stack, 1 - stack], axis=1))
    save_file({"x": stack, "ids": np.array(IDS)}, tmp_path / "x.safetensors")
    for name in ("float.pt", "named.pt", "bytes.npy", "candidates.npy", "x.safetensors"):
        found = read_image_stack(tmp_path / name)
        assert np.array_equal(found.images[:, 0], images), name
        known = name in ("named.pt", "x.safetensors")
        assert (found.image_ids is not None) == known
        assert not known or found.image_ids.tolist() == IDS
    assert read_image_stack(tmp_path / "candidates.npy").images.shape[1] == 2
    coarse = read_image_stack(tmp_path / "coarse.pt").images[:, 0].astype(int)
    assert np.abs(coarse - images).max() <= 1


def test_a_folder_has_its_ids_in_the_names(tmp_path, images):
    for image_id, image in zip(IDS, images, strict=True):
        Image.fromarray(image).save(tmp_path / f"{image_id:05d}_c0.png")
        Image.fromarray(255 - image).save(tmp_path / f"{image_id:05d}_c1.png")
    found = read_image_stack(tmp_path)
    assert found.image_ids.tolist() == IDS
    assert np.array_equal(found.images[:, 0], images)
    assert np.array_equal(found.images[:, 1], 255 - images)
    (tmp_path / "00003_c1.png").unlink()
    with pytest.raises(InputError, match="1 pictures of image 3"):
        read_image_stack(tmp_path)


def test_ids_come_as_numpy_json_or_text(tmp_path):
    np.save(tmp_path / "a.npy", np.array(IDS, np.uint32))
    (tmp_path / "b.json").write_text(json.dumps(IDS))
    (tmp_path / "c.csv").write_text("image_id\n" + "\n".join(map(str, IDS)) + "\n")
    for name in ("a.npy", "b.json", "c.csv"):
        assert read_image_ids(tmp_path / name).tolist() == IDS
    for text, words in (("1\n2.5\n", "2.5"), ("1\n1\n", "image 1 more than once"), ("", "empty")):
        (tmp_path / "d.txt").write_text(text)
        with pytest.raises(InputError, match=words):
            read_image_ids(tmp_path / "d.txt")


def test_what_is_no_stack_of_images_is_refused(tmp_path, images):
    stack = mindeye2(images)
    for array, words in (
        (2 * stack, r"from 0\S* to 2"),
        (stack * np.nan, "from nan"),
        (stack[:, :1], "3 channels"),
        (stack[0], "0 tensors"),
        (images.astype(np.int64), "int64"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=words):
            read_image_stack(tmp_path / "a.npy")
    save_file({"a": stack, "b": stack}, tmp_path / "two.safetensors")
    with pytest.raises(InputError, match="2 tensors that may be images"):
        read_image_stack(tmp_path / "two.safetensors")
    with pytest.raises(MissingFileError):
        read_image_stack(tmp_path / "none.pt")
    Image.fromarray(images[0]).save(tmp_path / "mine.png")
    with pytest.raises(InputError, match=r"mine\.png: expected the image's id"):
        read_image_stack(tmp_path)
