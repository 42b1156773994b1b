"""What label files hold at vertices without label, and files that are none."""

import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.cortex import read_parcellation, read_rois
from neuroadapter_jax.cortex.label_formats import read_label_file
from neuroadapter_jax.cortex.label_tables import KNOWN_ATLASES
from neuroadapter_jax.cortex.schaefer import promised_parcels
from neuroadapter_jax.errors import InputError

GREATEST, LEAST = 2**31 - 1, -(2**31)


def write_mgz(path, values, dtype):
    values = np.asarray(values, dtype)[:, None, None]
    nib.save(nib.freesurfer.MGHImage(values, np.eye(4)), path)
    return path


def write_gifti(path, values, names):
    table = nib.gifti.GiftiLabelTable()
    for key, name in names.items():
        label = nib.gifti.GiftiLabel(key)
        label.label = name
        table.labels.append(label)
    array = nib.gifti.GiftiDataArray(np.asarray(values), intent="NIFTI_INTENT_LABEL")
    nib.save(nib.gifti.GiftiImage(labeltable=table, darrays=[array]), path)
    return path


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([2, np.nan, 1, 0, 2, np.nan, 1], np.float32),
        ([2, GREATEST, 1, 0, 2, -1, 1], np.int32),
        ([2, LEAST, 1, 0, 2, GREATEST, 1], np.int32),
        ([2, GREATEST, 1, 0, 2, -1, 1], np.float32),
    ],
)
def test_nan_and_the_ends_of_the_integers_are_no_label(tmp_path, values, dtype):
    (tmp_path / "atlas.mgz.ctab").write_text("0 Unknown\n1 V1\n2 V2\n")
    paths = [write_mgz(tmp_path / f"{h}.atlas.mgz", values, dtype) for h in ("lh", "rh")]
    write_mgz(paths[1], np.roll(values, 1), dtype)
    read = read_parcellation(*paths)
    assert [v.tolist() for v in read.vertices] == [[2, 6], [0, 4], [0, 3], [1, 5]]
    rois = read_rois(tmp_path, atlases=["atlas"])
    assert {n: np.flatnonzero(m).tolist() for n, m in rois.items()} == {
        "V1": [2, 6, 7, 10],
        "V2": [0, 4, 8, 12],
    }


def test_unlabelled_vertices_of_an_annot_may_carry_the_greatest_integer(tmp_path):
    pair = []
    for h, values in (("lh", [0, 1, 2, 2, 1]), ("rh", [1, 2, 0, 2, 1])):
        pair.append(tmp_path / f"{h}.annot")
        table = np.array([[9, 9, 9, 0, 0], [8, 7, 6, 0, 0], [5, 4, 3, 0, 0]])
        nib.freesurfer.write_annot(
            pair[-1], np.array(values), table, ["???", "V1", "V2"], fill_ctab=True
        )
        content = bytearray(pair[-1].read_bytes())
        stored = np.frombuffer(content, ">i4", count=11).copy()
        stored[2::2][np.array(values) == 0] = GREATEST  # [count, vertex 0, value 0, vertex 1, ...]
        content[: stored.nbytes] = stored.tobytes()
        pair[-1].write_bytes(content)
        assert GREATEST in nib.freesurfer.read_annot(pair[-1], orig_ids=True)[0]
    read = read_parcellation(*pair)
    assert [v.tolist() for v in read.vertices] == [[1, 4], [2, 3], [0, 4], [1, 3]]


def test_blanks_around_names_are_no_part_of_them(tmp_path):
    pair = [
        write_gifti(tmp_path / f"{h}.x.label.gii", values, {0: "unknown ", 1: " V1 ", 2: "V2  "})
        for h, values in (
            ("lh", np.array([0, 1, 2, 2], np.int32)),
            ("rh", np.array([1, 0, 2, 1], np.int32)),
        )
    ]
    assert read_parcellation(*pair).names == ("V1", "V2", "V1", "V2")
    write_gifti(pair[0], np.array([0, 1, 2], np.int32), {0: "unknown ", 1: "V1", 2: "V1 "})
    with pytest.raises(ValueError, match=r"gives 1 name.s. to more than one label, such as 'V1'"):
        read_parcellation(*pair)


def test_a_value_without_name_is_told_as_an_integer_with_its_vertices(tmp_path):
    (tmp_path / "atlas.ctab").write_text("1 V1\n")
    path = write_mgz(tmp_path / "lh.atlas.mgz", [1, 7, 7, 9, 7, 0], np.float32)
    with pytest.raises(InputError) as caught:
        read_label_file(path)
    assert str(caught.value) == (
        f"{path} uses the label value 7 at 3 vertices (2 such values, 4 vertices in all), which "
        f"atlas.ctab does not list; add its name, or make its vertices 0."
    )


def test_measurements_are_no_labels(tmp_path):
    (tmp_path / "map.ctab").write_text("1 V1\n")
    path = write_mgz(tmp_path / "lh.map.mgz", [0, 1, 2.5, 3.75, np.nan], np.float32)
    with pytest.raises(InputError, match=r"2\.5 at vertex 2, and no whole number at 2 of 5"):
        read_label_file(path)
    write_mgz(path, [0, np.inf, 1], np.float32)
    with pytest.raises(InputError, match=r"holds inf at vertex 1"):
        read_label_file(path)


def test_a_missing_table_is_described(tmp_path):
    path = write_mgz(tmp_path / "lh.atlas.mgz", [0, 1], np.int32)
    with pytest.raises(InputError) as caught:
        read_label_file(path)
    sentence = str(caught.value)
    assert "lh.atlas.mgz.ctab, lh.atlas.ctab, atlas.mgz.ctab, atlas.ctab" in sentence
    assert "a label's number and name in each line, such as '1 V1v'" in sentence


def test_a_table_beside_the_file_counts_more_than_the_known_one(tmp_path):
    path = write_mgz(tmp_path / "lh.wang15_mplbl.mgz", [0, 1, 25], np.int32)
    assert read_label_file(path).regions() == {1: "V1v", 25: "FEF"}
    (tmp_path / "wang15_mplbl.ctab").write_text("1 one\n25 two\n")
    assert read_label_file(path).regions() == {1: "one", 25: "two"}


def test_known_tables_have_their_published_lengths_and_no_name_twice():
    lengths = {atlas: len(names) for atlas, names in KNOWN_ATLASES.items()}
    assert lengths == {"wang15_mplbl": 25, "glasser16_atlas": 180, "benson14_varea": 12}
    for names in KNOWN_ATLASES.values():
        assert len(set(names)) == len(names)
    hcp = KNOWN_ATLASES["glasser16_atlas"]
    assert (hcp[0], hcp[17], hcp[119], hcp[179]) == ("V1", "FFC", "H", "p24")


@pytest.mark.parametrize(
    ("name", "parcels"),
    [
        ("lh.Schaefer2018_1000Parcels_7Networks_order.annot", 500),
        ("lh.Schaefer2018_200Parcels_Kong2022_17Networks_order.annot", 100),
        ("tpl-fsaverage_hemi-L_atlas-Schaefer2018_seg-7n_scale-1000.annot", 500),
        ("tpl-fsaverage_hemi-L_den-164k_atlas-Schaefer2018_seg-kong17n_scale-300_dseg.annot", 150),
        ("tpl-fsaverage_hemi-R_atlas-Schaefer2018_desc-100Parcels7Networks_dseg.label.gii", 50),
        ("tpl-fsaverage_hemi-L_atlas-Yeo2011_seg-7n.annot", None),
        ("lh.HCP_MMP1.annot", None),
    ],
)
def test_parcels_that_names_promise(name, parcels):
    assert promised_parcels(name) == parcels


@pytest.mark.parametrize("hemisphere", ["L", "R"])
def test_templateflow_names_promise_their_parcels(tmp_path, hemisphere):
    name = "tpl-fsaverage_hemi-{}_atlas-Schaefer2018_seg-7n_scale-6.label.gii"
    pair = {}
    for h, count in (("L", 3), ("R", 3)):
        names = {i: f"7Networks_{h}H_Vis_{i}" for i in range(1, count + 1)}
        values = np.array([0, 1, 2, 3, 1] if h == "L" else [3, 1, 1, 0, 2], np.int32)
        pair[h] = write_gifti(tmp_path / name.format(h), values, {0: "???", **names})
    read = read_parcellation(pair["L"], pair["R"])
    assert len(read) == 6 and read.atlas.version.startswith("names ")
    assert read.atlas.name == "tpl-fsaverage_atlas-Schaefer2018_seg-7n_scale-6"
    image = nib.load(pair[hemisphere])
    image.darrays[0].data[image.darrays[0].data == 3] = 2
    nib.save(image, pair[hemisphere])
    cbig = f"{hemisphere.lower()}h.Schaefer2018_6Parcels_7Networks_order.annot"
    with pytest.raises(ValueError, match=f"labels 2 parcels, .* promises 3 .* take {cbig} from"):
        read_parcellation(pair["L"], pair["R"])


@pytest.mark.parametrize("name", ["lh.x.annot", "lh.x.label.gii", "lh.x.mgz", "lh.x.mgh"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>Log in</html>", "is a web page"),
        (b"\x00\x00\x00\x05" * 9, "(is damaged, cut short or of another format|is truncated)"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    (tmp_path / "x.ctab").write_text("1 V1\n")
    with pytest.raises(InputError, match=f"{name}.*{said}") as caught:
        read_label_file(path)
    assert "\n" not in str(caught.value)


def test_truncated_files_are_refused(tmp_path):
    annot = tmp_path / "lh.x.annot"
    table = np.array([[9, 9, 9, 0, 0], [8, 7, 6, 0, 0]])
    nib.freesurfer.write_annot(annot, np.arange(31) % 2, table, ["???", "V1"], fill_ctab=True)
    (tmp_path / "x.ctab").write_text("1 V1\n")
    others = [
        write_mgz(tmp_path / "lh.x.mgz", np.arange(997) % 2, np.int32),
        write_gifti(tmp_path / "lh.x.gii", (np.arange(31) % 2).astype(np.int32), {1: "V1"}),
    ]
    for path in [annot, *others]:
        whole = path.read_bytes()
        read_label_file(path)
        for share in (0.2, 0.5, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(InputError, match=path.name):
                read_label_file(path)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    path = write_mgz(tmp_path / "lh.atlas.mgz", [0, 1], np.int32)
    (tmp_path / "atlas.ctab").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"atlas\.ctab: is damaged"):
        read_label_file(path)
