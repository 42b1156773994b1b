import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.cortex import group_rois, read_rois
from neuroadapter_jax.cortex.map_rois import MapROI
from neuroadapter_jax.errors import InputError

LEFT = [0.0, 0.4, 3.9, 4.0, 11.5, np.nan, -1.0]
RIGHT = [2.5, 0.0, 90.0, 1.0, 4.5]


def save(path, values, dtype=np.float32):
    values = np.asarray(values, dtype)[:, None, None]
    nib.save(nib.freesurfer.MGHImage(values, np.eye(4)), path)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "lh.benson14_eccen.v4_0.mgz", LEFT)
    save(tmp_path / "rh.benson14_eccen.v4_0.mgz", RIGHT)
    save(tmp_path / "lh.benson14_varea.v4_0.mgz", [0, 1, 2, 3, 12, 0, 0])
    save(tmp_path / "rh.benson14_varea.v4_0.mgz", [4, 0, 1, 2, 9])
    return tmp_path


@pytest.mark.parametrize(
    ("bounds", "members"),
    [("0:4", [1, 2, 7, 10]), ("4:", [3, 4, 9, 11]), (":4", [1, 2, 6, 7, 10]), ("4:4.5", [3])],
)
def test_thresholds_make_rois_where_the_map_was_measured(folder, bounds, members):
    """0 and NaN are no measurement; the upper bound is left out."""
    one = MapROI.parse(f"fovea=benson14_eccen.v4_0:{bounds}")
    rois = read_rois(folder, atlases=[], maps=[one])
    assert list(rois) == ["fovea"] and np.flatnonzero(rois["fovea"]).tolist() == members


def test_maps_beside_the_areas_of_the_same_template(folder):
    maps = [MapROI.parse("periphery=benson14_eccen.v4_0:4:")]
    rois = read_rois(folder, atlases=["benson14_varea.v4_0"], maps=maps)
    found = {name: np.flatnonzero(mask).tolist() for name, mask in rois.items() if mask.any()}
    assert found == {
        "V1": [1, 9], "V2": [2, 10], "V3": [3], "hV4": [7], "TO1": [11], "V3a": [4],
        "periphery": [3, 4, 9, 11],
    }  # fmt: skip


def test_a_native_map_arrives_on_fsaverage(folder):
    """out[i] = values[transform[i] - 1], as for labels."""
    save(folder / "lh.white-to-fsaverage.mgz", [7, 3, 3, 1], np.int32)
    save(folder / "rh.white-to-fsaverage.mgz", [5, 4, 1], np.int32)
    one = MapROI.parse("near=benson14_eccen.v4_0::4")
    mask = read_rois(folder, folder, atlases=[], maps=[one])["near"]
    assert mask.tolist() == [True, True, True, False, False, True, True]


def test_a_map_of_the_name_of_an_roi_is_refused(folder):
    maps = [MapROI.parse("V1=benson14_eccen.v4_0:0:4")]
    with pytest.raises(InputError, match=r"'V1' is an ROI of benson14_varea\.v4_0 and of the map"):
        read_rois(folder, atlases=["benson14_varea.v4_0"], maps=maps)


@pytest.mark.parametrize(
    "text",
    ["fovea", "fovea=eccen", "fovea=eccen:0", "=eccen:0:4", "a=:0:4", "a=b:x:4", "a=b=c:0:1"],
)
def test_other_text_is_answered_with_the_form(text):
    with pytest.raises(InputError, match=r"expected NAME=FILE:LOW:HIGH, such as fovea=benson14"):
        MapROI.parse(text)


@pytest.mark.parametrize("bounds", ["4:0", "4:4", "nan:4", "0:nan"])
def test_bounds_that_leave_nothing_are_refused(bounds):
    with pytest.raises(InputError, match="which leaves nothing; give a lower bound below"):
        MapROI.parse(f"fovea=eccen:{bounds}")


def test_a_map_that_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"lh\.sigma\.mgz does not exist"):
        read_rois(folder, atlases=[], maps=[MapROI.parse("small=sigma:0:1")])


def test_an_roi_of_the_name_of_a_group_is_refused():
    """HCP-MMP1 has a V1; NSD's V1v and V1d are the group V1."""
    v1v, v1d, v1 = (np.arange(7) == i for i in (1, 2, 5))
    with pytest.raises(InputError, match="'V1' is an ROI by itself and the group of V1v, V1d"):
        group_rois({"V1v": v1v, "V1d": v1d, "V1": v1})
    np.testing.assert_array_equal(group_rois({"V1v": v1v, "V1d": v1d})["V1"], v1v | v1d)
    np.testing.assert_array_equal(group_rois({"V1": v1})["V1"], v1)
