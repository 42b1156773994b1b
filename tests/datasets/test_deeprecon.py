import csv
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.stats
from bdata_files import NAMES, NAN, PLAIN, ROIS, SIDES, TEST_NAMES, VOXELS, World, write_bdata
from real_files import real_file

from neuroadapter_jax.datasets.bdata import BData
from neuroadapter_jax.datasets.deeprecon import Deeprecon, stimulus_name
from neuroadapter_jax.errors import InputError


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "deeprecon")


def read(world, **options):
    return Deeprecon(world.root, **{"num_validation": 2, **options})


def everything(source):
    return np.concatenate([source.read_block(block).betas for block in source.blocks])


@pytest.mark.parametrize("old", [False, True])
def test_bdpy_reads_the_same(world, old):
    bdpy = pytest.importorskip("bdpy")
    path = world.path("Training")
    write_bdata(path, world.train, world.train_names, old=old, gap=2)
    truth, found = bdpy.BData(str(path)), BData(path, "a shop")
    for key in ("VoxelData", "ROI_V1", "ROI_FFA", "ROI_VC"):
        columns = np.flatnonzero(found.columns(key))
        np.testing.assert_array_equal(found.read(columns), truth.select(key))
    assert found.labels("stimulus_name") == truth.get_label("stimulus_name")
    np.testing.assert_array_equal(found.attribute("voxel_x"), truth.get_metadata("voxel_x"))


def test_a_file_that_bdpy_wrote(world):
    bdpy = pytest.importorskip("bdpy")
    data = bdpy.BData()
    data.add(world.train, "VoxelData")
    data.add(np.arange(35.0)[:, None] % 7 + 1, "stimulus_name")
    data.add_vmap("stimulus_name", {i + 1: name for i, name in enumerate(NAMES)})
    data.add_metadata("ROI_V1", np.arange(VOXELS) % 2 == 0, where="VoxelData")
    data.save(str(world.path("Training")))
    source = read(world, normalize="none")
    np.testing.assert_array_equal(everything(source), world.train.astype(np.float32))
    np.testing.assert_array_equal(source.regions.vertices[0], np.arange(0, VOXELS, 2))
    shown = [source.stimulus_names[i] for i in source.trial_image_ids()]
    assert shown == [NAMES[k % 7] for k in range(35)]


def published_names():
    """Identifier in the events, and name of the image, of GenericObjectDecoding's test images."""
    with real_file("imageID_test.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 50
    return {identifier: Path(name).stem for identifier, name in rows}


def test_published_identifiers_stand_for_their_images():
    """As text, and after they were read as numbers, which loses trailing zeros."""
    for identifier, name in published_names().items():
        assert stimulus_name(identifier) == name
        assert stimulus_name(str(float(identifier))) == name
        assert stimulus_name(f"{float(identifier):.6f}") == name
        assert stimulus_name(name) == name


@pytest.mark.parametrize("as_numbers", [False, True])
def test_published_identifiers_find_their_images(world, as_numbers):
    """In the vmap of a BData file, as text or as a number's shortest text."""
    names = published_names()
    world.write()
    shown = [str(float(i)) if as_numbers else i for i in names]
    write_bdata(world.path("Test"), np.tile(world.test, (5, 1))[:50], shown)
    images = world.root / "images"
    images.mkdir()
    for name in [*NAMES, *names.values()]:
        PIL.Image.new("RGB", (2, 2)).save(images / f"{name}.JPEG")
    source = read(world, images=images)
    ids = source.trial_image_ids()[source.splits()["test"]]
    assert [source.stimulus_names[i] for i in ids] == list(names.values())
    assert all(image is not None for image in source.images(ids))


@pytest.mark.parametrize("old", [False, True])
def test_rois_are_regions_over_all_voxels(world, old):
    source = read(world.write(old=old), normalize="none")
    assert source.num_vertices == (VOXELS, 0)
    assert source.regions.names == tuple(ROIS) and set(source.regions.hemispheres) == {"both"}
    for name, members in zip(source.regions.names, source.regions.vertices, strict=True):
        np.testing.assert_array_equal(members, np.arange(*ROIS[name]))
    expected = np.concatenate([world.train, world.test]).astype(np.float32)
    np.testing.assert_array_equal(everything(source), expected)
    chosen = read(world, rois=("LOC", "V1")).regions
    assert chosen.names == ("LOC", "V1")
    with pytest.raises(ValueError, match=r"no region OFA; its regions are FFA, LOC, V1"):
        read(world, rois=("V1", "OFA"))


def test_hemispheres_where_the_file_tells_them(world):
    source = read(world.write(masks=PLAIN | SIDES), normalize="none")
    left, right = [0, 3, 4, 9, 22], [1, 2, 5, 8, 20, 21]
    assert source.num_vertices == (5, 6)
    expected = np.concatenate([world.train, world.test])[:, left + right].astype(np.float32)
    np.testing.assert_array_equal(everything(source), expected)
    regions = source.regions
    assert list(zip(regions.hemispheres, regions.names, strict=True)) == [
        ("lh", "V1"), ("lh", "FFA"), ("rh", "V1"), ("rh", "FFA"),
    ]  # fmt: skip
    voxels = np.array(left + right)
    for i, key in enumerate(("ROI_LH_V1", "ROI_LH_FFA", "ROI_RH_V1", "ROI_RH_FFA")):
        np.testing.assert_array_equal(voxels[regions.cortex_indices(i)], sorted(SIDES[key]))


def test_voxel_of_both_hemispheres(world):
    world.write(masks=SIDES | {"ROI_RH_V2": [9]})
    with pytest.raises(ValueError, match="5 voxels as left, 7 as right and 1 as both"):
        read(world)


def test_splits_by_image(world):
    source = read(world.write())
    splits, ids = source.splits(), source.trial_image_ids()
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 25, "validation": 10, "test": 12,
    }  # fmt: skip
    assert not set(ids[splits["train"]]) & set(ids[splits["validation"]])
    shown = [source.stimulus_names[i] for i in ids]
    assert shown == world.train_names + world.test_names
    other = read(world, seed=1).splits()["validation"]
    assert set(other) != set(splits["validation"])
    with pytest.raises(ValueError, match="shows 7 images"):
        read(world, num_validation=7).splits()


def test_the_other_parts_are_splits_where_their_files_are(world):
    world.write()
    for part, count in (("ArtificialImage", 2), ("LetterImage", 3)):
        path = world.root / f"sub-01_perception{part}_original_VC.h5"
        write_bdata(path, world.test[:count], ["a", "b", "a"][:count])
    write_bdata(
        world.root / "sub-01_imagery_original_VC.h5", world.test[:5], ["a", *TEST_NAMES, "a"]
    )
    source = read(world)
    sizes = {name: len(rows) for name, rows in source.splits().items()}
    assert sizes | {"artificial": 2, "letters": 3, "imagery": 5} == sizes
    ids = source.trial_image_ids()
    # What is imagined is the same stimulus as what was viewed.
    imagined = set(ids[source.splits()["imagery"]])
    assert set(ids[source.splits()["test"]]) < imagined


def test_training_statistics_apply_to_all(world):
    found = everything(read(world.write()))
    mean, deviation = world.train.mean(axis=0), world.train.std(axis=0, ddof=1)
    expected = (np.concatenate([world.train, world.test]) - mean) / deviation
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_normalised_per_run(world):
    world.write()
    with pytest.raises(ValueError, match=r"Test_original_VC.h5 does not mark its runs"):
        read(world, normalize="run")
    world.path("Test").unlink()
    source = read(world, normalize="run")
    assert len(source.blocks) == 5
    expected = [scipy.stats.zscore(world.train[world.runs == run]) for run in range(1, 6)]
    np.testing.assert_allclose(everything(source), np.concatenate(expected), atol=2e-5)
    with pytest.raises(ValueError, match="'session'; choose one of train-stats, run, none"):
        read(world, normalize="session")


def test_snr_from_repeats(world):
    found = read(world.write()).ncsnr()
    z = np.concatenate(
        [scipy.stats.zscore(world.train[world.runs == r], ddof=1) for r in range(1, 6)]
    )
    names = np.array(world.train_names)
    noise = np.mean([z[names == name].var(axis=0, ddof=1) for name in NAMES], axis=0)
    expected = np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert (found > 0).any()


def test_constant_and_missing_voxels(world):
    world.train[:, 4] = world.test[:, 4] = 5.0
    world.train[:, 9] = world.test[:, 9] = NAN
    source = read(world.write())
    found = everything(source)
    np.testing.assert_array_equal(found[:, [4, 9]], 0)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(source.read_block("test 1").nan_vertices, [9])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1518878.005958", "n01518878_5958"),
        ("1518878.005950", "n01518878_5950"),
        ("1518878.00595", "n01518878_5950"),  # what a float makes of the line above
        ("n01518878_5958", "n01518878_5958"),
        ("colorExpStim01_red_square", "colorExpStim01_red_square"),
    ],
)
def test_names_of_imagenet_images(text, name):
    assert stimulus_name(text) == name


def test_numbers_refer_to_a_table_that_is_read_as_text(world):
    names = {"n01518878_5950": "1518878.005950", "n01518878_5958": "1518878.005958"}
    table = world.root / "stimulus_NaturalImageTraining.tsv"
    # bdata numbers the names from 1 in alphabetical order
    table.write_text("".join(f"{text}\t{i + 1}\n" for i, text in enumerate(names.values())))
    shown = [list(names)[i % 2] for i in range(35)]
    write_bdata(world.path("Training"), world.train, shown, vmap=False)
    source = read(world, stimulus_tables={"train": table}, num_validation=1)
    assert [source.stimulus_names[i] for i in source.trial_image_ids()] == shown
    table.write_text("1518878.005950\t1\n")
    with pytest.raises(ValueError, match=r"shows image_index 2, but .* lists 1 names"):
        read(world, stimulus_tables={"train": table})
    with pytest.raises(ValueError, match=r"names the part\(s\) \['test'\]"):
        read(world, stimulus_tables={"test": table})


def test_images_by_name(world):
    world.write()
    folder = world.write_images(NAMES)
    source = read(world, images=folder)
    images = source.images(np.arange(len(source.stimulus_names)))
    for i, name in source.stimulus_names.items():
        if name in NAMES:
            np.testing.assert_array_equal(images[i], world.pictures[name])
        else:
            assert images[i] is None
    next(folder.rglob(f"{NAMES[2]}.png")).unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of 7 training stimuli.*{NAMES[2]}"):
        read(world, images=folder)
    with pytest.raises(FileNotFoundError, match="on request"):
        read(world, images=folder / "none")
    assert read(world).images(np.array([0])) == [None]


def test_a_surface_file_takes_a_parcellation(world):
    order = np.random.default_rng(0).permutation(VOXELS)
    left, right = order[:10], order[10:]
    path = world.path("Training")
    write_bdata(path, world.train, world.train_names, masks={})
    with h5py.File(path, "a") as file:
        keys, values = [*file["metadata/key"][()]], file["metadata/value"][()]
        rows = np.full((3, values.shape[1]), NAN)
        rows[0, left], rows[1, right] = 1, 1
        rows[2, left], rows[2, right] = np.arange(10), np.arange(13)
        del file["metadata"]
        file["metadata/key"] = [*keys, b"VertexLeft", b"VertexRight", b"vertex_index"]
        file["metadata/value"] = np.concatenate([values, rows])
    source = read(world, normalize="none")
    assert source.regions is None and source.num_vertices == (10, 13)
    np.testing.assert_array_equal(everything(source), world.train[:, order].astype(np.float32))
    with pytest.raises(ValueError, match="lies on a surface"):
        read(world, rois=("V1",))
    with h5py.File(path, "a") as file:
        file["metadata/value"][-1, left[3]] = 10
    with pytest.raises(ValueError, match="10 vertices as 'VertexLeft', not all of a surface"):
        read(world)


def test_files_of_different_releases_are_refused(world):
    world.write()
    write_bdata(world.path("Test"), world.test, world.test_names, masks=PLAIN | {"ROI_V1": [0]})
    with pytest.raises(ValueError, match=r"Test_original_VC.h5 .*one release"):
        read(world)
    # The same voxels behind other columns are the same voxels.
    write_bdata(world.path("Test"), world.test, world.test_names, gap=3)
    np.testing.assert_array_equal(
        everything(read(world, normalize="none"))[35:], world.test.astype(np.float32)
    )


def test_missing_and_foreign_files(world):
    with pytest.raises(FileNotFoundError, match=r"sub-01_perceptionNaturalImageTraining.*figshare"):
        read(world)
    world.path("Training").write_bytes(b"hello")
    with pytest.raises(ValueError, match="not an HDF5 file \\(5 bytes\\)"):
        read(world)
    world.path("Training").unlink()
    with h5py.File(world.path("Training"), "w") as file:
        file["betas"] = world.train
    with pytest.raises(ValueError, match="holds betas; a BData file has dataset and metadata"):
        read(world)
    world.write()
    second = world.root / "sub-01_ImageNetTraining_fmriprep_volume_native.h5"
    second.write_bytes(world.path("Training").read_bytes())
    with pytest.raises(ValueError, match="2 files of the part 'train'"):
        read(world)


def test_a_number_that_stands_for_nothing(world):
    world.write()
    with h5py.File(world.path("Test"), "a") as file:
        del file["vmap/stimulus_name/2.0"]
    with pytest.raises(ValueError, match="uses 2 in column 'stimulus_name'"):
        read(world)


def test_strings_of_a_file_that_was_zeroed_in_part_are_refused_and_not_read_for_ever(world):
    world.write()
    path = world.path("Training")
    whole = path.read_bytes()
    start = whole.index(b"GCOL")
    with h5py.File(path) as file:
        count = len(file["metadata/key"])
    BData(path, "a shop")  # a whole file is none of these
    first = whole.index(b"VoxelData", start) - 16
    path.write_bytes(whole[:first] + bytes(16) + whole[first + 16 :])
    assert count > 3
    with pytest.raises(InputError, match=rf"Training.*its strings are damaged at byte {first}"):
        BData(path, "a shop")
