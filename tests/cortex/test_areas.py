import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.cortex.areas import group_areas, read_areas


def save(path, values):
    image = nib.freesurfer.MGHImage(np.asarray(values, np.int32).reshape(-1, 1, 1), np.eye(4))
    nib.save(image, path)


@pytest.fixture
def folders(tmp_path):
    """Native surfaces of 5 and 3 vertices, fsaverage of 7 and 4."""
    save(tmp_path / "lh.white-to-fsaverage.mgz", [5, 1, 1, 3, 2, 4, 5])
    save(tmp_path / "rh.white-to-fsaverage.mgz", [3, 2, 1, 1])
    save(tmp_path / "lh.floc-places.mgz", [1, 0, 3, 3, -1])
    save(tmp_path / "rh.floc-places.mgz", [0, 3, 1])
    (tmp_path / "floc-places.mgz.ctab").write_text("0 Unknown\n1 OPA\n2 PPA\n3 RSC\n")
    return tmp_path


def test_native_labels_arrive_on_fsaverage(folders):
    areas = read_areas(folders, folders, ["floc-places"])
    assert list(areas) == ["OPA", "PPA", "RSC"]
    assert np.flatnonzero(areas["OPA"]).tolist() == [1, 2, 7]
    assert not areas["PPA"].any()
    assert np.flatnonzero(areas["RSC"]).tolist() == [3, 5, 8]
    groups = group_areas(areas)
    assert list(groups) == ["Scene"]
    assert np.flatnonzero(groups["Scene"]).tolist() == [1, 2, 3, 5, 7, 8]


def test_misfit_of_labels_and_transform_is_refused(folders):
    save(folders / "rh.floc-places.mgz", [0, 1])
    with pytest.raises(ValueError, match=r"has 2 native vertices.*1 to 3"):
        read_areas(folders, folders, ["floc-places"])
    save(folders / "rh.white-to-fsaverage.mgz", [0, 1, 1, 1])
    with pytest.raises(ValueError, match="0 to 1"):
        read_areas(folders, folders, ["floc-places"])
    nib.save(
        nib.freesurfer.MGHImage(np.zeros((3, 2, 1), np.int32), np.eye(4)),
        folders / "lh.floc-places.mgz",
    )
    with pytest.raises(ValueError, match="expected one value per vertex"):
        read_areas(folders, folders, ["floc-places"])
