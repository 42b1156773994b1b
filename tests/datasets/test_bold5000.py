import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.stats
from bold5000_tree import NAME, REGIONS, REPEATED, RUNS, SUBJECT, TRIALS, VOXELS, make_tree

from neuroadapter_jax.datasets.bold5000 import BOLD5000
from neuroadapter_jax.datasets.source import Source
from neuroadapter_jax.errors import InputError, MissingFileError


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "bold5000")


def read(tree, **options):
    return BOLD5000(tree.root, **{"subject": SUBJECT, "num_validation": 5, **options})


def everything(source):
    return np.concatenate([source.read_block(block).betas for block in source.blocks])


def names_of(source, rows):
    return [source.stimulus_names[i] for i in source.trial_image_ids()[rows]]


def test_the_responses_of_each_roi_are_those_of_its_file(tree):
    source = read(tree, normalize="none")
    assert isinstance(source, Source)
    assert source.blocks == (1, 2, 3)
    assert source.regions.names == tuple(REGIONS)
    assert [len(v) for v in source.regions.vertices] == list(VOXELS.values())
    found = everything(source)
    np.testing.assert_array_equal(found, tree.betas)
    for region, vertices in zip(source.regions.names, source.regions.vertices, strict=True):
        np.testing.assert_array_equal(found[:, vertices], np.load(tree.array(region)))


def test_a_trial_showed_what_the_list_of_its_run_says(tree):
    source = read(tree)
    assert names_of(source, slice(None)) == [name.rsplit(".", 1)[0] for name in tree.shown]
    for i in (0, 17, 34):
        picture = source.images(source.trial_image_ids()[i : i + 1])[0]
        truth = np.asarray(PIL.Image.open(tree.image(tree.shown[i])).convert("RGB"))
        np.testing.assert_array_equal(picture, truth)


def test_session_and_run_are_normalised_each_by_its_own_trials(tree):
    z = [scipy.stats.zscore(tree.betas[rows].astype(np.float64)) for rows in tree.rows.values()]
    np.testing.assert_allclose(everything(read(tree)), np.concatenate(z), rtol=1e-3, atol=1e-5)
    runs = tree.betas.astype(np.float64).reshape(sum(RUNS.values()), TRIALS, -1)
    expected = scipy.stats.zscore(runs, axis=1).reshape(tree.betas.shape)
    found = everything(read(tree, normalize="run"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_repeated_images_are_the_test_images(tree):
    source = read(tree)
    splits = source.splits()
    assert sorted(np.concatenate(list(splits.values()))) == list(range(35))
    assert sorted(names_of(source, splits["test"])) == sorted(
        name.rsplit(".", 1)[0] for name in tree.shown if name in REPEATED
    )
    assert len(splits["validation"]) == 5
    other = read(tree, seed=1).splits()
    assert set(other["validation"]) != set(splits["validation"])
    np.testing.assert_array_equal(other["test"], splits["test"])


def test_the_noise_ceiling_is_that_of_the_authors_code(tree):
    """vmetric and ncsnr as compute_BOLD5000_NCSNR_v5.m of tarrlab/BOLD5000-GLMs has them."""
    z = np.concatenate(
        [scipy.stats.zscore(tree.betas[r].astype(np.float64), ddof=1) for r in tree.rows.values()]
    )
    repeated = [np.flatnonzero(np.array(tree.shown) == name) for name in REPEATED[:2]]
    vmetric = np.sqrt(np.mean([z[rows].std(axis=0, ddof=1) ** 2 for rows in repeated], axis=0))
    expected = np.sqrt(np.maximum(0, 1 - vmetric**2)) / vmetric
    np.testing.assert_allclose(read(tree).ncsnr(), expected, rtol=1e-3, atol=1e-4)


def test_volumes_within_the_masks_give_the_same_responses(tree):
    tree.write_volumes()
    arrays, volumes = read(tree), read(tree, betas="volumes")
    assert arrays.regions.fingerprint() == volumes.regions.fingerprint()
    np.testing.assert_array_equal(everything(volumes), everything(arrays))
    shutil.rmtree(tree.arrays)
    tree.volume(1).unlink()
    some = read(tree, betas="volumes", sessions=(2, 3), normalize="none")
    np.testing.assert_array_equal(everything(some), tree.betas[10:])
    assert some.blocks == (2, 3)


def test_sessions_of_the_arrays_are_their_own_rows(tree):
    source = read(tree, sessions=(2,), rois=("PPA", "LOC"), normalize="none")
    assert source.regions.names == ("LHPPA", "RHPPA", "LHLOC", "RHLOC")
    columns = [tree.columns(region) for region in source.regions.names]
    expected = np.concatenate([tree.betas[10:25, c] for c in columns], axis=1)
    np.testing.assert_array_equal(everything(source), expected)
    assert names_of(source, slice(None)) == [n.rsplit(".", 1)[0] for n in tree.shown[10:25]]


def test_a_voxel_without_data_in_a_session_becomes_0_there(tree):
    tree.betas[tree.rows[2], tree.columns("LHOPA")] = np.nan
    tree.write_arrays()
    source = read(tree)
    block = source.read_block(2)
    np.testing.assert_array_equal(block.nan_vertices, np.arange(35)[tree.columns("LHOPA")])
    assert not block.betas[:, block.nan_vertices].any()
    assert len(source.read_block(1).nan_vertices) == 0


def test_the_number_of_an_image_does_not_depend_on_the_subject(tree):
    number = {name: i for i, name in read(tree).stimulus_names.items()}
    few = {name: i for i, name in read(tree, sessions=(3,)).stimulus_names.items()}
    assert few.items() <= number.items()


def test_an_archive_of_macos_and_the_original_images_do_not_disturb(tree):
    junk = tree.root / "__MACOSX" / tree.arrays.name
    shutil.copytree(tree.arrays, junk)
    shutil.copy(tree.run(1, 1), tree.run(1, 1).with_name("._CSI_sess01_run01.txt"))
    np.testing.assert_array_equal(everything(read(tree, normalize="none")), tree.betas)


def lines(tree, **options):
    return BOLD5000.fetching_plan(tree.root, SUBJECT, **options)


def test_the_plan_says_what_is_missing_and_where_it_is(tree):
    text, complete = lines(tree)
    assert complete and text[0].startswith("4 of 4 parts of CSI2")
    tree.array("RHPPA").unlink()
    text, complete = lines(tree)
    assert not complete and any("lacking here: RHPPA)" in line for line in text)
    assert lines(tree, rois=("LOC",))[1]
    text, complete = lines(tree, betas="volumes", sessions=(1, 3))
    text = "\n".join(text)
    assert not complete and "of 2 sessions (01, 03; up to 0.69 GB each" in text
    assert f"s3://openneuro.org/ds001499/derivatives/spm/sub-{NAME}" in text
    shutil.rmtree(tree.stimuli)
    text, complete = lines(tree, rois=("LOC",))
    assert not complete and any(line.startswith("  BOLD5000_Stimuli.zip") for line in text)


def append(path, text):
    path.write_text(path.read_text() + text)


def wrong_rows(tree):
    np.save(tree.array("LHPPA"), np.zeros((34, 3), np.float32))


def wrong_axes(tree):
    np.save(tree.array("LHPPA"), np.zeros(35, np.float32))


def other_order(tree):
    path = tree.root / f"{NAME}_imgnames.txt"
    names = path.read_text().split("\n")
    path.write_text("\n".join([names[1], names[0], *names[2:]]))


def some_trials_nan(tree):
    tree.betas[3, 2] = np.nan
    tree.write_arrays()


WRONG = {
    "wrong_rows": (wrong_rows, {}, ["_LHPPA.npy", "34 rows", "35 trials"]),
    "wrong_axes": (wrong_axes, {}, ["_LHPPA.npy", "shape (35,)", "trials x voxels"]),
    "long list": (
        lambda tree: append(tree.root / f"{NAME}_imgnames.txt", "late1.jpg\n"),
        {},
        ["CSI2_imgnames.txt", "36 stimuli", "35 trials"],
    ),
    "other order": (other_order, {}, ["CSI2_imgnames.txt", "line 1"]),
    "no run": (lambda tree: tree.run(2, 2).unlink(), {}, ["runs [1, 3] of session 2"]),
    "empty run": (lambda tree: tree.run(2, 2).write_text("\n"), {}, ["run02.txt names no stim"]),
    "other subject": (lambda tree: None, {"subject": 1}, ["presentation lists of CSI1"]),
    "fifth subject": (lambda tree: None, {"subject": 5}, ["subjects 1 to 4"]),
    "no roi": (lambda tree: None, {"rois": ("FFA",)}, ["ROI FFA of CSI2", "EarlyVis, LOC, OPA"]),
    "no session": (lambda tree: None, {"sessions": (2, 4)}, ["no session 4", "of 1 to 3"]),
    "lost roi": (lambda tree: tree.array("RHRSC").unlink(), {}, ["lacks the files of RHRSC"]),
    "no volumes": (lambda tree: None, {"betas": "volumes"}, ["sub-CSI2"]),
    "lost image": (lambda tree: tree.image(tree.once[0]).unlink(), {}, ["1 of 27 stimuli"]),
    "no list": (
        lambda tree: next(tree.root.rglob("repeated*")).unlink(), {}, ["113_list.txt", "unpack"]
    ),
    "no test image": (
        lambda tree: next(tree.root.rglob("repeated*")).write_text("a.jpg\n"), {}, ["none of"]
    ),
    "twice": (
        lambda tree: shutil.copytree(tree.arrays, tree.root / "copy"), {}, ["LHEarlyVis", "leave"]
    ),
    "too many": (lambda tree: None, {"num_validation": 24}, ["num_validation is 24", "24 images"]),
    "some nan": (some_trials_nan, {}, ["_LHEarlyVis.npy", "in 1 of 10 trials"]),
    "normalize": (lambda tree: None, {"normalize": "zscore"}, ["'zscore'", "session, run"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_are_refused(tree, name):
    damage, options, words = WRONG[name]
    damage(tree)
    with pytest.raises(InputError) as error:
        source = read(tree, **options)
        source.splits()
        everything(source)
    for word in words:
        assert word in str(error.value)


def test_volumes_of_another_grid_or_session_are_refused(tree):
    tree.write_volumes()
    shutil.copy(tree.volume(2), tree.volume(1))
    with pytest.raises(InputError, match=r"ses-01.nii.gz has the shape \(5, 7, 3, 15\)"):
        read(tree, betas="volumes")
    tree.volume(1).unlink()
    with pytest.raises(MissingFileError, match=r"ses-01\.nii\.gz"):
        read(tree, betas="volumes")
    content = tree.volume(3).read_bytes()
    tree.volume(3).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"ses-03\.nii\.gz"):
        everything(read(tree, betas="volumes", sessions=(2, 3)))
