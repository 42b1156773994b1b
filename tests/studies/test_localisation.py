import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from neuroadapter_jax.studies.localisation import (
    enlarge,
    half_share,
    localisation,
    pointing_hits,
    pooled_localisation,
    roc_auc,
)


@pytest.fixture
def maps(rng):
    return rng.random((11, 7, 7)).astype(np.float32)


@pytest.fixture
def masks(rng):
    masks = rng.random((11, 13, 13)) < 0.2
    masks[3] = False
    return masks


def test_maps_are_enlarged_bilinearly(maps):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None], (13, 13), mode="bilinear"
    )
    np.testing.assert_allclose(enlarge(maps, 13), expected[:, 0], rtol=1e-5)


def test_scores_of_maps(maps, masks):
    large = enlarge(maps, 13)
    found = localisation(maps, masks)
    hits, rois, shares = [], [], []
    for i in range(11):
        if i == 3:
            continue
        y, x = np.unravel_index(np.argmax(large[i]), (13, 13))
        hits.append(float(masks[i, y, x]))
        rois.append(roc_auc_score(masks[i].ravel(), large[i].ravel()))
        shares.append(masks[i].mean())
    assert found["num_images"] == 10
    np.testing.assert_allclose(found["chance"], np.mean(shares))
    np.testing.assert_allclose(found["pointing"]["value"], np.mean(hits))
    np.testing.assert_allclose(
        found["pointing_over_chance"]["value"], np.sum(hits) / np.sum(shares)
    )
    np.testing.assert_allclose(found["auc"]["value"], np.mean(rois), rtol=1e-6)
    mean = large.mean(0)
    own = [roc_auc_score(masks[i].ravel(), mean.ravel()) for i in range(11) if i != 3]
    np.testing.assert_allclose(found["mean_map"]["auc"]["value"], np.mean(own), rtol=1e-6)


def test_controls_fall_to_chance(rng):
    """A map that shows its own mask points well; another image's does not."""
    masks = np.zeros((101, 8, 8), bool)
    y, x = rng.integers(0, 7, (2, 101))
    for i in range(101):
        masks[i, y[i] : y[i] + 2, x[i] : x[i] + 2] = True
    maps = masks + 0.3 * rng.random((101, 8, 8))
    found = localisation(maps.astype(np.float32), masks)
    assert found["pointing"]["value"] == 1 and found["auc"]["value"] == 1
    assert abs(found["permuted"]["auc"]["value"] - 0.5) < 0.1
    assert found["permuted"]["pointing"]["value"] < 0.3


def corners(rng, images, rois, side=8):
    """Each ROI's object lies near a corner of its own; not every image shows it."""
    masks = np.zeros((rois, images, side, side), bool)
    for roi in range(rois):
        for i in np.flatnonzero(rng.random(images) < 0.4):
            y, x = rng.integers(0, 2, 2) + np.array([roi // 2, roi % 2]) * (side - 3)
            masks[roi, i, y : y + 2, x : x + 2] = True
    return masks


def test_a_habit_without_content_is_told_from_content_when_rois_are_pooled(rng):
    """Maps that show each ROI's corner in every image alike: all of it is habit."""
    masks = corners(rng, 67, 4)
    habit = np.broadcast_to(masks.mean(axis=1, keepdims=True), masks.shape)
    maps = (habit + 0.001 * rng.random(masks.shape)).astype(np.float32)
    per_roi = [localisation(own, mask) for own, mask in zip(maps, masks, strict=True)]
    pooled = pooled_localisation(list(zip(maps, masks, strict=True)))
    assert min(each["permuted"]["auc"]["value"] for each in per_roi) > 0.9
    weights = [each["num_images"] for each in per_roi]
    for kind in ("mean_map", "permuted"):
        of_rois = [each[kind]["auc"]["value"] for each in per_roi]
        mean = np.average(of_rois, weights=weights)
        np.testing.assert_allclose(pooled[kind]["auc"]["value"], mean, rtol=1e-9)
        assert abs(pooled[f"auc_above_{kind}"]["value"]) < 0.01
    assert pooled["auc_above_permuted"]["p"] > 0.01
    assert pooled["num_pairs"] == sum(weights) and pooled["num_images"] < pooled["num_pairs"]


def test_content_stands_out_from_habit(rng):
    masks = corners(rng, 67, 4)
    maps = (masks + masks.mean(axis=1, keepdims=True) + 0.1 * rng.random(masks.shape)).astype("f4")
    pooled = pooled_localisation(list(zip(maps, masks, strict=True)))
    assert pooled["auc"]["value"] > 0.99
    assert pooled["auc_above_permuted"]["interval"][0] > 0
    assert pooled["auc_above_permuted"]["p"] < 0.001


def test_pooled_intervals_take_images_as_the_unit(rng):
    """The same ROI four times over says no more than once."""
    masks = corners(rng, 67, 1)[0]
    maps = (0.3 * masks + rng.random(masks.shape)).astype(np.float32)
    once = localisation(maps, masks)
    often = pooled_localisation([(maps, masks)] * 4)
    assert often["num_pairs"] == 4 * once["num_images"] == 4 * often["num_images"]
    for score in ("auc", "pointing", "auc_above_permuted"):
        np.testing.assert_allclose(often[score]["interval"], once[score]["interval"], rtol=1e-6)


def test_rois_of_different_images_are_not_pooled(maps, masks):
    with pytest.raises(ValueError, match=r"maps of \[7, 11\] images"):
        pooled_localisation([(maps, masks), (maps[:7], masks[:7])])


def test_ties_count_half():
    mask = np.array([[[True, False, True, False]]])
    np.testing.assert_allclose(roc_auc(np.ones((1, 1, 4)), mask), 0.5)
    np.testing.assert_allclose(roc_auc(np.array([[[2.0, 1.0, 1.0, 0.0]]]), mask), 3.5 / 4)
    assert np.isnan(roc_auc(np.ones((1, 1, 4)), np.zeros((1, 1, 4), bool))).all()
    assert pointing_hits(np.array([[[0.0, 3.0, 1.0, 2.0]]]), mask).tolist() == [False]


def test_halves():
    maps = np.array([[[1.0, 1.0, 2.0, 4.0]], [[3.0, 0.0, 0.0, 1.0]]])
    np.testing.assert_allclose(half_share(maps, "right")["value"], (6 / 8 + 1 / 4) / 2)
    np.testing.assert_allclose(half_share(maps, "left")["value"], (2 / 8 + 3 / 4) / 2)
    odd = np.array([[[1.0, 2.0, 1.0]], [[4.0, 2.0, 0.0]]])
    np.testing.assert_allclose(half_share(odd, "left")["value"], (0.5 + 5 / 6) / 2)
    with pytest.raises(ValueError, match="half is 'up'"):
        half_share(maps, "up")


def test_images_that_show_nothing_of_the_kind_are_refused(maps):
    with pytest.raises(ValueError, match="None of the 11 images shows what the maps"):
        localisation(maps, np.zeros((11, 13, 13), bool))
