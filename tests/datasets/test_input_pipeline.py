import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.datasets.input_pipeline import (
    batch_dataset,
    eval_batches,
    make_batches,
    map_split,
    read_split,
    split_batches,
)

IMAGES = 11
VERTICES = 7


class Records:
    """Eleven images with one to three repeats."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self.betas = [rng.normal(size=(1 + i % 3, VERTICES)).astype("f2") for i in range(IMAGES)]

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        return {
            "image": np.full((5, 5, 3), index, np.uint8),
            "image_id": np.int64(100 + index),
            "subject": np.int32(1),
            "betas": self.betas[index],
            "latent_mean": np.full((2, 2, 4), index, np.float16),
            "latent_std": np.full((2, 2, 4), 0.5, np.float16),
        }


@pytest.fixture
def records():
    return Records()


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def ids(batches):
    return np.concatenate([batch["image_id"] for batch in batches]) - 100


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batch_fields(records):
    batch = next(make_batches(records, 4, seed=0))
    types = {key: (str(value.dtype), value.shape) for key, value in batch.items()}
    assert types == {
        "betas": ("float16", (4, 7)),
        "latent_mean": ("float32", (4, 2, 2, 4)),
        "latent_std": ("float32", (4, 2, 2, 4)),
        "image": ("uint8", (4, 5, 5, 3)),
        "image_id": ("int64", (4,)),
    }
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["image_id"] - 100)
    np.testing.assert_array_equal(batch["latent_mean"][:, 0, 0, 0], batch["image_id"] - 100)


def test_average_of_all_repeats(records):
    for batch in take(make_batches(records, 3, seed=1), 8):
        for betas, i in zip(batch["betas"], ids([batch]), strict=True):
            expected = records.betas[i].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(betas, expected, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_average_is_numpys_mean_in_float32_to_the_bit(count):
    rng = np.random.default_rng(count)
    betas = rng.normal(scale=[[1], *[[3e3]] * (count - 1)], size=(count, 4_001)).astype("f2")
    record = {"betas": betas, "image_id": np.int64(0)}
    (batch,) = split_batches([record])
    expected = np.mean(betas, axis=0, dtype=np.float32).astype(np.float16)
    assert batch["betas"].tobytes() == expected[None].tobytes()


def test_random_repeats_average_every_subset_alike(records):
    count = {i: {} for i in range(IMAGES)}
    for batch in take(make_batches(records, IMAGES, seed=1, repeats="random"), 70):
        for betas, i in zip(batch["betas"], ids([batch]), strict=True):
            repeats = records.betas[i].astype(np.float64)
            subsets = [
                s
                for size in range(1, len(repeats) + 1)
                for s in itertools.combinations(range(len(repeats)), size)
                if np.abs(betas - repeats[list(s)].mean(axis=0)).max() < 1e-3
            ]
            assert len(subsets) == 1
            count[i][subsets[0]] = count[i].get(subsets[0], 0) + 1
    for i, found in count.items():
        possible = 2 ** len(records.betas[i]) - 1
        assert len(found) == possible
        expected = 70 / possible
        assert all(abs(n - expected) < 5 * np.sqrt(expected) + 1 for n in found.values())


def test_single_repeats_are_taken_alike(records):
    count = {i: np.zeros(len(records.betas[i]), int) for i in range(IMAGES)}
    for batch in take(make_batches(records, IMAGES, seed=1, repeats="single"), 70):
        for betas, i in zip(batch["betas"], ids([batch]), strict=True):
            (which,) = np.flatnonzero((records.betas[i] == betas).all(axis=1))
            count[i][which] += 1
    for found in count.values():
        expected = 70 / len(found)
        assert found.sum() == 70 and np.abs(found - expected).max() < 5 * np.sqrt(expected)


def test_records_may_hold_features_in_place_of_images(records):
    class Features(Records):
        def __getitem__(self, index):
            features = np.full((5, 3), index, np.float16)
            record = super().__getitem__(index)
            return {name: record[name] for name in ("betas", "image_id")} | {"features": features}

    batch = next(make_batches(Features(), 4, seed=1))
    assert batch.keys() == {"betas", "features", "image_id"}
    np.testing.assert_array_equal(batch["features"][:, 2, 1], batch["image_id"] - 100)


def test_each_epoch_holds_every_image_once_in_its_own_order(records):
    order = ids(take(make_batches(records, 4, seed=5), IMAGES)).reshape(4, IMAGES)
    assert all(sorted(epoch) == list(range(IMAGES)) for epoch in order)
    assert len({tuple(epoch) for epoch in order}) == 4


def test_without_shuffling_images_come_in_order(records):
    order = ids(take(make_batches(records, 4, seed=5, shuffle=False), 11))
    np.testing.assert_array_equal(order, np.arange(44) % IMAGES)


@pytest.mark.parametrize("repeats", ["average", "random", "single"])
def test_batch_is_a_function_of_seed_and_index(records, repeats):
    batches = take(make_batches(records, 4, seed=7, repeats=repeats), 9)
    direct = batch_dataset(records, 4, seed=7, repeats=repeats)
    assert_same(batches, [direct[k] for k in range(9)])
    assert_same([batches[6]], [direct[6]])
    other = take(make_batches(records, 4, seed=8, repeats=repeats), 9)
    assert ids(other).tolist() != ids(batches).tolist()


@pytest.mark.parametrize("position", [0, 1, 5])
def test_state_resumes_at_any_batch(records, position):
    batches = take(make_batches(records, 4, seed=7, repeats="random"), 9)
    iterator = make_batches(records, 4, seed=7, repeats="random")
    take(iterator, position)
    state = json.loads(json.dumps(iterator.get_state()))
    resumed = make_batches(records, 4, seed=7, repeats="random")
    resumed.set_state(state)
    assert_same(take(resumed, 4), batches[position : position + 4])


def test_evaluation_passes_once_in_order(records):
    batches = list(eval_batches(records, 4))
    assert [batch["num_valid"] for batch in batches] == [4, 4, 3]
    assert all(batch["betas"].shape == (4, 7) for batch in batches)
    valid = np.concatenate([batch["image_id"][: batch["num_valid"]] for batch in batches])
    np.testing.assert_array_equal(valid, np.arange(100, 111))
    np.testing.assert_allclose(
        batches[1]["betas"][1], records.betas[5].astype(np.float64).mean(axis=0), atol=1e-3
    )


def mean_betas(records, count):
    return np.stack([records.betas[i].astype(np.float64).mean(axis=0) for i in range(count)])


@pytest.mark.parametrize("num_images", [None, 5, 400])
def test_a_split_in_batches_without_filling(records, num_images):
    batches = list(split_batches(records, 4, num_images))
    count = min(num_images or 11, 11)
    assert [len(batch["betas"]) for batch in batches] == [4, 4, 3] if count == 11 else [4, 1]
    assert not any("num_valid" in batch for batch in batches)
    ids = np.concatenate([batch["image_id"] for batch in batches])
    np.testing.assert_array_equal(ids, np.arange(100, 100 + count))
    betas = np.concatenate([batch["betas"] for batch in batches])
    np.testing.assert_allclose(betas, mean_betas(records, count), atol=1e-3)


def test_a_function_over_a_split_sees_one_shape_and_its_filling_is_dropped(records):
    shapes = []

    def function(batch):
        shapes.append((batch["betas"].shape, batch["num_valid"]))
        return {"sum": batch["betas"].sum(axis=1), "id": jnp.asarray(batch["image_id"])}

    result = map_split(function, records, 4, num_images=9)
    assert shapes == [((4, 7), 4), ((4, 7), 4), ((4, 7), 1)]
    np.testing.assert_array_equal(result["id"], np.arange(100, 109))
    np.testing.assert_allclose(result["sum"], mean_betas(records, 9).sum(axis=1), atol=1e-2)
    assert all(type(values) is np.ndarray for values in result.values())


def test_whole_arrays_of_a_split(records):
    whole = read_split(records, "betas", "image_id")
    assert whole.keys() == {"betas", "image_id"} and whole["betas"].dtype == np.float16
    np.testing.assert_array_equal(whole["image_id"], np.arange(100, 111))
    np.testing.assert_allclose(whole["betas"], mean_betas(records, 11), atol=1e-3)
    assert len(read_split(records, "image_id", num_images=3)["image_id"]) == 3
    with pytest.raises(ValueError, match="hold no 'pupil'; they hold betas, "):
        read_split(records, "pupil")
    with pytest.raises(ValueError, match="num_images is 0; give at least one"):
        read_split(records, "betas", num_images=0)


def test_wrong_arguments(records):
    with pytest.raises(ValueError, match="choose one of average, random"):
        make_batches(records, 4, seed=0, repeats="all")
    with pytest.raises(ValueError, match="at least 1"):
        make_batches(records, 0, seed=0)


@pytest.mark.parametrize("repeats", ["average", "random"])
def test_processes_read_their_own_rows_of_the_same_batches(repeats):
    class Counting(Records):
        taken = 0

        def __getitem__(self, index):
            Counting.taken += 1
            return super().__getitem__(index)

    whole = batch_dataset(Records(), 6, seed=5, repeats=repeats)
    parts = [
        batch_dataset(Counting(), 6, seed=5, repeats=repeats, process=(i, 3)) for i in range(3)
    ]
    for k in (0, 1, 5, 1000):  # batch 1 spans two epochs of eleven
        rows = [part[k] for part in parts]
        for key, truth in whole[k].items():
            np.testing.assert_array_equal(np.concatenate([row[key] for row in rows]), truth)
    assert Counting.taken == 4 * 6


def test_a_processs_iterator_returns_to_its_position(records):
    def start():
        return make_batches(records, 6, seed=5, process=(1, 2))

    iterator = start()
    take(iterator, 3)
    state = iterator.get_state()
    rest = take(iterator, 3)
    again = start()
    again.set_state(state)
    assert_same(take(again, 3), rest)


def test_processes_that_do_not_share_a_batch_are_refused(records):
    with pytest.raises(ValueError, match="batch_size is 5, which 2 processes cannot share evenly"):
        batch_dataset(records, 5, seed=0, process=(0, 2))
