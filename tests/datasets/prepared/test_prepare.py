import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import PIL.Image
import pytest
import scipy.stats
from array_record.python.array_record_module import ArrayRecordWriter
from prepared_records import write_prepared

from neuroadapter_jax.datasets.nsd.source import NSDSelection
from neuroadapter_jax.datasets.prepared.images import ImageEncoder
from neuroadapter_jax.datasets.prepared.prepare import (
    PreparationSettings,
    prepare_share,
    prepare_subject,
)
from neuroadapter_jax.datasets.prepared.records import PreparedDataset, encode_record
from neuroadapter_jax.datasets.prepared.shards import verify_checksums
from neuroadapter_jax.datasets.prepared.shares import Share
from neuroadapter_jax.errors import NotFiniteError

pytest.importorskip("tensorflow")
ROOT = pathlib.Path(__file__).resolve().parents[3]
SPLITS = ("train", "validation", "test")
HELD = 47  # images in the stimulus file
SETTINGS = {"image_size": 19, "batch_size": 4, "progress": False}
PREPARATION = {field.name for field in dataclasses.fields(PreparationSettings)}


def moments(images):
    """A stand-in for the VAE: 2 x 2 x 4 latents that tell images apart."""
    values = images[:, ::12, ::12].astype(np.float32) / 127.5 - 1
    mean = np.concatenate([values, values[..., :1] ** 2], axis=-1)
    return mean, 0.1 + mean**2


def prepare(tree, folder, **changes):
    """The prepared folder; with `share`, that share of it."""
    from data.nsd import write_records

    writer, share = changes.pop("write_records", write_records), changes.pop("share", None)
    encoder = ImageEncoder(
        changes.pop("encode_images", moments), changes.pop("encoder_fingerprint", "abc")
    )
    selection, settings = tree.arguments() | {"num_validation": 3}, dict(SETTINGS)
    for key, value in changes.items():
        (settings if key in PREPARATION else selection)[key] = value
    if share is not None:
        source = NSDSelection(**{k: v for k, v in selection.items() if k != "root"}).open(tree.root)
        settings = PreparationSettings(**settings)
        return prepare_share(source, folder, encoder, Share.parse(share), settings)
    return prepare_subject(
        selection.pop("root"),
        folder,
        encoder,
        NSDSelection(**selection),
        PreparationSettings(**settings),
        write_records=writer,
    )


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
    repeats = set()
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
            repeats.add(len(expected))
    assert repeats == {1, 2, 3}


def test_cortex_and_provenance(tree, prepared):
    dataset = PreparedDataset(prepared, "test")
    np.testing.assert_array_equal(dataset.ncsnr, tree.ncsnr)
    assert dataset.num_vertices == (13, 17)
    assert dataset.provenance["trials"] == 33
    assert dataset.provenance["request"]["normalize"] == "session"
    assert dataset.provenance["nan_vertices_set_to_0"] == {}
    assert dataset.provenance["request"]["split"] == "shared"
    left = {path.name for path in prepared.iterdir()}
    assert left == {"cortex.npz", "index.npz", "stimuli.npz", "provenance.json", "nsd"}
    assert not prepared.with_name("prepared.partial").exists()


def zscored_by(groups, values, counted):
    """In plain loops: statistics of the counted trials of each group."""
    result = np.zeros(values.shape)
    for group in set(groups):
        rows = [t for t in range(len(values)) if groups[t] == group]
        used = [values[t].astype(np.float64) for t in rows if counted[t]]
        mean = sum(used) / len(used)
        deviation = (sum((v - mean) ** 2 for v in used) / len(used)) ** 0.5
        for t in rows:
            result[t] = (values[t] - mean) / deviation
    return result


@pytest.mark.parametrize("normalize", ["none", "run", "train-stats"])
def test_normalisation_of_records_and_its_record(tree, prepared, tmp_path, normalize):
    folder = prepare(tree, tmp_path / "p", normalize=normalize)
    ids = PreparedDataset(folder, "train").image_ids
    trial = np.arange(33)
    groups = {
        "none": None,
        "run": [(t // 11, t % 11 < 6) for t in trial],
        "train-stats": (trial // 11).tolist(),
    }[normalize]
    betas = expected = tree.betas.reshape(-1, 30)
    if groups is not None:
        counted = np.isin(tree.shown, ids) if normalize == "train-stats" else np.ones(33, bool)
        expected = zscored_by(groups, betas, counted)
    for split in SPLITS:
        for record in (dataset := PreparedDataset(folder, split)):
            trials = tree.shown == record["image_id"]
            np.testing.assert_allclose(record["betas"], expected[trials], atol=4e-3, rtol=1e-3)
    assert dataset.provenance["request"]["normalize"] == normalize
    # The SNR from the repeats is of z-scores by session, however the records are normalised.
    with np.load(folder / "cortex.npz") as a, np.load(prepared / "cortex.npz") as b:
        np.testing.assert_allclose(a["ncsnr_from_repeats"], b["ncsnr_from_repeats"], rtol=1e-4)


def test_snr_from_the_repeats_is_the_published_formula(tree, tmp_path):
    # Enough signal for a ratio above 0 at some vertices; vertex 5 lacks a session.
    tree.betas += (
        3
        * np.random.default_rng(8).normal(size=(HELD, 30))[tree.shown.reshape(3, 11)]
        * np.linspace(0, 2, 30, dtype=np.float32)
    )
    tree.betas[1, :, 5] = np.nan
    for session in (1, 2, 3):
        tree.write_session("lh", session)
        tree.write_session("rh", session)
    z = scipy.stats.zscore(tree.betas.astype(np.float64), axis=1, ddof=1).reshape(33, 30)
    thrice = [i for i in set(tree.shown) if np.sum(tree.shown == i) == 3]
    variance = np.mean([np.var(z[tree.shown == i], axis=0, ddof=1) for i in thrice], axis=0)
    expected = np.sqrt(np.maximum(0, 1 - variance)) / np.sqrt(variance)
    folder = prepare(tree, tmp_path / "p")
    with np.load(folder / "cortex.npz") as cortex:
        np.testing.assert_allclose(cortex["ncsnr_from_repeats"], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(cortex["ncsnr"], tree.ncsnr)
    assert np.isnan(expected[5]) and np.nanmax(expected) > 1 and len(thrice) > 2


def test_value_beyond_float16_is_refused(tree, tmp_path):
    tree.betas[0, 4, 7] = 7e4
    tree.write_session("lh", 1)
    with pytest.raises(ValueError, match=r"7e\+04 is more than float16 can hold"):
        prepare(tree, tmp_path / "p", normalize="none")


def test_nan_vertices_are_counted(tree, tmp_path):
    tree.betas[1, :, [3, 5]] = np.nan
    tree.write_session("lh", 2)
    dataset = PreparedDataset(prepare(tree, tmp_path / "p"), "train")
    assert dataset.provenance["nan_vertices_set_to_0"] == {"2": 2}


def test_order_is_kept_over_several_files(tree, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("neuroadapter_jax.datasets.prepared.shards._SHARD_BYTES", 3000)
    many = prepare(tree, tmp_path / "many")
    assert len(list(many.glob("nsd/1.0.0/nsd-train.array_record-*"))) > 2
    for split in SPLITS:
        one, several = PreparedDataset(prepared, split), PreparedDataset(many, split)
        assert len(one) == len(several)
        for i, image_id in enumerate(one.image_ids):
            assert one[i]["image_id"] == several[i]["image_id"] == image_id
            np.testing.assert_array_equal(one[i]["betas"], several[i]["betas"])
    import tensorflow_datasets as tfds

    source = tfds.builder_from_directory(many / "nsd/1.0.0").as_data_source("train")
    found = [int(record["image_id"]) for record in source]
    assert found == PreparedDataset(prepared, "train").image_ids.tolist()


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
        ({"num_validation": 2}, ("num_validation is 3 there, 2 here",)),
        ({"normalize": "none"}, ("normalize is 'session' there, 'none' here",)),
        ({"encoder_fingerprint": "xyz"}, ("encoder is 'abc' there, 'xyz' here",)),
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
    with pytest.raises(ValueError, match=r"source is .* there, .* here"):
        prepare(tree, prepared)


def test_foreign_folder_is_left_alone(tree, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileNotFoundError, match="not a prepared folder"):
        prepare(tree, tmp_path)


def test_a_folder_that_only_looks_like_unfinished_work_is_left_alone(tree, tmp_path):
    (tmp_path / "p.partial").mkdir()
    (tmp_path / "p.partial" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds p\.partial already, which this run did not"):
        prepare(tree, tmp_path / "p")
    assert [path.name for path in (tmp_path / "p.partial").iterdir()] == ["notes.txt"]


def test_failure_leaves_no_prepared_folder(tree, tmp_path):
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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nsd", "p.partial"]
    prepare(tree, tmp_path / "p")  # what the failures left is no obstacle
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nsd", "p"]


def test_unknown_normalization(tree, tmp_path):
    with pytest.raises(
        ValueError, match=r"'voxel'; expected one of \['session', 'run', 'train-stats'"
    ):
        prepare(tree, tmp_path / "p", normalize="voxel")


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


@pytest.mark.parametrize("place", ["../other", "..", "/tmp", "records/../../other"])
def test_the_record_files_lie_inside_the_folder(prepared, place):
    path = prepared / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"records": place}))
    with pytest.raises(
        ValueError, match=r"provenance\.json names .*, which (lies outside|is an absolute path)"
    ):
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


def contents(folder):
    """All files but the arrays, and what only remembers when the sources were written."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".npz" and path.name != "source_files.json"
    }


@pytest.mark.parametrize("stop", ["session02", "moments00001", "train-00002"])
def test_killed_at_any_step_and_started_again(tree, prepared, tmp_path, monkeypatch, stop):
    """A process dies (the unit's mark is not there); the next one does only what is left."""
    monkeypatch.setattr("neuroadapter_jax.datasets.prepared.shards._SHARD_BYTES", 3000)
    monkeypatch.setattr("neuroadapter_jax.datasets.prepared.job._IMAGES_AT_ONCE", 4)
    whole = contents(prepare(tree, tmp_path / "whole"))

    from neuroadapter_jax.datasets.prepared import work as shared_work

    write = shared_work.write_json
    done = []

    class Killed(BaseException):
        pass

    def kill(path, content):
        if path.stem == stop:
            raise Killed
        done.append(path.stem)
        write(path, content)

    monkeypatch.setattr(shared_work, "write_json", kill)
    with pytest.raises(Killed):
        prepare(tree, tmp_path / "p")
    assert done and not (tmp_path / "p").exists()
    monkeypatch.setattr(shared_work, "write_json", lambda p, c: (again.append(p.stem), write(p, c)))
    again = []
    assert contents(prepare(tree, tmp_path / "p")) == whole
    assert stop in again and not (set(done) & set(again) - {"request"})


def test_a_second_process_waits_for_the_first_and_does_nothing(tree, prepared, tmp_path, capsys):
    """Two at once, here threads with their own open files."""
    encoded = []

    def slowly(images):
        while "Waiting for another process that prepares" not in "".join(said):
            said.append(capsys.readouterr().err)
        encoded.append(len(images))
        return moments(images)

    said = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = [pool.submit(prepare, tree, tmp_path / "p", encode_images=slowly) for _ in range(2)]
        assert {task.result() for task in both} == {tmp_path / "p"}
    alone = []
    prepare(tree, tmp_path / "q", encode_images=lambda x: (alone.append(len(x)), moments(x))[1])
    assert encoded == alone
    assert contents(tmp_path / "p") == contents(prepared)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nsd", "p", "prepared", "q"]


def test_what_a_process_killed_at_its_very_end_left_is_cleared_away(tree, tmp_path):
    folder = prepare(tree, tmp_path / "p")
    (folder / "work").mkdir()
    (folder / "work" / "trials.npy").write_bytes(b"left")
    assert prepare(tree, tmp_path / "p") == folder
    assert not (folder / "work").exists()
    assert len(PreparedDataset(folder, "train"))


def test_another_request_beside_a_running_one_is_refused(tree, tmp_path):
    def while_running(images):
        with pytest.raises(
            ValueError,
            match=r"work of another process .*normalize is 'session' there, 'none' here; wait",
        ):
            prepare(tree, tmp_path / "p", normalize="none")
        return moments(images)

    prepare(tree, tmp_path / "p", encode_images=while_running)


@pytest.fixture
def many_units(monkeypatch):
    monkeypatch.setattr("neuroadapter_jax.datasets.prepared.shards._SHARD_BYTES", 3000)
    monkeypatch.setattr("neuroadapter_jax.datasets.prepared.job._IMAGES_AT_ONCE", 4)


def arrays(folder):
    """The bytes of all arrays beside the records; npz files hold the time of writing as well."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            found |= {(path.name, key): file[key].tobytes() for key in file}
    return found


def test_shards_put_together_are_what_one_call_prepares(tree, tmp_path, many_units, monkeypatch):
    whole = prepare(tree, tmp_path / "whole")
    with monkeypatch.context() as patch:  # no shard needs a lock that reaches another machine
        patch.setattr("neuroadapter_jax.datasets.prepared.work.locked", forbidden)
        for share in ("3/3", "1/3", "2/3"):
            prepare(tree, tmp_path / "p", share=share)
    assert sorted(path.name for path in (tmp_path / "p.shards").iterdir()) == [
        "1-of-3", "2-of-3", "3-of-3",
    ]  # fmt: skip
    units = [path.stem for path in (tmp_path / "p.shards").glob("*/*.json")]
    assert sum("session" in unit for unit in units) == 3
    assert sum("moments" in unit for unit in units) == 4
    # Nothing of theirs is done again.
    folder = prepare(tree, tmp_path / "p", encode_images=forbidden)
    assert contents(folder) == contents(whole) and arrays(folder) == arrays(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nsd", "p", "whole"]
    assert prepare(tree, folder, share="1/3", encode_images=forbidden) == folder


def test_a_killed_shard_goes_on_and_one_that_is_done_is_left_alone(tree, tmp_path, many_units):
    class Killed(BaseException):
        pass

    calls = []

    def killed(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise Killed
        return moments(images)

    with pytest.raises(Killed):
        prepare(tree, tmp_path / "p", share="1/2", encode_images=killed)
    with pytest.raises(
        ValueError, match=r"p\.shards lacks shards 1, 2 of 2, .*--shard=1/2 and so on"
    ):
        prepare(tree, tmp_path / "p")
    assert not (tmp_path / "p.partial").exists()
    again = []
    prepare(
        tree, tmp_path / "p", share="1/2", encode_images=lambda x: (again.append(1), moments(x))[1]
    )
    assert 0 < len(again) < len(list((tmp_path / "p.shards").glob("*/moments*-squares.npy")))
    prepare(tree, tmp_path / "p", share="1/2", encode_images=forbidden)
    with pytest.raises(ValueError, match=r"lacks shard 2 of 2, .*--shard=2/2, or delete"):
        prepare(tree, tmp_path / "p")
    prepare(tree, tmp_path / "p", share="2/2")
    assert len(PreparedDataset(prepare(tree, tmp_path / "p"), "train"))


def test_a_call_killed_while_it_puts_shards_together_goes_on(
    tree, tmp_path, many_units, monkeypatch
):
    for share in ("1/2", "2/2"):
        prepare(tree, tmp_path / "p", share=share)
    moved, replace = [], pathlib.Path.replace

    class Killed(BaseException):
        pass

    def killed(path, target):
        if len(moved) == 5:
            raise Killed
        moved.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(pathlib.Path, "replace", killed)
    with pytest.raises(Killed):
        prepare(tree, tmp_path / "p")
    monkeypatch.setattr(pathlib.Path, "replace", replace)
    assert len(moved) == 5
    folder = prepare(tree, tmp_path / "p", encode_images=forbidden)
    assert contents(folder) == contents(prepare(tree, tmp_path / "whole"))


@pytest.mark.parametrize(
    ("share", "changes", "words"),
    [
        ("1/1", {"normalize": "none"}, r"normalize is 'session' there, 'none' here; give the same"),
        ("1/1", {"encoder_fingerprint": "x"}, r"1-of-1 holds a shard .*encoder is 'abc' there"),
        (None, {"num_validation": 2}, r"num_validation is 3 there, 2 here"),
        ("1/2", {}, r"--shard is 1/2, but .*p\.shards holds shards of 1; give one of those"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(tree, tmp_path, share, changes, words):
    prepare(tree, tmp_path / "p", share="1/1")
    with pytest.raises(ValueError, match=words):
        prepare(tree, tmp_path / "p", share=share, **changes)
    assert not (tmp_path / "p.partial").exists()
    assert [path.name for path in (tmp_path / "p.shards").iterdir()] == ["1-of-1"]


def test_a_folder_that_only_looks_like_shards_is_left_alone(tree, tmp_path):
    (tmp_path / "p.shards").mkdir()
    (tmp_path / "p.shards" / "thesis").mkdir()
    for share in ("1/1", None):
        with pytest.raises(
            FileExistsError, match=r"thesis is no shard of a preparation; .* move it"
        ):
            prepare(tree, tmp_path / "p", share=share)
    assert [path.name for path in (tmp_path / "p.shards").iterdir()] == ["thesis"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "a", "1", "1/0", "-1/2", "1/2/3", "", "1.0/2"])
def test_a_shard_is_one_of_its_count(text):
    with pytest.raises(ValueError, match=r"shard is '.*'; expected K/N with K from 1 to N"):
        Share.parse(text)


def test_a_damaged_record_file_is_found(prepared):
    folder = prepared / "nsd/1.0.0"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(lines) == 3 and verify_checksums(folder) == []
    path = folder / "nsd-test.array_record-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (folder / "nsd-train.array_record-00000-of-00001").unlink()
    assert sorted(verify_checksums(folder)) == [
        "nsd-test.array_record-00000-of-00001",
        "nsd-train.array_record-00000-of-00001",
    ]


def test_a_disk_that_does_not_keep_what_is_written(tree, tmp_path, monkeypatch):
    from neuroadapter_jax.datasets.prepared import shards

    class Forgetful(shards.ArrayRecordWriter):
        def write(self, message):
            super().write(message[:-1] + b"\0")

    monkeypatch.setattr(shards, "ArrayRecordWriter", Forgetful)
    with pytest.raises(OSError, match=r"does not hold the .* records that were written"):
        prepare(tree, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_speed_is_told_beside_a_plain_copy(tree, tmp_path, capsys):
    folder = prepare(tree, tmp_path / "p", progress=True, compare_disk=True)
    lines = capsys.readouterr().out.splitlines()
    speed = next(line for line in lines if line.startswith("Responses and records"))
    read = sum(tree.session_file(h, s).stat().st_size for h in ("lh", "rh") for s in (1, 2, 3))
    assert f"{read / 1e6:.1f} MB read" in speed and speed.endswith(" MB/s")
    assert any("A plain sequential read and write of the same bytes" in line for line in lines)
    assert any("another experiment; no published value applies" in line for line in lines)
    assert not list(folder.glob("*.partial"))


def test_records_with_numbers_that_are_not_finite_are_refused(tmp_path):
    ids = {"train": [3, 5], "validation": [7], "test": [11]}
    folder = write_prepared(tmp_path / "prepared", 1, ids, (13, 17))
    with np.load(folder / "cortex.npz") as file:
        cortex = dict(file)
    ncsnr = cortex["ncsnr"].copy()
    ncsnr[4] = np.nan  # not known
    np.savez(folder / "cortex.npz", **cortex | {"ncsnr": ncsnr})
    record = PreparedDataset(folder, "train")[1]
    ncsnr[[2, 9]] = np.inf
    np.savez(folder / "cortex.npz", **cortex | {"ncsnr": ncsnr})
    with pytest.raises(NotFiniteError, match=r"cortex\.npz: ncsnr is infinite at 2 vertices"):
        PreparedDataset(folder, "train")
    np.savez(folder / "cortex.npz", **cortex)
    (path,) = (folder / "records").glob("*train*")
    for key, words in (("betas", "responses"), ("latent_std", "latents")):
        bad = {**record, key: record[key].copy()}
        bad[key].flat[5] = np.nan
        path.unlink()
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for one in ({**record, "image_id": 3}, bad):
            writer.write(encode_record(one))
        writer.close()
        dataset = PreparedDataset(folder, "train")
        assert dataset[0]["image_id"] == 3
        with pytest.raises(NotFiniteError, match=rf"train.*: the {words} \({key}\) of image 5"):
            dataset[1]
