import hashlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.simulation import scenes

NUM = 211
SEED = 17


@pytest.fixture(scope="module")
def batch() -> scenes.SceneBatch:
    return scenes.sample_scenes(NUM, SEED)


def _digest(batch: scenes.SceneBatch) -> str:
    parts = [batch.images.tobytes(), batch.masks.tobytes(), "\n".join(batch.captions).encode()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _without(scene: scenes.Scene, index: int) -> scenes.Scene:
    objects = scene.objects[:index] + scene.objects[index + 1 :]
    return scenes.Scene(scene.place, scene.ground, scene.sky, objects)


def _grow(mask: np.ndarray) -> np.ndarray:
    """The mask and its eight neighbours, by shifting."""
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    return np.any(
        [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0
    )


def test_every_category_has_at_least_eight_objects():
    counts = [sum(t.category == c for t in scenes.OBJECTS) for c in scenes.CATEGORIES]
    assert min(counts) >= 8
    assert sum(counts) == len(scenes.OBJECTS)


def test_names_are_distinct_single_lower_case_words():
    names = [t.name for t in scenes.OBJECTS]
    names += [*scenes.PLACES, *scenes.GROUNDS, *scenes.SKIES, *scenes.CATEGORIES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+", name) for name in names)
    assert len(scenes.PLACES) >= 6 and len(scenes.GROUNDS) >= 4 and len(scenes.SKIES) >= 4


def test_every_object_looks_different_and_fills_its_square():
    stickers = []
    for scene_object in scenes.OBJECTS:
        item = scenes.PlacedObject(scene_object, 1, 18.0, 32.0, 23)
        image, masks = scenes.render(scenes.Scene("castle", "sand", "day", (item,)))
        rows, columns = np.nonzero(masks[0])
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 23
        # A glyph that the font lacks comes out as a hollow box, without colour.
        assert len(np.unique(image[masks[0]], axis=0)) > 20, scene_object.name
        stickers.append(image)
    flat = np.array(stickers, np.float32).reshape(len(stickers), -1)
    distance = np.sqrt(((flat[:, None] - flat) ** 2).mean(-1))
    assert distance[~np.eye(len(flat), dtype=bool)].min() > 8


def test_objects_lie_in_their_slots_and_inside_the_image(batch):
    for scene in batch.scenes:
        slots = [item.slot for item in scene.objects]
        assert 1 <= len(slots) <= 3 and len(set(slots)) == len(slots)
        for item in scene.objects:
            assert 20 <= item.size <= 25
            row, column = divmod(item.slot, 3)
            assert abs(item.y - (18, 47)[row]) <= 2
            assert abs(item.x - (11, 32, 53)[column]) <= 2
            top, left = item.corner
            assert top >= 0 and left >= 0
            assert top + item.size <= 64 and left + item.size <= 64


def test_mask_centres_agree_with_slot_names(batch):
    for masks, slots in zip(batch.masks, batch.mask_slots, strict=True):
        for mask, slot in zip(masks, slots, strict=True):
            if slot < 0:
                assert not mask.any()
                continue
            rows, columns = np.nonzero(mask)
            height = "upper" if (rows.min() + rows.max()) / 2 < 32 else "lower"
            # Neighbours may hide a side of an object, so only the outer columns have a sure side.
            side = ("left", "middle", "right")[slot % 3]
            assert scenes.SLOTS[slot] == f"{height} {side}"
            if side != "middle":
                assert (columns.mean() < 32) == (side == "left")


def test_masks_are_where_removing_an_object_changes_the_image(batch):
    for i, scene in enumerate(batch.scenes):
        for j in range(len(scene.objects)):
            other, _ = scenes.render(_without(scene, j))
            changed = (batch.images[i] != other).any(-1)
            mask = batch.masks[i, j]
            hidden = batch.masks[i, j + 1 :].any(0)
            assert mask.any()
            # Some pixels hardly change, because what lies behind has the same colour.
            assert changed[mask].mean() > 0.6
            # An object's soft edge may show one pixel outside its mask, or through another's edge.
            assert not (changed & ~_grow(mask | hidden)).any()


def test_masks_do_not_overlap(batch):
    assert batch.masks.sum(1).max() <= 1


def test_a_later_object_hides_an_earlier_one():
    first = scenes.PlacedObject(scenes.OBJECTS[0], 0, 20.0, 20.0, 21)
    same = scenes.PlacedObject(scenes.OBJECTS[0], 1, 20.0, 20.0, 21)
    _, masks = scenes.render(scenes.Scene("tent", "snow", "night", (first, same)))
    assert not masks[0].any() and masks[1].any()


def test_objects_have_a_white_outline():
    scene_object = next(
        t for t in scenes.OBJECTS if t.name == "ok"
    )  # a full square: 1 white, then dark
    item = scenes.PlacedObject(scene_object, 1, 18.0, 32.0, 22)
    image, masks = scenes.render(scenes.Scene("pine", "grass", "night", (item,)))
    assert masks[0].sum() == 22 * 22
    assert (image[7, 22:42] >= 250).all() and (image[8:28, 21] >= 250).all()
    assert (image[8, 22:42] < 100).all()


def test_scenes_depend_on_seed_and_index_only(batch):
    part = scenes.sample_scenes(13, SEED, start=101)
    assert part.scenes == batch.scenes[101:114]
    assert part.captions == batch.captions[101:114]
    for name in (
        "images",
        "categories",
        "objects",
        "place",
        "ground",
        "sky",
        "masks",
        "mask_slots",
    ):
        np.testing.assert_array_equal(getattr(part, name), getattr(batch, name)[101:114])


def test_seeds_and_ranges_give_different_scenes(batch):
    assert scenes.sample_scenes(NUM, SEED + 1).scenes != batch.scenes
    assert len(set(batch.scenes)) == NUM
    assert not set(scenes.sample_scenes(NUM, SEED, start=NUM).scenes) & set(batch.scenes)


def test_another_process_draws_the_same_pixels(batch):
    program = (
        "import hashlib; from neuroadapter_jax.simulation import scenes;"
        f"b = scenes.sample_scenes({NUM}, {SEED});"
        "parts = [b.images.tobytes(), b.masks.tobytes(), '\\n'.join(b.captions).encode()];"
        "print(hashlib.sha256(b''.join(parts)).hexdigest())"
    )
    root = pathlib.Path(scenes.__file__).parents[2]
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, check=True, cwd=root)
    assert result.stdout.decode().strip() == _digest(batch)


def test_rendering_leaves_no_trace_in_cached_artwork(batch):
    again = [scenes.render(scene)[0] for scene in reversed(batch.scenes)]
    np.testing.assert_array_equal(np.array(again[::-1]), batch.images)


def test_captions_read_back_to_the_labels(batch):
    by_name = {t.name: k for k, t in enumerate(scenes.OBJECTS)}
    for i, caption in enumerate(batch.captions):
        *phrases, place, ground, sky = caption.split(", ")
        assert place == scenes.PLACES[batch.place[i]]
        assert ground == scenes.GROUNDS[batch.ground[i]]
        assert sky == scenes.SKIES[batch.sky[i]]
        objects = np.full(6, -1)
        for phrase in phrases:
            article, name, *where = phrase.split()
            assert article == ("an" if name[0] in "aeiou" else "a")
            objects[scenes.SLOTS.index(" ".join(where))] = by_name[name]
        np.testing.assert_array_equal(objects, batch.objects[i])
        np.testing.assert_array_equal(
            [
                scenes.CATEGORIES.index(scenes.OBJECTS[k].category) if k >= 0 else -1
                for k in objects
            ],
            batch.categories[i],
        )
        assert len(caption.split()) <= 20


def test_caption_order_is_by_slot():
    objects = tuple(
        scenes.PlacedObject(scenes.OBJECTS[k], slot, *map(float, scenes.SLOT_CENTRES[slot]), 20)
        for k, slot in ((0, 5), (1, 0))
    )
    caption = scenes.Scene("castle", "grass", "night", objects).caption
    first, second = scenes.OBJECTS[1].name, scenes.OBJECTS[0].name
    assert caption == f"a {first} upper left, a {second} lower right, castle, grass, night"


def test_captions_use_the_vocabulary_only(batch):
    words = scenes.vocabulary()
    assert len(set(words)) == len(words)
    assert all(word == word.lower() for word in words)
    used = {word for caption in batch.captions for word in re.findall(r"\w+|,", caption)}
    assert used <= set(words)


@pytest.mark.parametrize("seed", [2, 3])
def test_draws_are_uniform(seed):
    sampled = []
    for index in range(5003):
        sampled.append(scenes.sample_scene(np.random.default_rng([seed, index])))
    items = [item for scene in sampled for item in scene.objects]
    columns = {
        scenes.CATEGORIES: [item.scene_object.category for item in items],
        scenes.OBJECTS: [item.scene_object for item in items],
        tuple(range(6)): [item.slot for item in items],
        tuple(range(20, 26)): [item.size for item in items],
        (1, 2, 3): [len(scene.objects) for scene in sampled],
        scenes.PLACES: [scene.place for scene in sampled],
        scenes.GROUNDS: [scene.ground for scene in sampled],
        scenes.SKIES: [scene.sky for scene in sampled],
    }
    for values, column in columns.items():
        counts = [column.count(value) for value in values]
        assert sum(counts) == len(column)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_shapes_and_types(batch):
    expected = {
        "images": ((NUM, 64, 64, 3), np.uint8),
        "categories": ((NUM, 6), np.int8),
        "objects": ((NUM, 6), np.int16),
        "place": ((NUM,), np.int8),
        "ground": ((NUM,), np.int8),
        "sky": ((NUM,), np.int8),
        "masks": ((NUM, 3, 64, 64), np.bool_),
        "mask_slots": ((NUM, 3), np.int8),
    }
    for name, (shape, dtype) in expected.items():
        array = getattr(batch, name)
        assert (array.shape, array.dtype) == (shape, dtype), name


def test_an_empty_range_is_an_empty_batch():
    empty = scenes.sample_scenes(0, SEED)
    assert empty.images.shape == (0, 64, 64, 3) and empty.masks.shape == (0, 3, 64, 64)
    assert empty.captions == [] and empty.scenes == []
