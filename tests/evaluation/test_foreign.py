"""Scores of images made elsewhere: the same as of the package's own folder, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr

from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.evaluation.foreign import ForeignSource, is_made_elsewhere, score_foreign
from neuroadapter_jax.evaluation.protocol import resize, score_images
from neuroadapter_jax.evaluation.results import paired_differences, read_per_image
from neuroadapter_jax.evaluation.score_files import file_scores
from neuroadapter_jax.evaluation.score_folder import score_folder

COUNT, SIDE = 5, 19
IDS = [4, 7, 8, 30, 51]
OPTIONS = {"networks": (), "progress": False}


@pytest.fixture
def pair():
    rng = np.random.default_rng(2)
    stimuli = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    noise = rng.integers(0, 256, stimuli.shape)
    return stimuli, ((stimuli.astype(int) + noise) // 2).astype(np.uint8)


def as_tensor(images):
    return np.moveaxis(images, -1, 1).astype(np.float32) / 255


def save(folder, stimuli, reconstructions):
    np.save(folder / "recons.npy", as_tensor(reconstructions))
    np.save(folder / "stimuli.npy", as_tensor(stimuli))
    (folder / "ids.txt").write_text("\n".join(map(str, IDS)))
    return ForeignSource(folder / "recons.npy", folder / "ids.txt", folder / "stimuli.npy")


def own_folder(folder, stimuli, reconstructions):
    folder.mkdir()
    entries = []
    for image_id, *images in zip(IDS, stimuli, reconstructions, strict=True):
        names = [f"{what}{image_id}.png" for what in ("s", "c")]
        for name, image in zip(names, images, strict=True):
            Image.fromarray(image).save(folder / name)
        entries.append({"image_id": image_id, "stimulus": names[0], "candidates": names[1:]})
    (folder / "index.json").write_text(json.dumps({"images": entries}))
    return folder


@pytest.mark.parametrize("convention", ["mindeye", "neuroadapter"])
def test_scores_are_those_of_the_same_images_in_our_layout(tmp_path, pair, convention, monkeypatch):
    monkeypatch.setattr("neuroadapter_jax.evaluation.protocol.NETWORKS", ())
    source = save(tmp_path, *pair)
    found = score_foreign(source, tmp_path / "out", convention=convention, **OPTIONS)
    own = own_folder(tmp_path / "own", *pair)
    options = {"convention": convention, "progress": False, "weights": None}
    truth = score_images(*pair, convention=convention, **OPTIONS).per_image["pixcorr"]
    assert found["metrics"]["pixcorr"]["value"] == pytest.approx(truth.mean())
    table = read_per_image(tmp_path / "out" / "per_image.csv")
    assert table.image_ids.tolist() == IDS
    assert found["colour_cd"]["value"] == pytest.approx(table.columns["colour_cd"].mean())
    score_folder(own, **options)
    same = paired_differences(own, tmp_path / "out")["scores"]
    assert {"pixcorr", "ssim", "colour_cd", "colour_stress"} <= same.keys()
    assert all(entry["difference"]["value"] == 0 for entry in same.values())


def test_sizes_may_differ_and_each_is_resized_from_its_own(tmp_path, pair):
    stimuli, reconstructions = pair
    large = reconstructions.repeat(2, axis=1).repeat(2, axis=2)
    found = score_foreign(save(tmp_path, stimuli, large), tmp_path / "out", **OPTIONS)
    both = [resize(resize(x, 256, antialias=False), 425, antialias=False) for x in (stimuli, large)]
    expected = [pearsonr(a.ravel(), b.ravel())[0] for a, b in zip(*both, strict=True)]
    assert found["metrics"]["pixcorr"]["value"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_pictures_find_their_stimuli_by_id_whatever_their_order(tmp_path, pair):
    stimuli, reconstructions = pair
    for name, images, ids in (("mine", reconstructions, IDS), ("seen", stimuli, IDS)):
        (tmp_path / name).mkdir()
        for image_id, image in zip(ids, images, strict=True):
            Image.fromarray(image).save(tmp_path / name / f"{image_id}.png")
    np.save(tmp_path / "turned.npy", reconstructions[::-1])
    (tmp_path / "turned.txt").write_text("\n".join(map(str, IDS[::-1])))
    truth = score_images(*pair, **OPTIONS).per_image["pixcorr"].mean()
    for recons, ids in ((tmp_path / "mine", None), (tmp_path / "turned.npy", "turned.txt")):
        source = ForeignSource(recons, ids and tmp_path / ids, tmp_path / "seen")
        out = tmp_path / f"out_{recons.name}"
        found = score_foreign(source, out, **OPTIONS)["metrics"]["pixcorr"]["value"]
        assert found == pytest.approx(truth)
    assert is_made_elsewhere(tmp_path / "mine") and not is_made_elsewhere(tmp_path / "out_mine")


def test_mindeye2s_blurry_images_are_mixed_in_by_a_quarter(tmp_path, pair):
    stimuli, reconstructions = pair
    source = save(tmp_path, stimuli, np.zeros_like(reconstructions))
    np.save(tmp_path / "blurry.npy", as_tensor(reconstructions))
    mixed = ForeignSource(
        source.reconstructions, source.image_ids, source.stimuli, blurry=tmp_path / "blurry.npy"
    )
    found = score_foreign(mixed, tmp_path / "out", **OPTIONS)["metrics"]["pixcorr"]["value"]
    # A quarter over black correlates as the blurry image itself does.
    truth = score_images(*pair, **OPTIONS).per_image["pixcorr"].mean()
    assert found == pytest.approx(truth, abs=2e-3)


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(tmp_path, pair):
    stimuli, reconstructions = pair
    source = save(tmp_path, stimuli, reconstructions)
    np.save(tmp_path / "fewer.npy", as_tensor(stimuli[1:]))
    wrong = ForeignSource(source.reconstructions, source.image_ids, tmp_path / "fewer.npy")
    with pytest.raises(InputError, match="4 images, the reconstructions 5"):
        score_foreign(wrong, tmp_path / "out", **OPTIONS)
    (tmp_path / "ids.txt").write_text("1\n2\n")
    with pytest.raises(InputError, match="lists 2 image ids"):
        score_foreign(source, tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_scores_of_other_reconstructions_are_not_replaced(tmp_path, pair):
    source = save(tmp_path, *pair)
    score_foreign(source, tmp_path / "out", **OPTIONS)
    score_foreign(source, tmp_path / "out", **OPTIONS)
    np.save(tmp_path / "other.npy", as_tensor(pair[1]))
    other = ForeignSource(tmp_path / "other.npy", source.image_ids, source.stimuli)
    with pytest.raises(ExistingFileError, match=r"scores of .*recons\.npy"):
        score_foreign(other, tmp_path / "out", **OPTIONS)


def test_embeddings_and_depth_beside_the_images_are_scored(tmp_path, rng):
    ids = np.array(IDS)
    assert file_scores(tmp_path, ids) == ({}, {})
    true = rng.standard_normal((COUNT, 2, 3))
    depth = rng.uniform(0.5, 1, (COUNT, 4, 4))
    np.savez(tmp_path / "embeddings.npz", image_ids=ids, predicted=true, true=true)
    np.savez(tmp_path / "depth.npz", image_ids=ids, predicted=2 * depth, true=depth)
    results, columns = file_scores(tmp_path, ids)
    assert results["retrieval_top1"]["forward"]["value"] == 1
    assert results["depth_abs_rel"]["value"] == pytest.approx(1)
    assert {"retrieval_forward", "retrieval_backward", "depth_rmse_log"} <= columns.keys()
    with pytest.raises(InputError, match="other images"):
        file_scores(tmp_path, ids[::-1])
