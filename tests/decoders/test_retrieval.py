import numpy as np
import pytest
from PIL import Image
from scipy import stats

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.retrieval import (
    Leaders,
    gallery_of_folder,
    gallery_of_records,
    retrieve,
    same_pictures,
)
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.ranking import ROUNDING

LH, RH, SIDE, GALLERY, COUNT = 11, 13, 16, 29, 7
REGIONS = Parcellation(
    ("a", "b"), ("lh", "rh"), (np.array([1, 2, 5, 7], np.int32), np.array([0, 3, 11], np.int32)),
    (LH, RH),
)  # fmt: skip


class Linear(BrainEncoder):
    """Predicts a fixed linear function of the pixels; vertex 2 is not reliable."""

    def __init__(self):
        self.regions, self.provenance, self.fingerprint = REGIONS, {}, "encoder"
        self.correlations = np.zeros((1, LH + RH), np.float32)
        self.calls = []
        self.mixing = np.random.default_rng(3).standard_normal((SIDE * SIDE * 3, LH + RH)) / 1e3

    def reliable(self):
        return np.arange(LH + RH) != 2

    def predict(self, images, batch_size=32):
        self.calls.append(len(images))
        return (images.reshape(len(images), -1) @ self.mixing).astype(np.float32)


class Images(PreparedDataset):
    """Prepared images in memory."""

    def __init__(self, path, images, ids, split="train"):
        self.path, self.images, self.image_ids, self.split = path, images, ids, split
        self.fingerprint = "images"

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": self.images[i]}


@pytest.fixture
def world(tmp_path):
    rng = np.random.default_rng(11)
    images = rng.integers(0, 256, (GALLERY, SIDE, SIDE, 3), np.uint8)
    stimuli = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    fmri = rng.standard_normal((COUNT, LH + RH)).astype(np.float32)
    gallery = gallery_of_records(Images(tmp_path, images, np.arange(GALLERY) * 2))
    return images, stimuli, np.arange(COUNT) * 2 + 1, fmri, gallery


def test_the_image_whose_predicted_response_correlates_best_is_found(world):
    images, stimuli, ids, fmri, gallery = world
    encoder = Linear()
    predicted = encoder.predict(images)
    vertices = [1, 5, 7, LH, LH + 3, LH + 11]
    for chunk in (5, 64):
        found = retrieve(encoder, gallery, fmri, stimuli, ids, REGIONS, chunk=chunk, progress=False)
        for i in range(COUNT):
            r = [stats.pearsonr(fmri[i, vertices], p[vertices]).statistic for p in predicted]
            assert found.rows[i] == np.argmax(r)
            np.testing.assert_allclose(found.scores[i], max(r), atol=1e-5)
    assert len(set(found.rows.tolist())) > 2


def test_a_constant_prediction_is_never_chosen_and_equals_go_to_the_first(world, tmp_path):
    images, stimuli, ids, fmri, _ = world
    images[0] = 0  # predicts 0 everywhere
    images = np.concatenate([images, images])
    gallery = gallery_of_records(Images(tmp_path, images, np.arange(len(images)) * 2))
    found = retrieve(Linear(), gallery, fmri, stimuli, ids, REGIONS, chunk=8, progress=False)
    assert (found.rows > 0).all() and (found.rows < GALLERY).all()


@pytest.mark.parametrize("chunk", [1, 5, 29, 64])
def test_equals_go_to_the_first_though_their_last_bits_differ(world, tmp_path, chunk):
    """As they do where a processor rounds the same image otherwise at another place of a batch."""
    images, stimuli, ids, fmri, _ = world
    three = np.concatenate([images] * 3)
    gallery = gallery_of_records(Images(tmp_path, three, np.arange(len(three)) * 2))

    class Rounded(Linear):
        def predict(self, images, batch_size=32):
            # The mean response grows from copy to copy by 1e-7 of the spread: r rises each time.
            first = sum(self.calls)
            copies = (first + np.arange(len(images))) // GALLERY
            predicted = super().predict(images)
            return predicted + np.float32(1e-7) * copies[:, None] * fmri.mean(axis=0)

    found = retrieve(Rounded(), gallery, fmri, stimuli, ids, REGIONS, chunk=chunk, progress=False)
    plain = retrieve(Linear(), gallery, fmri, stimuli, ids, REGIONS, progress=False)
    assert (found.rows < GALLERY).all()
    np.testing.assert_array_equal(found.rows, plain.rows)


@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_what_may_still_be_the_answer_does_not_depend_on_the_parts(rng, chunk):
    # Steps of a third of what counts as rounding, so that long chains of near equals occur.
    scores = (rng.integers(0, 9, (11, 50)) * ROUNDING / 3).astype(np.float32)
    scores[2] = np.nan
    scores[:, 0] = np.nan
    leaders = Leaders.of_none(len(scores))
    for first in range(0, 50, chunk):
        part = np.arange(first, min(first + chunk, 50))
        leaders = leaders.with_images(part, scores[:, part])
    assert (np.diff(leaders.responses) >= 0).all()
    for i, row in enumerate(scores):
        mine = leaders.rows[leaders.responses == i]
        near = np.flatnonzero(row >= np.nanmax(row) - np.float32(ROUNDING)) if i != 2 else [0]
        assert mine[0] == near[0] and (np.diff(mine) > 0).all()


def test_a_killed_search_goes_on(world, tmp_path):
    _, stimuli, ids, fmri, gallery = world
    whole = retrieve(Linear(), gallery, fmri, stimuli, ids, REGIONS, progress=False)

    class Dying(Linear):
        def predict(self, images, batch_size=32):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().predict(images)

    options = {"chunk": 11, "state": tmp_path / "state.npz", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        retrieve(Dying(), gallery, fmri, stimuli, ids, REGIONS, **options)
    encoder = Linear()
    found = retrieve(encoder, gallery, fmri, stimuli, ids, REGIONS, **options)
    assert encoder.calls == [GALLERY - 22]
    np.testing.assert_array_equal(found.rows, whole.rows)
    again = retrieve(encoder, gallery, fmri, stimuli, ids, REGIONS, **options)
    assert len(encoder.calls) == 1
    np.testing.assert_array_equal(again.rows, whole.rows)
    with pytest.raises(ValueError, match=r"state\.npz belongs to another gallery, encoder or resp"):
        retrieve(encoder, gallery, fmri[::-1], stimuli, ids, REGIONS, **options)


def test_a_reference_set_with_a_stimulus_is_refused(world, tmp_path):
    images, stimuli, ids, fmri, gallery = world

    def find(gallery, ids=ids):
        encoder = Linear()
        return retrieve(encoder, gallery, fmri, stimuli, ids, REGIONS, progress=False)

    with pytest.raises(ValueError, match="holds 1 of the images to decode, such as 6; take them"):
        find(gallery, np.where(ids == 5, 6, ids))
    with pytest.raises(ValueError, match="The test split is what is decoded"):
        gallery_of_records(Images(tmp_path, images, gallery.image_ids, "test"))
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for i, image in enumerate(images[:5]):
        Image.fromarray(image).save(folder / f"{i}.png")
    pictures = gallery_of_folder(folder, SIDE)
    assert find(pictures).rows.max() <= 4
    Image.fromarray(stimuli[3]).save(folder / "deep" / "copy.bmp")
    with pytest.raises(ValueError, match=r"holds 1 of the images to decode, such as deep/copy\.b"):
        find(gallery_of_folder(folder, SIDE))


def test_pictures_are_the_same_up_to_compression(tmp_path, rng):
    y, x = np.mgrid[:SIDE, :SIDE]
    stimuli = np.stack(
        [np.stack([8 * x + 5 * k, 9 * y, 100 + x + y], -1) for k in range(COUNT)]
    ).astype(np.uint8)
    Image.fromarray(stimuli[4]).save(tmp_path / "copy.jpg", quality=90)
    copy = np.asarray(Image.open(tmp_path / "copy.jpg"))
    assert np.abs(copy.astype(int) - stimuli[4]).max() > 0
    others = np.stack([stimuli[0] // 2, copy, 255 - stimuli[2]])
    assert same_pictures(others, stimuli).tolist() == [1]


def test_pictures_of_a_folder_are_cut_to_squares(tmp_path):
    wide = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    wide[:, SIDE // 2 : -SIDE // 2] = 200
    Image.fromarray(wide).save(tmp_path / "b.png")
    Image.fromarray(wide[..., 0]).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    gallery = gallery_of_folder(tmp_path, SIDE)
    assert gallery.keys == ("a.PNG", "b.png") and gallery.image_ids is None
    assert (gallery.read(np.array([1, 0, 1])) == 200).all()
    with pytest.raises(FileNotFoundError, match="nothing: no picture below it"):
        gallery_of_folder(tmp_path / "nothing", SIDE)
