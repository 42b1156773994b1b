"""Several subjects' prepared folders as one stream."""

import itertools
import json

import numpy as np
import pytest
from prepared_records import write_prepared

from neuroadapter_jax.datasets.input_pipeline import batch_dataset, eval_batches, make_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.datasets.subjects import PartsOfRecords, SubjectsDataset, open_prepared

LH, RH = 5, 7
SHARED = [2, 11, 40]
IDS = {
    3: {"train": [5, 9, 17], "validation": [21], "test": SHARED},
    1: {"train": [6, 8, 13, 30, 31, 44, 45], "validation": [22, 23], "test": SHARED},
    8: {"train": [50, 51, 52, 53, 54], "validation": [60], "test": SHARED[:2]},
}
SMALL = {"side": 3, "latent": (2, 2, 4)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    return [write_prepared(root / f"s{s}", s, ids, (LH, RH), **SMALL) for s, ids in IDS.items()]


def test_the_subjects_take_turns(folders):
    dataset = SubjectsDataset(folders, "train")
    assert dataset.subjects == (3, 1, 8)
    truth, remaining = [], [list(ids["train"]) for ids in IDS.values()]
    while any(remaining):
        for subject, ids in enumerate(remaining):
            if ids:
                truth.append((subject, ids.pop(0)))
    found = [
        (int(r["subject_index"]), int(r["image_id"])) for r in map(dataset.__getitem__, range(15))
    ]
    assert found == truth
    assert dataset.image_ids.tolist() == [image for _, image in truth]
    assert dataset.subject_indices.tolist() == [subject for subject, _ in truth]
    with pytest.raises(IndexError, match="no record 15 among 15"):
        dataset[15]
    # Each is that subject's own record.
    parts = [PreparedDataset(folder, "train") for folder in folders]
    for record, (subject, image) in zip(map(dataset.__getitem__, range(15)), truth, strict=True):
        own = parts[subject][list(IDS.values())[subject]["train"].index(image)]
        assert record["subject"] == dataset.subjects[subject]
        assert record.keys() - own.keys() == {"subject_index"}
        for key in own:
            np.testing.assert_array_equal(record[key], own[key])


def test_parts_of_records_are_the_same_numbers(folders):
    whole = SubjectsDataset(folders, "train")
    vertices = np.array([[11, 0], [4, 4], [1, 7]])
    parts = PartsOfRecords(whole, ("betas", "latent_std"), vertices)
    assert len(parts) == len(whole) == 15
    for i in range(15):
        record, part = whole[i], parts[i]
        read = {"image_id", "subject", "subject_index", "betas", "latent_std"}
        assert part.keys() == read
        own = vertices[record["subject_index"]]
        np.testing.assert_array_equal(part.pop("betas"), record["betas"][:, own])
        for key, value in part.items():
            np.testing.assert_array_equal(value, record[key])
    first = PartsOfRecords(whole.parts[0], ("image",))[2]
    assert first.keys() == {"image_id", "subject", "image"}
    np.testing.assert_array_equal(first["image"], whole.parts[0][2]["image"])


def pairs(batches):
    return [
        (int(s), int(i))
        for batch in batches
        for s, i in zip(batch["subject_index"], batch["image_id"], strict=True)
    ]


@pytest.mark.parametrize("position", [0, 1, 7])
def test_the_stream_resumes_at_any_batch(folders, position):
    dataset = SubjectsDataset(folders, "train")

    def start():
        return make_batches(dataset, 4, seed=7, repeats="random")

    batches = list(itertools.islice(start(), 15))
    epochs = np.array(pairs(batches)).reshape(4, 15, 2)
    everything = sorted((s, i) for s, ids in enumerate(IDS.values()) for i in ids["train"])
    assert all(sorted(map(tuple, epoch)) == everything for epoch in epochs.tolist())
    # Mixed, not one subject after the other.
    assert all(len({s for s, _ in epoch[:8]}) > 1 for epoch in epochs.tolist())

    iterator = start()
    list(itertools.islice(iterator, position))
    state = json.loads(json.dumps(iterator.get_state()))
    resumed = start()
    resumed.set_state(state)
    for one, other in zip(itertools.islice(resumed, 5), batches[position:], strict=False):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    assert batches[0]["subject_index"].dtype == np.int32


def test_processes_share_the_same_batches(folders):
    dataset = SubjectsDataset(folders, "train")
    whole = batch_dataset(dataset, 6, seed=5)
    parts = [batch_dataset(dataset, 6, seed=5, process=(i, 3)) for i in range(3)]
    for k in (0, 2, 100):
        assert pairs([part[k] for part in parts]) == pairs([whole[k]])


def test_evaluation_takes_every_subject(folders):
    batches = list(eval_batches(SubjectsDataset(folders, "validation"), 3))
    assert [batch["num_valid"] for batch in batches] == [3, 1]
    assert pairs(batches)[:4] == [(0, 21), (1, 22), (2, 60), (1, 23)]


def test_one_folder_is_read_as_ever(folders):
    assert isinstance(open_prepared(str(folders[0]), "train"), PreparedDataset)
    assert isinstance(open_prepared([str(f) for f in folders[:2]], "train"), SubjectsDataset)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": 3}, "is of subject 3, and so is another"),
        ({"normalize": "none"}, "was prepared with normalize = none, .*s3 with session"),
        ({"num_vertices": (LH, RH + 1)}, r"has \(5, 8\) vertices per hemisphere"),
        ({"ids": IDS[1] | {"train": [6, 11, 40]}}, r"trains on 2 image\(s\) that .*s3 tests with"),
    ],
)
def test_folders_that_make_no_one_model(folders, tmp_path, changes, words):
    values = {"subject": 4, "ids": IDS[1], "num_vertices": (LH, RH)} | SMALL | changes
    other = write_prepared(tmp_path / "other", **values)
    with pytest.raises(ValueError, match=words):
        SubjectsDataset([folders[0], other], "train")
