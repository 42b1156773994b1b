import numpy as np
import pytest
from PIL import Image

from neuroadapter_jax.figures.grids import caption_grid, image_grid
from neuroadapter_jax.figures.pictures import save_picture


def images(seed, b=7, y=11, x=13):
    return np.random.default_rng(seed).integers(0, 256, (b, y, x, 3)).astype(np.uint8)


def places(picture, image, scale):
    """Where an image stands in a picture, enlarged: (row, column) of its upper left pixels."""
    pixels = np.asarray(picture)
    block = image.repeat(scale, 0).repeat(scale, 1)
    height, width, _ = block.shape
    corners = np.argwhere((pixels == block[0, 0]).all(-1)).tolist()
    return [
        (y, x) for y, x in corners if np.array_equal(pixels[y : y + height, x : x + width], block)
    ]


def test_each_stimulus_stands_above_its_reconstruction():
    stimuli, reconstructions = images(0), images(1)
    picture = image_grid(
        {"Stimulus": stimuli, "Reconstruction": reconstructions},
        list("abcdefg"),
        columns=3,
        scale=2,
    )
    corners = []
    for above, below in zip(stimuli, reconstructions, strict=True):
        ((y, x),) = places(picture, above, 2)
        ((below_y, below_x),) = places(picture, below, 2)
        assert below_x == x and y + 22 <= below_y < y + 44
        corners.append((y, x))
    assert corners == sorted(corners)
    assert [len({x for _, x in corners}), len({y for y, _ in corners})] == [3, 3]


def test_captions_are_drawn_below_their_images():
    shown = images(2, b=3, y=31, x=29)
    texts = ["a dog upper left, castle, grass, night", "a key", ""]
    picture = caption_grid(shown, texts, columns=2, scale=3)
    ink = (np.asarray(picture).astype(int).sum(-1) < 300) & ~(np.asarray(picture) == 0).all(-1)
    amounts = []
    for image in shown:
        ((y, x),) = places(picture, image, 3)
        amounts.append(ink[y + 93 : y + 150, x : x + 87].sum())
    assert amounts[0] > 2 * amounts[1] > 0
    assert amounts[2] == 0


def test_pictures_are_saved_whole(tmp_path):
    picture = image_grid({"Stimulus": images(3)})
    save_picture(tmp_path / "new" / "grid.png", picture)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["grid.png"]
    np.testing.assert_array_equal(Image.open(tmp_path / "new" / "grid.png"), picture)


def test_unequal_rows_and_labels_are_answered(as_user):
    with pytest.raises(ValueError, match="rows of one shape"):
        image_grid({"Stimulus": images(4), "Reconstruction": images(5, b=5)})
    with pytest.raises(ValueError, match="at least one image"):
        image_grid({"Stimulus": images(4)[:0]})
    with pytest.raises(ValueError, match="7 columns got 2 column labels"):
        image_grid({"Stimulus": images(4)}, ["a", "b"])
    with pytest.raises(ValueError, match="found 7 images and 1 captions"):
        caption_grid(images(4), ["a"])


@pytest.mark.parametrize("given", [1, 5])
def test_a_row_that_is_the_same_in_every_column_stands_once(given):
    stimulus, steps = images(6, b=1), images(7, b=5)
    rows = {"Stimulus": np.repeat(stimulus, given, axis=0), "Noisy": steps}
    picture = image_grid(rows, list("abcde"), scale=2)
    ((y, x),) = places(picture, stimulus[0], 2)
    ((below, first),) = places(picture, steps[0], 2)
    assert x == first and below > y


@pytest.mark.parametrize("label", ["step 1", "a long name of a stimulus such as those of Imagery"])
def test_labels_do_not_run_into_one_another(label):
    shown = np.full((3, 31, 29, 3), 255, np.uint8)
    pixels = np.asarray(image_grid({"a": shown}, [label] * 3, scale=3)).min(-1)[:40]
    inked = np.flatnonzero((pixels < 200).any(0))
    assert (np.diff(inked) > 3).sum() >= 2  # white between the three


def test_labels_grow_with_the_images():
    heights = []
    for scale in (2, 6):
        pixels = np.asarray(
            image_grid({"HHH": np.full((1, 64, 64, 3), 255, np.uint8)}, scale=scale)
        )
        heights.append((pixels.min(-1) < 200).any(1).sum())
    assert heights[1] > 2 * heights[0] > 20
