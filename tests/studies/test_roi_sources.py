"""ROIs from atlases on the regions' own surface, for subjects without NSD's label files."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from real_files import real_file

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.studies.interpretation import ROISource, folder_rois
from neuroadapter_jax.studies.roi_counts import count_regions_in_rois


def save(path, values):
    image = nib.freesurfer.MGHImage(np.asarray(values, np.float32)[:, None, None], np.eye(4))
    nib.save(image, path)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "lh.wang15_mplbl.mgz", [1, 1, 2, 7, 0])
    save(tmp_path / "rh.wang15_mplbl.mgz", [25, 2, 0])
    save(tmp_path / "lh.eccen.mgz", [0, 9, 2, 3, 4])
    save(tmp_path / "rh.eccen.mgz", [1, 8, 0])
    return tmp_path


@pytest.fixture
def regions():
    sets = [[0, 1], [2, 3, 4], [0, 1]]
    vertices = tuple(np.array(s, np.int32) for s in sets)
    return Parcellation(("a", "b", "c"), ("lh", "lh", "rh"), vertices, (5, 3))


def test_atlases_and_maps_of_a_folder_become_weights_over_regions(folder, regions, as_user):
    source = ROISource(
        label_dir=folder, atlases=("wang15_mplbl",), maps=("near=eccen:0:5",), threshold=0.4
    )
    rois, masks = source.load(SimpleNamespace(regions=regions))
    assert list(masks)[:4] == ["V1", "V2", "V3", "V4"] and masks["V1"].tolist() == [True] * 3 + [
        False, False, False, True, False,
    ]  # fmt: skip
    assert masks["near"].tolist() == [False, False, True, True, True, True, False, False]
    members = dict(zip(rois.names, rois.members.tolist(), strict=True))
    assert members["V1"] == [True, False, True]
    assert members["near"] == [False, True, False]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "but none is given; give either --rois, --root or --label_dir"),
        ({"root": "a", "label_dir": "b"}, "but --root and --label_dir is given"),
        ({"file": "a", "root": "b"}, "but --rois and --root is given"),
        ({"root": "a", "atlases": ("x",)}, "--atlases is x, which --root does not use"),
        ({"file": "a", "maps": ("m=x:0:1",)}, "--maps is m=x:0:1, which --rois does not use"),
        ({"label_dir": "a", "extra_atlases": ("x",)}, "--extra_atlases is x, which --label_dir"),
    ],
)
def test_rois_come_from_one_place_with_the_flags_of_that_place(given, said):
    with pytest.raises(InputError, match=said):
        ROISource(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"atlases": ["x"]}, "--atlases is x, but --label_dir names no folder of them"),
        ({"label_dir": "a", "extra_atlases": ["x"]}, "--extra_atlases is x, which --label_dir"),
    ],
)
def test_counting_takes_the_flags_of_one_place(given, said, as_user):
    """Before anything is read."""
    with pytest.raises(InputError, match=said):
        count_regions_in_rois(None, [], **given)


def test_a_folder_without_names_of_files_is_refused(folder):
    with pytest.raises(InputError, match="neither --atlases nor --maps names files in it"):
        folder_rois(folder)


def test_wang15_groups_as_nsds_own_areas_do():
    masks = folder_rois(real_file("lh.wang15_mplbl.v1_0.mgz").parent, ["wang15_mplbl.v1_0"])
    assert list(masks)[:4] == ["V1", "V2", "V3", "V4"] and len(masks) == 4 + 18
    assert masks["V1"].sum() == 1101 + 1051 + 1040 + 1063
    assert masks["V4"].sum() == 441 + 508
