from pathlib import Path

import h5py
import nibabel
import numpy as np
import PIL.Image
import pytest
from mosaic_tree import LEFT, NAME, STIMULI, VERTICES, make_tree, write_labels

from neuroadapter_jax.cortex.label_files import read_parcellation
from neuroadapter_jax.datasets.mosaic import Mosaic
from neuroadapter_jax.datasets.source import Source
from neuroadapter_jax.errors import InputError, MissingFileError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("mosaic"))


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "mosaic")


def read(tree, **options):
    return Mosaic(tree.root, tree.cortex, **{"subject": 3, "num_validation": 2, **options})


def test_each_trial_lies_at_its_vertices(made):
    source = read(made)
    assert isinstance(source, Source)
    assert source.num_vertices == (VERTICES, VERTICES) and source.regions is None
    (block,) = source.blocks
    betas = source.read_block(block).betas
    names = [source.stimulus_names[i] for i in source.trial_image_ids()]
    expected = sorted((name.rsplit(".", 1)[0], k, name) for name, _, n in STIMULI for k in range(n))
    assert names == [stem for stem, _, _ in expected]
    for row, (_, repeat, name) in zip(betas, expected, strict=True):
        truth = made.on_surface(np.nan_to_num(made.betas[name, repeat]))
        np.testing.assert_array_equal(row, truth)


def test_the_phases_of_the_file_are_the_splits(made):
    source = read(made)
    splits = source.splits()
    stems = {name.rsplit(".", 1)[0] for name, phase, _ in STIMULI if phase == "test"}
    ids = source.trial_image_ids()
    assert {source.stimulus_names[i] for i in ids[splits["test"]]} == stems
    assert [len(splits[part]) for part in ("train", "validation", "test")] == [3, 2, 5]
    assert sorted(np.concatenate(list(splits.values()))) == list(range(10))


def test_the_snr_is_that_of_the_files_noise_ceiling(made):
    found = read(made).ncsnr()
    np.testing.assert_allclose(
        np.nan_to_num(found), made.on_surface(made.ncsnr), rtol=1e-4, atol=1e-5
    )
    assert np.isnan(found).sum() == 2 * VERTICES - 29_696 - 29_716


def test_without_noise_ceilings_the_snr_is_unknown(tree):
    with h5py.File(tree.file, "a") as file:
        del file["noiseceilings"]
    assert np.isnan(read(tree).ncsnr()).all()


def test_images_are_found_by_name_whatever_the_archive_puts_before_it(tree):
    folder = tree.write_images()
    source = read(tree, images=folder)
    number = {name: i for i, name in source.stimulus_names.items()}["000000042861"]
    path = folder / "any" / "COCO_train2014_000000042861.jpg"
    truth = np.asarray(PIL.Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(source.images(np.array([number]))[0], truth)
    assert read(tree).images(np.array([number])) == [None]
    (folder / "any" / "n02948072_4353.JPEG").unlink()  # of a test stimulus
    assert sum(image is None for image in read(tree, images=folder).images(np.arange(7))) == 1
    path.unlink()
    with pytest.raises(MissingFileError, match="lacks the images of 1 of 5 training stimuli"):
        read(tree, images=folder)


def test_a_parcellation_of_fslr_applies(tree):
    for k, (h, structure) in enumerate((("L", "CortexLeft"), ("R", "CortexRight"))):
        labels = np.arange(VERTICES) // (k + 1) % 3
        path = tree.root / f"{h}.label.gii"
        write_labels(path, labels, structure)
        image = nibabel.load(path)
        for key, name in enumerate(("???", "a", "b")):
            label = nibabel.gifti.GiftiLabel(key, 0.1, 0.2, 0.3, 1.0)
            label.label = name
            image.labeltable.labels.append(label)
        nibabel.save(image, path)
    found = read_parcellation(
        tree.root / "L.label.gii", tree.root / "R.label.gii", read(tree).num_vertices
    )
    np.testing.assert_array_equal(found.cortex_indices(2)[:2], VERTICES + np.array([2, 3]))


def test_the_file_of_the_portal_has_a_checksum_in_its_name(tree):
    tree.file.rename(tree.root / f"{NAME}_crc32-1a2b3c4d.hdf5")
    assert read(tree).files[0].name.endswith("1a2b3c4d.hdf5")


def test_the_plan_names_the_place_in_the_bucket(tree):
    def plan(**options):
        lines, complete = Mosaic.fetching_plan(tree.root, tree.cortex, 3, **options)
        return "\n".join(lines), complete

    assert plan() == ("2 of 2 parts of sub-03_BOLD5000 are there.", True)
    tree.file.unlink()
    text, complete = plan(images=tree.root / "none")
    assert not complete and "1 of 3 parts" in text
    place = "fMRIPrepv23_2_0/task_fMRI/betas/GLMsinglev1_2/BOLD5000/sub-03_BOLD5000.hdf5"
    assert f"s3://mosaicfmri/{place}" in text and "bold5000-dataset" in text
    assert "THINGS/sub-03_THINGS.hdf5" in plan(dataset="THINGS")[0]


def in_file(change):
    def damage(tree):
        with h5py.File(tree.file, "a") as file:
            change(file)

    return damage


def unlisted(file):
    file[f"betas/{NAME}_stimulus-doctor1_phase-train_rep-0"][11] = np.nan


def short(file):
    key = f"betas/{NAME}_stimulus-doctor1_phase-train_rep-0"
    del file[key]
    file[key] = np.zeros(59_412, np.float32)


def stranger(file):
    file["betas/sub-04_BOLD5000_stimulus-doctor1_phase-train_rep-0"] = np.zeros(3)


def in_both(file):
    file.copy(
        f"betas/{NAME}_stimulus-doctor1_phase-train_rep-0",
        f"betas/{NAME}_stimulus-doctor1_phase-test_rep-0",
    )


def swapped(tree):
    paths = [Path(path) for path in tree.cortex]
    left, right = (path.read_bytes() for path in paths)
    paths[0].write_bytes(right)
    paths[1].write_bytes(left)


WRONG = {
    "unlisted NaN": (in_file(unlisted), {}, ["doctor1", "1 values that are NaN"]),
    "short trial": (in_file(short), {}, ["(59412,)", "91282"]),
    "another subject's trial": (in_file(stranger), {}, ["'sub-04_BOLD5000_stimulus-doctor1"]),
    "in both phases": (in_file(in_both), {}, ["1 stimuli in both"]),
    "another subject": (lambda tree: tree.write("sub-02"), {}, ["'sub-02'", "sub-03"]),
    "no betas": (in_file(lambda file: file.pop("betas")), {}, ["noiseceilings", "has betas"]),
    "swapped cortex": (swapped, {}, ["hemi-L", "29716 of 32492", "29696"]),
    "one cortex": (lambda tree: None, {"cortex": ("a",)}, ["cortex names 1 files"]),
    "no file": (lambda tree: None, {"subject": 1}, ["sub-01_BOLD5000.hdf5", "aws s3 cp"]),
    "no subject": (lambda tree: None, {"subject": 5}, ["has 4 subjects of BOLD5000"]),
    "too many": (lambda tree: None, {"num_validation": 5}, ["num_validation is 5", "5 training"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_are_refused(tree, name):
    damage, options, words = WRONG[name]
    damage(tree)
    with pytest.raises(InputError) as error:
        source = Mosaic(
            **{"root": tree.root, "cortex": tree.cortex, "subject": 3, "num_validation": 2}
            | options
        )
        source.splits()
        source.read_block(0)
    for word in words:
        assert word in str(error.value)


def test_a_vertex_without_data_in_all_trials_is_told(tree):
    for values in tree.betas.values():
        values[[5, LEFT + 2]] = np.nan
    tree.write()
    found = read(tree).read_block(0).nan_vertices
    np.testing.assert_array_equal(found, [tree.left[5], VERTICES + tree.right[2]])
