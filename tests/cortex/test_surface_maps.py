import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from nilearn.surface import SurfaceImage

from neuroadapter_jax.cortex.surface_files import write_surface_maps

SIZES = (13, 17)


@pytest.fixture
def values(rng):
    found = rng.standard_normal(sum(SIZES))
    found[[2, 20]] = np.nan
    return found


def test_nibabel_reads_back_both_formats_value_by_value(values, tmp_path):
    files = write_surface_maps(tmp_path, "share", values, SIZES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)
    expected = np.split(np.where(np.isnan(values), 0, values).astype(np.float32), [13])
    for side, letter, structure, own in zip(
        ("lh", "rh"), "LR", ("CortexLeft", "CortexRight"), expected, strict=True
    ):
        mgh = nib.load(tmp_path / f"{side}.share.mgh")
        assert mgh.get_data_dtype() == np.dtype(">f4") and mgh.shape == (len(own), 1, 1)
        np.testing.assert_array_equal(mgh.get_fdata()[:, 0, 0], own.astype(float))
        gifti = nib.load(tmp_path / f"share_hemi-{letter}.shape.gii")
        assert gifti.meta["AnatomicalStructurePrimary"] == structure
        (array,) = gifti.darrays
        assert array.intent == nib.nifti1.intent_codes["NIFTI_INTENT_SHAPE"]
        np.testing.assert_array_equal(array.data, own)


def test_nilearn_opens_the_gifti_files_on_its_own_surface(rng, tmp_path):
    mesh = load_fsaverage("fsaverage5")["inflated"]
    values = rng.standard_normal(20_484).astype(np.float32)
    write_surface_maps(tmp_path, "share", values, (10_242, 10_242))
    data = {
        "left": tmp_path / "share_hemi-L.shape.gii",
        "right": tmp_path / "share_hemi-R.shape.gii",
    }
    image = SurfaceImage(mesh, data)
    for part, own in zip(("left", "right"), np.split(values, 2), strict=True):
        np.testing.assert_array_equal(image.data.parts[part].ravel(), own)


def test_other_values_and_names_are_refused(values, tmp_path, as_user):
    with pytest.raises(ValueError, match=r"values has the shape \(29,\); expected .* \(30,\)"):
        write_surface_maps(tmp_path, "share", values[1:], SIZES)
    for name in ("a b", "../a", "", ".a"):
        with pytest.raises(ValueError, match=r"name is .*; expected letters"):
            write_surface_maps(tmp_path, name, values, SIZES)
    assert not list(tmp_path.iterdir())
