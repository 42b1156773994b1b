import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.cortex.roi import group_rois, read_rois


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
    rois = read_rois(folders, folders, ["floc-places"])
    assert list(rois) == ["OPA", "PPA", "RSC"]
    assert np.flatnonzero(rois["OPA"]).tolist() == [1, 2, 7]
    assert not rois["PPA"].any()
    assert np.flatnonzero(rois["RSC"]).tolist() == [3, 5, 8]
    groups = group_rois(rois)
    assert list(groups) == ["Scene"]
    assert np.flatnonzero(groups["Scene"]).tolist() == [1, 2, 3, 5, 7, 8]


def test_misfit_of_labels_and_transform_is_refused(folders):
    save(folders / "rh.floc-places.mgz", [0, 1])
    with pytest.raises(ValueError, match=r"has 2 native vertices.*1 to 3"):
        read_rois(folders, folders, ["floc-places"])
    save(folders / "rh.white-to-fsaverage.mgz", [0, 1, 1, 1])
    with pytest.raises(ValueError, match="0 to 1"):
        read_rois(folders, folders, ["floc-places"])
    nib.save(
        nib.freesurfer.MGHImage(np.zeros((3, 2, 1), np.int32), np.eye(4)),
        folders / "lh.floc-places.mgz",
    )
    with pytest.raises(ValueError, match="expected one value per vertex"):
        read_rois(folders, folders, ["floc-places"])


# ---- the native surfaces of subject 1, and fsaverage

NATIVE, N = {"lh": 227_021, "rh": 226_601}, 163_842
NAMES = ("Unknown", "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A subject's folder at true vertex counts, and the labels that are in it."""
    folder = tmp_path_factory.mktemp("subject")
    rng = np.random.default_rng(5)
    labels, transforms = {}, {}
    for h, count in NATIVE.items():
        labels[h] = rng.integers(0, 8, count)
        # Not every native vertex is nearest to one of fsaverage's.
        transforms[h] = rng.permutation(rng.choice(count - 31, N, replace=False)) + 1
        transforms[h][7] = count - 31
        save(folder / f"{h}.white-to-fsaverage.mgz", transforms[h])
        save(folder / f"{h}.fsaverage-to-white.mgz", rng.integers(1, N + 1, count))
        save(folder / f"{h}.prf-visualrois.mgz", labels[h])
    table = "".join(f"{i} {name}\n" for i, name in enumerate(NAMES))
    (folder / "prf-visualrois.mgz.ctab").write_text(table)
    return folder, labels, transforms


def test_native_labels_of_true_size(subject):
    folder, labels, transforms = subject
    rois = read_rois(folder, folder, ["prf-visualrois"])
    assert list(rois) == list(NAMES[1:])
    for value, name in enumerate(NAMES[1:], start=1):
        for side, h in enumerate(NATIVE):
            half = rois[name][side * N : (side + 1) * N]
            # 1-based: with 0-based indices every label comes from the vertex beside.
            np.testing.assert_array_equal(half, labels[h][transforms[h] - 1] == value)


@pytest.fixture
def wrong(subject, tmp_path):
    """A copy of the subject's folder, to be damaged."""
    folder, labels, _ = subject
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def replace(hemisphere, values, reverse=True):
        path = tmp_path / f"{hemisphere}.prf-visualrois.mgz"
        path.unlink()
        save(path, values)
        for gone in tmp_path.glob("*.fsaverage-to-white.mgz") if not reverse else ():
            gone.unlink()
        return tmp_path

    return replace, labels


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize(
    ("hemisphere", "what"), [("lh", "stacked"), ("rh", "stacked"), ("lh", "rh"), ("rh", "lh")]
)
def test_labels_of_the_other_or_both_hemispheres(wrong, hemisphere, what, reverse):
    replace, labels = wrong
    both = np.concatenate([labels["lh"], labels["rh"]])
    values = both if what == "stacked" else labels[what]
    folder = replace(hemisphere, values, reverse)
    with pytest.raises(ValueError) as caught:
        read_rois(folder, folder, ["prf-visualrois"])
    sentence = str(caught.value)
    assert f"{hemisphere}.prf-visualrois.mgz has {len(values)} " in sentence
    if reverse:
        assert f"the native {hemisphere} surface has {NATIVE[hemisphere]} vertices" in sentence
        said = "both hemispheres stacked" if what == "stacked" else "that of the other hemisphere"
        assert said in sentence
    else:
        assert f"{NATIVE[hemisphere] - 31}" in sentence  # the last vertex of the transform


def test_a_value_without_a_name_and_a_roi_of_two_atlases(wrong):
    replace, labels = wrong
    folder = replace("rh", np.where(labels["rh"] == 7, 9, labels["rh"]))
    with pytest.raises(ValueError, match=r"rh.prf-visualrois.mgz uses the label value 9 .*ctab"):
        read_rois(folder, folder, ["prf-visualrois"])
    replace("rh", labels["rh"])
    for h in NATIVE:
        save(folder / f"{h}.Kastner2015.mgz", labels[h] % 3)
    (folder / "Kastner2015.mgz.ctab").write_text("0 Unknown\n1 V1v\n2 VO1\n")
    with pytest.raises(ValueError, match="'V1v' is an ROI of prf-visualrois and of Kastner2015"):
        read_rois(folder, folder, ["prf-visualrois", "Kastner2015"])


def test_labels_on_fsaverage(tmp_path):
    """Tables as FreeSurfer writes them: columns of colours, tabs and runs of spaces."""
    rng = np.random.default_rng(2)
    values = {h: rng.integers(-1, 3, N) for h in ("lh", "rh")}
    for h in values:
        save(tmp_path / f"{h}.streams.mgz", values[h])
    (tmp_path / "streams.mgz.ctab").write_text(
        "# streams\n0\tUnknown   0 0 0 0\n 1  early  25 100  40 0\n\n2 midventral 1 2 3 0\n"
    )
    rois = read_rois(tmp_path, atlases=["streams"])
    assert list(rois) == ["early", "midventral"]
    for value, name in ((1, "early"), (2, "midventral")):
        truth = np.concatenate([values["lh"], values["rh"]]) == value
        np.testing.assert_array_equal(rois[name], truth)
    save(tmp_path / "rh.streams.mgz", np.concatenate([values["lh"], values["rh"]]))
    with pytest.raises(ValueError, match="327684 values, those of both hemispheres of fsaverage"):
        read_rois(tmp_path, atlases=["streams"])


def test_numbers_of_names_may_differ_between_hemispheres(tmp_path):
    for h, table in (("lh", "1 OPA\n2 PPA\n"), ("rh", "1 PPA\n2 RSC\n")):
        save(tmp_path / f"{h}.places.mgz", [0, 1, 2])
        (tmp_path / f"{h}.places.mgz.ctab").write_text(table)
    rois = read_rois(tmp_path, atlases=["places"])
    found = {name: np.flatnonzero(mask).tolist() for name, mask in rois.items()}
    assert found == {"OPA": [1], "PPA": [2, 4], "RSC": [5]}


def test_an_atlas_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="prf-visualrois is among the atlases twice"):
        read_rois(tmp_path, atlases=("prf-visualrois", "wang15", "prf-visualrois"))
