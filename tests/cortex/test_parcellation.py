import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.cortex.label_files import read_parcellation, write_annot
from neuroadapter_jax.cortex.label_names import is_background
from neuroadapter_jax.cortex.label_tables import read_label_table
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.sphere import parcellate_sphere
from neuroadapter_jax.errors import InputError

LABELS = {
    "lh": np.array([2, -1, 0, 0, 2, 1, -1, 0, 1, 2, 2], dtype=np.int32),
    "rh": np.array([1, 1, -1, 0, 0, 0, -1], dtype=np.int32),
}
NAMES = {"lh": ["a_LH", "b_LH", "c_LH"], "rh": ["a_RH", "b_RH"]}


def write_gii(path, labels, names):
    table = nib.gifti.GiftiLabelTable()
    for key, name in [(0, "???"), *((i + 1, n) for i, n in enumerate(names))]:
        label = nib.gifti.GiftiLabel(key, 0.1, 0.2, 0.3, 1.0)
        label.label = name
        table.labels.append(label)
    values = np.where(labels == 4, -1, labels + 1).astype(np.int32)
    array = nib.gifti.GiftiDataArray(values, intent="NIFTI_INTENT_LABEL")
    nib.save(nib.gifti.GiftiImage(labeltable=table, darrays=[array]), path)


def write_mgz(path, labels, names):
    values = labels.reshape(-1, 1, 1).astype(np.int32)
    nib.save(nib.freesurfer.MGHImage(values, np.eye(4)), path)
    # The background is -1 here: a value that the table does not list.
    lines = [f"{i} {n} 10 20 30 0" for i, n in enumerate(names)]
    path.with_name(path.name + ".ctab").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("suffix", "write"), [("annot", write_annot), ("label.gii", write_gii), ("mgz", write_mgz)]
)
def test_readers_agree_on_regions_and_leave_the_background_out(tmp_path, suffix, write):
    paths = {h: tmp_path / f"{h}.atlas.{suffix}" for h in LABELS}
    for h, path in paths.items():
        write(path, LABELS[h], NAMES[h])
    read = read_parcellation(paths["lh"], paths["rh"], num_vertices=(11, 7))
    assert read.names == ("a_LH", "b_LH", "c_LH", "a_RH", "b_RH")
    assert read.hemispheres == ("lh",) * 3 + ("rh",) * 2
    assert [v.tolist() for v in read.vertices] == [
        [2, 3, 7], [5, 8], [0, 4, 9, 10], [3, 4, 5], [0, 1],
    ]  # fmt: skip
    assert read.num_vertices == (11, 7)
    assert all(v.dtype == np.dtype(np.int32) and v.dtype.isnative for v in read.vertices)
    assert read.cortex_indices(3).tolist() == [14, 15, 16]


def test_written_annot_has_unique_colours_for_nibabel(tmp_path):
    names = [f"region_{i}" for i in range(997)]
    labels = np.random.default_rng(0).permutation(np.arange(2003) % 998 - 1).astype(np.int32)
    write_annot(tmp_path / "lh.many.annot", labels, names)
    values, table, read_names = nib.freesurfer.read_annot(tmp_path / "lh.many.annot")
    assert len({tuple(row) for row in table[:, :3]}) == 998
    assert (table[:, :3].sum(axis=1) > 0).all()
    np.testing.assert_array_equal(values, labels + 1)
    assert [n.decode() for n in read_names[1:]] == names
    assert [p.name for p in tmp_path.iterdir()] == ["lh.many.annot"]


def annot_of(path, values, table, names):
    nib.freesurfer.write_annot(path, np.array(values), np.array(table), names, fill_ctab=True)
    return path


def test_black_background_of_an_annot_is_left_out(tmp_path):
    table = [[0, 0, 0, 0, 0], [1, 2, 3, 0, 0]]
    names = ["Medial_wall", "one"]
    path = annot_of(tmp_path / "lh.annot", [0, 1, 0, 1, 1], table, names)
    right = annot_of(tmp_path / "rh.annot", [1, 1, 0, 1, 1], table, names)
    read = read_parcellation(path, right)
    assert read.names == ("one", "one") and read.vertices[0].tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("table", "names", "said"),
    [
        ([[9, 9, 9, 0, 0], [7, 5, 3, 0, 0], [7, 5, 3, 0, 0]], ["unknown", "x", "y"], "same colour"),
        ([[9, 9, 9, 0, 0], [0, 0, 0, 0, 0], [7, 5, 3, 0, 0]], ["unknown", "x", "y"], r"\(0, 0, 0"),
    ],
)
def test_ambiguous_colours_are_refused(tmp_path, table, names, said):
    path = annot_of(tmp_path / "lh.annot", [0, 1, 2, 2, 1], table, names)
    with pytest.raises(ValueError, match=said):
        read_parcellation(path, path)


def test_wrong_input_is_answered_with_a_sentence(tmp_path):
    for h in LABELS:
        write_annot(tmp_path / f"{h}.annot", LABELS[h], NAMES[h])
        write_mgz(tmp_path / f"{h}.mgz", LABELS[h], NAMES[h])
    lh, rh = tmp_path / "lh.annot", tmp_path / "rh.annot"
    with pytest.raises(ValueError, match="labels 7 vertices, but the rh surface has 11"):
        read_parcellation(lh, rh, num_vertices=(11, 11))
    with pytest.raises(FileNotFoundError, match=r"missing\.annot does not exist"):
        read_parcellation(lh, tmp_path / "missing.annot")
    with pytest.raises(ValueError, match="not a parcellation this reads"):
        read_parcellation(tmp_path / "lh.mgz.ctab", rh)
    (tmp_path / "rh.mgz.ctab").write_text("0 a_RH\n")
    with pytest.raises(ValueError, match="label value 1"):
        read_parcellation(tmp_path / "lh.mgz", tmp_path / "rh.mgz")
    (tmp_path / "rh.mgz.ctab").unlink()
    with pytest.raises(FileNotFoundError, match="no table of label names"):
        read_parcellation(tmp_path / "lh.mgz", tmp_path / "rh.mgz")
    with pytest.raises(ValueError, match="there are 2 names"):
        write_annot(tmp_path / "new.annot", LABELS["lh"], ["x", "y"])
    with pytest.raises(ValueError, match="between 0 and 4"):
        Parcellation(("x",), ("lh",), (np.array([1, 5], np.int32),), (5, 9))


def test_table_may_leave_the_hemisphere_out_of_its_name(tmp_path):
    for h in LABELS:
        write_mgz(tmp_path / f"{h}.atlas.mgz", np.roll(LABELS["lh"], h == "rh"), ["a", "b", "c"])
        (tmp_path / f"{h}.atlas.mgz.ctab").rename(tmp_path / "atlas.mgz.ctab")
    assert len(read_parcellation(tmp_path / "lh.atlas.mgz", tmp_path / "rh.atlas.mgz")) == 6
    assert read_label_table(tmp_path / "atlas.mgz.ctab") == {0: "a", 1: "b", 2: "c"}


def test_background_names():
    background = ["Background+FreeSurfer_Defined_Medial_Wall", "Medial_wall", "Unknown", "???"]
    assert all(is_background(n) for n in background)
    assert not any(is_background(n) for n in ["V1v", "7Networks_LH_Vis_1", "0"])


def test_save_and_load_without_pickle(tmp_path):
    sets = ([3, 8], [0], [1, 2, 4, 6])
    vertices = tuple(np.array(v, np.int32) for v in sets)
    parcels = Parcellation(("x", "ü y", "z"), ("rh", "lh", "rh"), vertices, (5, 11))
    parcels.save(tmp_path / "parcels.npz")
    again = Parcellation.load(tmp_path / "parcels.npz")
    assert again.names == parcels.names and again.hemispheres == parcels.hemispheres
    assert [v.tolist() for v in again.vertices] == list(sets)
    assert again.num_vertices == (5, 11)
    assert again.fingerprint() == parcels.fingerprint()
    assert parcels.subset([0, 1]).fingerprint() != parcels.subset([1, 0]).fingerprint()
    np.savez(tmp_path / "other.npz", names=np.array(["x"]))
    with pytest.raises(ValueError, match="lacks"):
        Parcellation.load(tmp_path / "other.npz")


def fibonacci_sphere(n):
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    r = np.sqrt(1 - z**2)
    return 100 * np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)


def test_sphere_regions_are_even_compact_and_reproducible():
    coords = fibonacci_sphere(2011)
    mask = coords[:, 2] > -60
    labels = parcellate_sphere(coords, 53, mask, seed=5)
    np.testing.assert_array_equal(labels == -1, ~mask)
    sizes = np.bincount(labels[mask], minlength=53)
    mean = mask.sum() / 53
    assert sizes.min() > 0.5 * mean and sizes.max() < 1.6 * mean
    # A disc of the mean area has this radius; a compact cell reaches not much further.
    radius = 100 * np.arccos(1 - 2 * mean / 2011)
    for k in range(53):
        cell = coords[labels == k]
        assert np.linalg.norm(cell - cell.mean(axis=0), axis=1).max() < 1.9 * radius
    np.testing.assert_array_equal(labels, parcellate_sphere(coords, 53, mask, seed=5))
    assert (labels != parcellate_sphere(coords, 53, mask, seed=6)).any()
    assert sorted(parcellate_sphere(coords[:7], 7)) == list(range(7))
    with pytest.raises(ValueError, match="7 vertices into 11 regions"):
        parcellate_sphere(coords[:7], 11)


def test_label_maps_become_regions_of_both_hemispheres():
    regions = Parcellation.from_labels(LABELS["lh"], LABELS["rh"])
    assert regions.names == ("LH_000", "LH_001", "LH_002", "RH_000", "RH_001")
    assert regions.num_vertices == (11, 7)
    assert [v.tolist() for v in regions.vertices] == [
        [2, 3, 7], [5, 8], [0, 4, 9, 10], [3, 4, 5], [0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("labels", [np.zeros(5), np.zeros((5, 2), int)])
def test_labels_that_are_not_a_whole_number_per_vertex_are_refused(as_user, labels):
    with pytest.raises(InputError, match=r"labels of rh are .* whole number per vertex"):
        Parcellation.from_labels(LABELS["lh"], labels)


def test_a_number_per_region_is_spread_over_its_vertices():
    regions = Parcellation.from_labels(np.array([0, -1, 0]), np.array([-1, 3]))
    found = regions.on_vertices(np.array([0.25, 0.75]))
    np.testing.assert_array_equal(found, [0.25, np.nan, 0.25, np.nan, 0.75])
