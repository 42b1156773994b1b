"""Files in the form of CBIG's Schaefer parcellations, at the vertex counts of fsaverage.

Written by nibabel: 500 parcels a hemisphere after the medial wall, one colour each.
"""

import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.cortex import Parcellation, match_regions, read_parcellation
from neuroadapter_jax.cortex.selection import region_snr, select_regions

N, PARCELS, WALL = 163_842, 500, 13_966
COUNTS = (N, N)
RNG = np.random.default_rng(11)
BACKGROUND = "Background+FreeSurfer_Defined_Medial_Wall"


def hemisphere_labels():
    """Parcel 1 to 500 of each vertex, 0 on the medial wall: runs of 60 to 812 vertices."""
    sizes = 60 + RNG.multinomial(N - WALL - 60 * PARCELS, np.full(PARCELS, 1 / PARCELS))
    labels = np.concatenate([np.zeros(WALL, int), np.repeat(np.arange(1, PARCELS + 1), sizes)])
    return np.roll(labels, int(RNG.integers(N)))


LABELS = {"lh": hemisphere_labels(), "rh": hemisphere_labels()}
# The order of the 17-network file in terms of the 7-network file's.
ORDER = {h: RNG.permutation(PARCELS) for h in LABELS}


def parcel_names(hemisphere, networks, limbic="LimbicA"):
    """Numbers restart in each hemisphere; a name says nothing of the vertices."""
    network = "Vis" if networks == 7 else limbic
    return [f"{networks}Networks_{hemisphere.upper()}_{network}_{k + 1}" for k in range(PARCELS)]


def write(path, labels, names, colours=None):
    colours = np.arange(1, len(names) + 2) * 29 if colours is None else colours
    table = np.zeros((len(names) + 1, 5), int)
    table[:, 0], table[:, 1] = colours % 256, colours // 256
    nib.freesurfer.write_annot(path, labels, table, [BACKGROUND, *names], fill_ctab=True)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{networks: (left, right)}: the same parcels, in two orders and under two sets of names."""
    folder = tmp_path_factory.mktemp("label")
    paths = {}
    for networks in (7, 17):
        pair = []
        for h, labels in LABELS.items():
            place = np.concatenate([[0], np.argsort(ORDER[h]) + 1])  # ORDER[k] stands at k
            renumbered = labels if networks == 7 else place[labels]
            path = folder / f"{h}.Schaefer2018_1000Parcels_{networks}Networks_order.annot"
            pair.append(write(path, renumbered, parcel_names(h, networks)))
        paths[networks] = tuple(pair)
    return paths


@pytest.fixture(scope="module")
def seven(files):
    return read_parcellation(*files[7], COUNTS)


@pytest.fixture(scope="module")
def seventeen(files):
    return read_parcellation(*files[17], COUNTS)


def test_the_sets_are_those_of_the_labels(seven):
    assert len(seven) == 2 * PARCELS
    for i, (h, vertices) in enumerate(zip(seven.hemispheres, seven.vertices, strict=True)):
        np.testing.assert_array_equal(vertices, np.flatnonzero(LABELS[h] == i % PARCELS + 1))
    held = sum(map(len, seven.vertices))
    assert held == 2 * (N - WALL)  # the medial wall, known by its name, is in no region


def test_the_medial_wall_may_be_minus_one(files, seven, tmp_path):
    """nibabel gives -1 for a vertex whose stored colour no entry has: 0, say."""
    pair = []
    for h, path in zip(LABELS, files[7], strict=True):
        values, table, names = nib.freesurfer.read_annot(path)
        table[0, :3] = 0
        pair.append(tmp_path / f"{h}.black.annot")
        nib.freesurfer.write_annot(pair[-1], values, table[:, :4], names, fill_ctab=True)
        assert (nib.freesurfer.read_annot(pair[-1])[0] == -1).sum() == WALL
    read = read_parcellation(*pair, COUNTS)
    assert read.vertex_fingerprint() == seven.vertex_fingerprint()


# ---- a region is its vertices, not its index and not its name


def test_seven_and_seventeen_networks_are_the_same_parcels(seven, seventeen):
    assert seven.atlas.name == "Schaefer2018_1000Parcels_7Networks_order"
    assert seven.atlas.vertices == seventeen.atlas.vertices
    assert seven.fingerprint() != seventeen.fingerprint()
    found = match_regions(seven, seventeen)
    # What a match by index would have given is wrong for all but a handful.
    assert (found == np.arange(len(seven))).sum() < 10
    for i, j in enumerate(found):
        assert seven.hemispheres[i] == seventeen.hemispheres[j]
        np.testing.assert_array_equal(seven.vertices[i], seventeen.vertices[j])
    inverse = {h: np.argsort(order) for h, order in ORDER.items()}
    np.testing.assert_array_equal(found[:PARCELS], inverse["lh"])
    np.testing.assert_array_equal(found[PARCELS:], inverse["rh"] + PARCELS)


def test_the_choice_of_regions_does_not_depend_on_the_file(seven, seventeen):
    ncsnr = RNG.gamma(2.0, 0.2, 2 * N).astype(np.float32)
    one, other = (select_regions(each, ncsnr, 200) for each in (seven, seventeen))
    assert [v.tolist() for v in one.vertices] == [v.tolist() for v in other.vertices]
    assert one.names != other.names
    assert one.atlas == seven.atlas


def test_another_parcellation_is_refused_by_name(seven, seventeen, tmp_path):
    chosen = seven.subset([3, 700, 11])
    chosen.save(tmp_path / "regions.npz")
    kept = Parcellation.load(tmp_path / "regions.npz")
    assert kept.atlas == seven.atlas
    moved = seventeen.vertices[match_regions(chosen, seventeen)[1]] + np.int32(0)
    moved[-1] = moved[-1] + 1 if moved[-1] + 1 < N else moved[0] - 1
    vertices = list(seventeen.vertices)
    vertices[match_regions(chosen, seventeen)[1]] = np.sort(moved)
    other = Parcellation(
        seventeen.names, seventeen.hemispheres, tuple(vertices), COUNTS, seventeen.atlas
    )
    with pytest.raises(ValueError) as caught:
        match_regions(kept, other, "rh.file.annot")
    sentence = str(caught.value)
    assert "rh.file.annot (Schaefer2018_1000Parcels_17Networks_order" in sentence
    assert "another parcellation" in sentence and "lacks 1 of 3 of them" in sentence
    assert repr(seven.names[700]) in sentence
    with pytest.raises(ValueError, match=r"of 11 \+ 7 vertices, the regions of 163842 \+ 163842"):
        small = Parcellation(("x",), ("lh",), (np.arange(3, dtype=np.int32),), (11, 7))
        match_regions(kept, small)


@pytest.mark.parametrize(
    ("networks", "limbic", "version"),
    [(17, "Limbic", "names before CBIG"), (17, "LimbicB", "names since CBIG"), (7, "", "names ")],
)
def test_the_renaming_of_2019_is_told_from_the_names(tmp_path, networks, limbic, version):
    pair = [
        write(
            tmp_path / f"{h}.Schaefer2018_1000Parcels_{networks}Networks_order.annot",
            labels,
            parcel_names(h, networks, limbic),
        )
        for h, labels in LABELS.items()
    ]
    assert read_parcellation(*pair).atlas.version.startswith(version)


# ---- the left hemisphere's parcels for both


def test_one_hemisphere_for_both_is_refused_unless_asked_for(files, seven, tmp_path):
    lh, rh = files[7]
    with pytest.raises(ValueError, match=r"given for rh, but it names parcels of the other"):
        read_parcellation(lh, lh, COUNTS)
    with pytest.raises(ValueError, match=r"given for lh, but it names parcels of the other"):
        read_parcellation(rh, lh, COUNTS)
    # The same sets under the right hemisphere's names: what the released files amount to.
    copy = write(tmp_path / rh.name, LABELS["lh"], parcel_names("rh", 7))
    with pytest.raises(ValueError, match=r"same vertex sets \(500 of 500 .*parcels='released'"):
        read_parcellation(lh, copy, COUNTS)

    released = read_parcellation(lh, tmp_path / "not opened", COUNTS, parcels="released")
    assert released.hemispheres == seven.hemispheres
    for i in range(PARCELS):
        np.testing.assert_array_equal(released.vertices[i], seven.vertices[i])
        np.testing.assert_array_equal(released.vertices[PARCELS + i], seven.vertices[i])
    # Its right regions read the right hemisphere's responses at the left's vertex numbers.
    ncsnr = RNG.gamma(2.0, 0.2, 2 * N).astype(np.float32)
    truth = [ncsnr[N:][LABELS["lh"] == k + 1].mean(dtype=np.float64) for k in range(PARCELS)]
    np.testing.assert_allclose(region_snr(released, ncsnr)[PARCELS:], truth, rtol=1e-6)
    # Neither stands for the other.
    with pytest.raises(ValueError, match="lacks 500 of 1000 of them"):
        match_regions(released, seven)


def test_another_word_for_parcels_is_refused(files, as_user):
    with pytest.raises(
        ValueError, match=r"parcels is .left.; expected one of \[.own., .released.\]"
    ):
        read_parcellation(*files[7], parcels="left")


# ---- labels that are not there


def test_merged_and_missing_parcels_are_refused(files, tmp_path):
    rh, name = files[7][1], files[7][0].name
    names = parcel_names("lh", 7)
    lost = np.where(LABELS["lh"] == 313, 314, LABELS["lh"])
    with pytest.raises(ValueError, match=r"labels 499 parcels, but its name promises 500"):
        read_parcellation(write(tmp_path / name, lost, names), rh)
    colours = np.arange(1, PARCELS + 2) * 29
    colours[313] = colours[312]
    with pytest.raises(ValueError, match=f"'{names[311]}' and '{names[312]}' the same colour"):
        read_parcellation(write(tmp_path / name, LABELS["lh"], names, colours), rh)
    twice = [*names[:5], names[4], *names[6:]]
    with pytest.raises(ValueError, match=f"1 name.s. to more than one label, such as '{names[4]}'"):
        read_parcellation(write(tmp_path / name, LABELS["lh"], twice), rh)


def test_another_mesh_and_a_missing_file_are_named(files, tmp_path):
    with pytest.raises(ValueError, match=r"163842 vertices \(fsaverage\).*10242 \(fsaverage5\)"):
        read_parcellation(*files[7], (10_242, 10_242))
    gone = tmp_path / "lh.Schaefer2018_200Parcels_17Networks_order.annot"
    with pytest.raises(FileNotFoundError) as caught:
        read_parcellation(gone, gone, (40_962, 40_962))
    assert f"{gone} does not exist" in str(caught.value)
    assert "ThomasYeoLab/CBIG" in str(caught.value)
    assert "FreeSurfer5.3/fsaverage6/label" in str(caught.value)


# ---- vertices without a number


def test_one_nan_vertex_costs_a_parcel_nothing_but_itself(seven):
    """subj01's right hemisphere has ten such vertices; a plain mean would lose their parcel."""
    ncsnr = RNG.gamma(2.0, 0.2, 2 * N).astype(np.float32)
    best = PARCELS + 7
    inside = seven.cortex_indices(best)
    ncsnr[inside] += 1
    ncsnr[inside[::17]] = np.nan
    with_nan = region_snr(seven, ncsnr)
    kept = np.delete(inside, np.s_[::17])
    np.testing.assert_allclose(with_nan[best], ncsnr[kept].mean(dtype=np.float64), rtol=1e-6)
    assert np.isfinite(with_nan).all()
    chosen = select_regions(seven, ncsnr, 20)
    assert chosen.names[10] == seven.names[best]
    np.testing.assert_array_equal(chosen.vertices[10], seven.vertices[best])
