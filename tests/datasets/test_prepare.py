import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import PIL.Image
import pytest
import scipy.stats

from neuroadapter_jax.datasets.prepare import prepare_subject
from neuroadapter_jax.datasets.records import PreparedDataset

pytest.importorskip("tensorflow")
ROOT = pathlib.Path(__file__).resolve().parents[2]
SPLITS = ("train", "validation", "test")


def moments(images):
    """A stand-in for the VAE: 2 x 2 x 4 latents that tell images apart."""
    values = images[:, ::12, ::12].astype(np.float32) / 127.5 - 1
    mean = np.concatenate([values, values[..., :1] ** 2], axis=-1)
    return mean, 0.1 + mean**2


def prepare(tree, folder, **changes):
    from data.nsd import write_records

    arguments = {
        "encode_images": moments,
        "encoder_fingerprint": "abc",
        "write_records": write_records,
        "image_size": 19,
        "num_validation": 3,
        "batch_size": 4,
        "progress": False,
    }
    return prepare_subject(**tree.arguments(), prepared=folder, **arguments | changes)


@pytest.fixture(autouse=True)
def temporary_files(tmp_path_factory, monkeypatch):
    """TFDS leaves an empty temporary folder behind per builder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def prepared(tree, tmp_path):
    return prepare(tree, tmp_path / "prepared")


def test_every_shown_image_is_in_one_split(tree, prepared):
    ids = {split: PreparedDataset(prepared, split).image_ids for split in SPLITS}
    assert sorted(np.concatenate(list(ids.values()))) == sorted(set(tree.shown))
    assert set(ids["test"]) == set(tree.shown) & set(tree.shared)
    assert len(ids["validation"]) == 3
    assert all(np.all(np.diff(part) > 0) for part in ids.values())


def test_records_hold_what_was_shown_and_measured(tree, prepared):
    tree.betas[:] = scipy.stats.zscore(tree.betas.astype(np.float64), axis=1)
    betas = tree.betas.reshape(-1, 30)
    seen = set()
    for split in SPLITS:
        dataset = PreparedDataset(prepared, split)
        assert len(dataset) == len(dataset.image_ids)
        for i, image_id in enumerate(dataset.image_ids):
            record = dataset[i]
            assert record["image_id"] == image_id and record["subject"] == 2
            np.testing.assert_array_equal(record["image"], tree.images[image_id])
            expected = betas[tree.shown == image_id]
            assert record["betas"].dtype == np.float16
            np.testing.assert_allclose(record["betas"], expected, atol=2e-3)
            mean, std = moments(tree.images[image_id][None])
            np.testing.assert_array_equal(record["latent_mean"], mean[0].astype(np.float16))
            np.testing.assert_array_equal(record["latent_std"], std[0].astype(np.float16))
            seen.add(len(expected))
    assert seen == {1, 2, 3}


def test_cortex_and_provenance(tree, prepared):
    dataset = PreparedDataset(prepared, "test")
    np.testing.assert_array_equal(dataset.ncsnr, tree.ncsnr)
    assert dataset.num_vertices == (13, 17)
    assert dataset.provenance["trials"] == 33
    assert dataset.provenance["request"]["normalize"] == "session"
    assert dataset.provenance["nan_vertices_set_to_0"] == {}
    left = {path.name for path in prepared.iterdir()}
    assert left == {"cortex.npz", "index.npz", "stimuli.npz", "provenance.json", "nsd"}
    assert not prepared.with_name("prepared.partial").exists()


def test_nan_vertices_are_counted(tree, tmp_path):
    tree.betas[1, :, [3, 5]] = np.nan
    tree.write_session("lh", 2)
    dataset = PreparedDataset(prepare(tree, tmp_path / "p"), "train")
    assert dataset.provenance["nan_vertices_set_to_0"] == {"2": 2}


def test_order_is_kept_beyond_the_memory_of_tfds(tree, prepared, tmp_path, monkeypatch):
    """TFDS sorts what exceeds a gigabyte in files on disk."""
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 2000)
    sorted_on_disk = PreparedDataset(prepare(tree, tmp_path / "p"), "train")
    in_memory = PreparedDataset(prepared, "train")
    for i, image_id in enumerate(in_memory.image_ids):
        assert sorted_on_disk[i]["image_id"] == in_memory[i]["image_id"] == image_id


def test_tfds_reads_the_same(prepared):
    import tensorflow_datasets as tfds

    dataset = PreparedDataset(prepared, "train")
    (info,) = prepared.glob("nsd/*/dataset_info.json")
    source = tfds.builder_from_directory(info.parent).as_data_source("train")
    assert len(source) == len(dataset)
    for i, record in enumerate(source):
        for key, value in dataset[i].items():
            np.testing.assert_array_equal(value, record[key])


def test_images_are_resized_as_pillow_does(tree, tmp_path):
    dataset = PreparedDataset(prepare(tree, tmp_path / "p", image_size=13), "test")
    image = PIL.Image.fromarray(tree.images[dataset.image_ids[1]])
    expected = np.asarray(image.resize((13, 13), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(dataset[1]["image"], expected)


def test_split_depends_on_the_seed_only(tree, prepared, tmp_path):
    again = PreparedDataset(prepare(tree, tmp_path / "a", batch_size=5), "validation")
    other = PreparedDataset(prepare(tree, tmp_path / "b", seed=1), "validation")
    first = PreparedDataset(prepared, "validation")
    np.testing.assert_array_equal(first.image_ids, again.image_ids)
    assert set(first.image_ids) != set(other.image_ids)


def forbidden(*_):
    raise AssertionError("nothing may be done")


def test_second_call_does_nothing(tree, prepared):
    assert prepare(tree, prepared, encode_images=forbidden, write_records=forbidden) == prepared


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_validation": 2}, ("num_validation = 3", "num_validation = 2")),
        ({"normalize": "none"}, ("normalize = session", "normalize = none")),
        ({"encoder_fingerprint": "xyz"}, ("encoder = abc", "encoder = xyz")),
    ],
)
def test_other_input_is_refused(tree, prepared, changes, words):
    before = (prepared / "provenance.json").read_bytes()
    with pytest.raises(ValueError) as error:
        prepare(tree, prepared, **changes)
    for word in (*words, str(prepared), "delete"):
        assert word in str(error.value)
    assert "image_size" not in str(error.value)
    assert (prepared / "provenance.json").read_bytes() == before


def test_other_betas_are_refused(tree, prepared):
    tree.betas[1, 3, 20] += 1
    tree.write_session("rh", 2)
    with pytest.raises(ValueError, match="prepared with source = "):
        prepare(tree, prepared)


def test_foreign_folder_is_left_alone(tree, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileNotFoundError, match="not a prepared folder"):
        prepare(tree, tmp_path)


def test_failure_leaves_nothing(tree, tmp_path):
    tree.betas[2, 4, 1] = np.nan
    tree.write_session("lh", 3)
    with pytest.raises(ValueError, match="NaN"):
        prepare(tree, tmp_path / "p")

    def broken(images):
        return tuple(np.where(m > 0.5, np.nan, m) for m in moments(images))

    tree.betas[2, 4, 1] = 0
    tree.write_session("lh", 3)
    with pytest.raises(ValueError, match="float16"):
        prepare(tree, tmp_path / "p", encode_images=broken)
    assert [p.name for p in tmp_path.iterdir()] == ["nsd"]


def test_unknown_normalization(tree, tmp_path):
    with pytest.raises(ValueError, match="'run'; choose one of session, none"):
        prepare(tree, tmp_path / "p", normalize="run")


def test_too_few_images_for_the_splits(tree, tmp_path):
    with pytest.raises(ValueError, match="num_validation is 9"):
        prepare(tree, tmp_path / "p", num_validation=9)
    assert not (tmp_path / "p").exists()


def test_records_and_index_disagree(prepared):
    with np.load(prepared / "index.npz") as index:
        ids = dict(index)
    np.savez(prepared / "index.npz", **ids | {"train": ids["train"][1:]})
    with pytest.raises(ValueError, match="delete"):
        PreparedDataset(prepared, "train")


def test_unknown_split_and_missing_folder(prepared, tmp_path):
    with pytest.raises(ValueError, match="train, validation, test"):
        PreparedDataset(prepared, "valid")
    with pytest.raises(FileNotFoundError, match="not a prepared folder"):
        PreparedDataset(tmp_path, "train")


READ = """
import importlib.abc, json, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
from neuroadapter_jax.datasets import PreparedDataset
from neuroadapter_jax.datasets.input_pipeline import make_batches
dataset = PreparedDataset(sys.argv[1], "train")
batch = next(make_batches(dataset, 2, seed=0, shuffle=False))
print(json.dumps([len(dataset), batch["image_id"].tolist(), batch["betas"].shape]))
"""


def test_reading_needs_no_tensorflow(prepared):
    dataset = PreparedDataset(prepared, "train")
    command = [sys.executable, "-c", READ, str(prepared)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    expected = [len(dataset), dataset.image_ids[:2].tolist(), [2, 30]]
    assert json.loads(done.stdout.splitlines()[-1]) == expected
