import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets

from neuroadapter_jax.cortex import read_parcellation, read_rois
from neuroadapter_jax.cortex.label_names import (
    hemisphere_of_file,
    hemisphere_of_regions,
    is_background,
)

FSAVERAGE5 = 10_242


@pytest.mark.parametrize(
    "name",
    [
        "FreeSurfer_Defined_Medial_Wall", "Background+FreeSurfer_Defined_Medial_Wall",
        "ctx-lh-unknown", "lh.unknown", "unknown_part1", "unknown ", "MEDIAL.WALL", "Medial_wall_2",
        "L_Medial_wall_ROI", "medialwall", "L_???", "???", "NONAME", "unassigned", "None",
        "corpuscallosum",
    ],
)  # fmt: skip
def test_names_of_the_medial_wall_and_of_no_region(name):
    assert is_background(name)


@pytest.mark.parametrize(
    "name",
    [
        "H", "L_H_ROI",  # HCP-MMP1's hippocampus
        "L_None_1",  # Gordon's network None
        "Unknown_cortex_1", "unknown_2", "medial_wall_motor", "medialorbitofrontal",
        "7Networks_LH_Vis_1", "V1v", "0", "23", "R_1", "L",
    ],
)  # fmt: skip
def test_names_of_regions(name):
    assert not is_background(name)


@pytest.mark.parametrize(
    ("name", "hemisphere"),
    [
        ("lh.aparc.annot", "lh"), ("rh.aparc.annot", "rh"), ("fsa5_rh_schaefer_100.annot", "rh"),
        ("tpl-fsaverage_hemi-L_atlas-x.annot", "lh"), ("x_hemi-R.annot", "rh"),
        ("conte69_lh.label.gii", "lh"), ("x.32k_fs_LR.R.label.gii", "rh"), ("L.x.label.gii", "lh"),
        ("LEFT_atlas.annot", "lh"), ("atlas.annot", None), ("lh.left-right.annot", None),
        ("atlas_R2.annot", None),
    ],
)  # fmt: skip
def test_the_hemisphere_that_a_file_name_tells(name, hemisphere):
    assert hemisphere_of_file(name) == hemisphere


@pytest.mark.parametrize(
    ("names", "hemisphere"),
    [
        (["7Networks_LH_Vis_1", "7Networks_LH_Vis_2"], "lh"),
        (["17networks_rh_VisualA_1"], "rh"),
        (["L_V1_ROI", "L_V2_ROI", "other"], "lh"),
        (["r_v1", "r_v2"], "rh"),
        (["A8m_L", "A8dl_L"], "lh"),
        (["ctx-rh-cuneus"], "rh"), (["rh.cuneus"], "rh"), (["lh-cuneus"], "lh"),
        (["V1", "V2"], None), (["R", "L"], None), (["L_V1", "R_V1"], None), ([], None),
    ],
)  # fmt: skip
def test_the_hemisphere_that_region_names_tell(names, hemisphere):
    assert hemisphere_of_regions(names) == hemisphere


# ---- label files of exchanged hemispheres


def write_annot(path, values, names):
    table = np.zeros((len(names), 5), int)
    table[:, 0] = np.arange(1, len(names) + 1) * 9
    nib.freesurfer.write_annot(path, np.asarray(values), table, names, fill_ctab=True)
    return path


def write_gifti(path, values, names, structure=None):
    """As `wb_command -cifti-separate` writes it: the names of both hemispheres in both files."""
    table = nib.gifti.GiftiLabelTable()
    for key, name in enumerate(names):
        label = nib.gifti.GiftiLabel(key)
        label.label = name
        table.labels.append(label)
    array = nib.gifti.GiftiDataArray(np.asarray(values, np.int32), intent="NIFTI_INTENT_LABEL")
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure} if structure else {})
    nib.save(nib.gifti.GiftiImage(meta=meta, labeltable=table, darrays=[array]), path)
    return path


LEFT, RIGHT = [0, 1, 2, 2, 1], [1, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("files", "names", "said"),
    [
        (("a1.annot", "a2.annot"), "{}_V{}_ROI", "it names parcels of the other hemisphere"),
        (("a1.annot", "a2.annot"), "ctx-{}h-v{}", "it names parcels of the other hemisphere"),
        (("x_hemi-L.annot", "x_hemi-R.annot"), "V{1}", "its name tells the other hemisphere"),
        (("x.L.annot", "x.R.annot"), "V{1}", "its name tells the other hemisphere"),
        (("lh.x.annot", "rh.x.annot"), "V{1}", "its name tells the other hemisphere"),
    ],
)
def test_exchanged_files_are_refused_by_what_tells_it(tmp_path, files, names, said):
    paths = [
        write_annot(tmp_path / file, values, ["unknown", *(names.format(side, i) for i in (1, 2))])
        for file, values, side in zip(files, (LEFT, RIGHT), "lr", strict=True)
    ]
    assert len(read_parcellation(*paths)) == 4
    with pytest.raises(ValueError) as caught:
        read_parcellation(*paths[::-1])
    assert f"{paths[1]} was given for lh, but {said}" in str(caught.value)
    assert str(caught.value).endswith("give the left file first, then the right one.")


def test_names_of_regions_count_more_than_the_name_of_the_file(tmp_path):
    paths = [
        write_annot(tmp_path / f"{file}.annot", values, ["???", f"{side}_V1", f"{side}_V2"])
        for file, values, side in (("rh", LEFT, "L"), ("lh", RIGHT, "R"))
    ]
    assert read_parcellation(*paths).names == ("L_V1", "L_V2", "R_V1", "R_V2")


def test_a_gifti_file_tells_its_hemisphere(tmp_path):
    paths = [
        write_gifti(tmp_path / f"{name}.label.gii", values, ["???", "V1", "V2"], structure)
        for name, values, structure in (("a", LEFT, "CortexLeft"), ("b", RIGHT, "CortexRight"))
    ]
    assert len(read_parcellation(*paths)) == 4
    with pytest.raises(ValueError, match="it says that it is the cortex of the other hemisphere"):
        read_parcellation(*paths[::-1])


def test_only_labels_in_use_tell_the_hemisphere_of_a_table_of_both(tmp_path):
    names = ["???", "L_V1", "L_V2", "R_V1", "R_V2"]
    right = np.where(np.array(RIGHT) > 0, np.array(RIGHT) + 2, 0)
    paths = [
        write_gifti(tmp_path / "a.label.gii", LEFT, names),
        write_gifti(tmp_path / "b.label.gii", right, names),
    ]
    assert read_parcellation(*paths).names == ("L_V1", "L_V2", "R_V1", "R_V2")
    with pytest.raises(ValueError, match="given for lh, but it names parcels of the other"):
        read_parcellation(*paths[::-1])


# ---- the medial wall of the mesh


@pytest.fixture(scope="module")
def cortex():
    """Label 1 or 2 where the average cortex is at least 1 mm thick, else 0."""
    thickness = datasets.load_fsaverage_data(mesh="fsaverage5", data_type="thickness").data.parts
    half = np.arange(FSAVERAGE5) % 2 + 1
    return {h: np.where(thickness[s] > 1, half, 0) for h, s in (("lh", "left"), ("rh", "right"))}


def write_mgz(path, values):
    nib.save(nib.freesurfer.MGHImage(np.asarray(values)[:, None, None], None), path)
    return path


@pytest.mark.parametrize("stretch", [1, 4, 16], ids=["fsaverage5", "fsaverage6", "fsaverage"])
def test_the_wall_tells_exchanged_files(tmp_path, cortex, stretch):
    """fsaverage5's vertices are the first of the finer meshes."""
    n = {1: FSAVERAGE5, 4: 40_962, 16: 163_842}[stretch]
    values = {h: np.pad(v, (0, n - FSAVERAGE5), constant_values=1) for h, v in cortex.items()}
    (tmp_path / "numbers.ctab").write_text("1 1\n2 2\n")
    right = [write_mgz(tmp_path / f"{h}.numbers.mgz", values[h].astype(np.int32)) for h in values]
    assert len(read_parcellation(*right)) == 4
    assert list(read_rois(tmp_path, atlases=["numbers"])) == ["1", "2"]
    for h, other in (("lh", "rh"), ("rh", "lh")):
        write_mgz(tmp_path / f"{h}.numbers.mgz", values[other].astype(np.int32))
    said = r"lh.numbers.mgz was given for lh, but its regions cover 100% of .* wall and \d+% of"
    with pytest.raises(ValueError, match=said):
        read_parcellation(*right)
    with pytest.raises(ValueError, match=said):
        read_rois(tmp_path, atlases=["numbers"])


def test_a_region_in_the_wall_is_warned_of(tmp_path, cortex):
    (tmp_path / "numbers.ctab").write_text("1 1\n2 2\n3 3\n")
    filled = {h: np.where(v == 0, 3, v).astype(np.int32) for h, v in cortex.items()}
    paths = [write_mgz(tmp_path / f"{h}.numbers.mgz", filled[h]) for h in ("lh", "rh")]
    count = [int((filled[h] == 3).sum()) for h in ("lh", "rh")]
    with pytest.warns(UserWarning, match="lies in the medial wall") as caught:
        assert len(read_parcellation(*paths)) == 6
    assert len(caught) == 2
    for one, path, h, n in zip(caught, paths, ("lh", "rh"), count, strict=True):
        assert str(one.message).startswith(f"{path}: the region '3' ({h}, {n} vertices) lies")
