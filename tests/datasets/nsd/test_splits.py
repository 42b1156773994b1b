"""Splits and checks on a design with the published numbers; the responses are a few vertices."""

import nibabel
import numpy as np
import published_nsd
import pytest
import scipy.io

from neuroadapter_jax.datasets.nsd.checks import (
    check_subject,
    nsdgeneral,
    refuse_differences,
    table_of,
)
from neuroadapter_jax.datasets.nsd.splits import split_images
from neuroadapter_jax.datasets.nsd.subject import NSDSubject


@pytest.fixture(scope="module")
def design():
    return published_nsd.make_design()


@pytest.fixture(scope="module")
def root(design, tmp_path_factory):
    return published_nsd.write_tree(tmp_path_factory.mktemp("nsd") / "root", design, (163_842, 7))


@pytest.fixture(scope="module")
def subject(root):
    return NSDSubject(root)


def sizes(splits):
    return tuple(len(splits[k]) for k in ("train", "validation", "test"))


def trials_of(design, sessions):
    return design.image_of[0][design.order[: sessions * 750]]


def test_special515(subject, design):
    splits = split_images(subject, "special515")
    assert sizes(splits) == (9000, 485, 515)
    # By its meaning: shown three times to the subjects with the fewest sessions, 4 and 8.
    of_four = design.image_of[3][design.order[: 30 * 750]].tolist()
    counts = {i: 0 for i in design.shared.tolist()}
    for image in of_four:
        if image in counts:
            counts[image] += 1
    assert set(splits["test"]) == {i for i, k in counts.items() if k == 3}
    assert set(splits["validation"]) | set(splits["test"]) == set(design.shared)


def test_shared1000(subject, design):
    splits = split_images(subject, "shared1000", num_validation=311, seed=4)
    assert sizes(splits) == (9000 - 311, 311, 1000)
    assert set(splits["test"]) == set(design.shared)
    again = split_images(subject, "shared", num_validation=311, seed=4)
    assert all(np.array_equal(splits[k], again[k]) for k in splits)
    other = split_images(subject, "shared1000", num_validation=311, seed=5)
    assert set(other["validation"]) != set(splits["validation"])


def test_shared982(root, design):
    splits = split_images(NSDSubject(root), "shared982", num_validation=100)
    early = set(trials_of(design, 37).tolist())
    assert set(splits["test"]) == set(design.shared) & early and len(splits["test"]) == 982
    assert sizes(splits) == (8900, 100, 982)  # 18 shared images are in no split
    of_37 = NSDSubject(root, sessions=range(1, 38))
    assert sizes(split_images(of_37, "shared982", num_validation=100)) == (8759, 100, 982)


def test_algonauts(subject, root, design):
    splits = split_images(subject, "algonauts", num_validation=53)
    late = {int(i) for i in trials_of(design, 40)[37 * 750 :]}
    assert set(splits["test"]) == late - set(trials_of(design, 37).tolist())
    assert sizes(splits) == (9841 - 53, 53, 159)
    with pytest.raises(ValueError, match="none of those is among the sessions in use"):
        split_images(NSDSubject(root, sessions=[1, 2, 37]), "algonauts")


@pytest.mark.parametrize("split", ["shared1000", "shared982", "special515", "algonauts"])
def test_each_image_is_in_one_split_at_most(subject, split):
    splits = split_images(subject, split, num_validation=17)
    ids = np.concatenate(list(splits.values()))
    assert len(ids) == len(set(ids.tolist()))
    assert all(np.all(np.diff(part) > 0) for part in splits.values())


def test_few_sessions(root, design):
    of_three = NSDSubject(root, sessions=[1, 2, 3])
    assert sizes(split_images(of_three, "special515"))[2] == len(
        set(trials_of(design, 3)) & set(split_images(NSDSubject(root), "special515")["test"])
    )
    with pytest.raises(ValueError, match="'shared515'; choose one of shared, shared1000"):
        split_images(of_three, "shared515")


def test_a_subject_with_30_sessions(root, design, tmp_path):
    """The responses list 30 sessions, so nothing after the 22,500th trial is looked for."""
    for path in sorted(root.rglob("*")):
        copy = tmp_path / "nsd" / path.relative_to(root)
        if path.is_dir():
            copy.mkdir(parents=True)
        elif "session3" not in path.name or "session30" in path.name:
            copy.hardlink_to(path)
    behaviour = tmp_path / "nsd/nsddata/ppdata/subj01/behav/responses.tsv"
    lines = behaviour.read_text().splitlines()
    behaviour.unlink()
    behaviour.write_text("\n".join(lines[: 1 + 30 * 750]) + "\n")
    (tmp_path / "nsd" / published_nsd.BETAS / "lh.betas_session40.mgh").unlink()
    subject = NSDSubject(tmp_path / "nsd")
    assert subject.sessions == tuple(range(1, 31))
    np.testing.assert_array_equal(subject.trial_image_ids(), trials_of(design, 30))
    assert sizes(split_images(subject, "special515")) == (8302, 907 - 515, 515)
    # Subject 4's numbers, where subject 1's are published.
    rows = {r.what: r for r in check_subject(subject, "special515", _any_split())}
    assert rows["images listed at least 3x"].found == "5,445"
    assert rows["images listed at least 3x"].verdict == "differs"
    assert rows["shared images listed"].found == "907"


def _any_split():
    return {k: np.arange(3) for k in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def rows(tmp_path_factory, design):
    """Both hemispheres at their true size; the files of responses are sparse."""
    folder = published_nsd.write_tree(tmp_path_factory.mktemp("true") / "root", design)
    subject = NSDSubject(folder)
    return folder, check_subject(subject, "special515", split_images(subject, "special515"))


def test_every_published_value_is_reproduced(rows):
    table = {row.what: row for row in rows[1]}
    compared = [row for row in rows[1] if row.verdict == "equal"]
    assert not [row for row in rows[1] if row.verdict == "differs"]
    assert len(compared) == 18
    assert table["median ncsnr, nsdgeneral"].found == "0.490"
    assert table["vertices of nsdgeneral"].found == "37,984"
    assert table["  noise ceiling of three trials there"].found == "41.9 %"
    assert table["images of all subjects"].found == "70,566"
    assert table["first images (73k ids from 0)"].found.startswith("46,002 61,882 828")
    lines = table_of(rows[1])
    assert len({line.index("published") for line in lines[:1]}) == 1
    refuse_differences(rows[1], rows[0], accepted=False)


def test_a_differing_value_is_refused_unless_accepted(rows):
    folder = rows[0]
    path = folder / published_nsd.BETAS / "lh.ncsnr.mgh"
    before = path.read_bytes()
    values = np.asarray(nibabel.load(path).dataobj) + 0.01
    nibabel.save(nibabel.MGHImage(values.astype(">f4"), np.eye(4)), path)
    subject = NSDSubject(folder)
    found = check_subject(subject, "special515", split_images(subject, "special515"))
    path.write_bytes(before)
    with pytest.raises(ValueError) as error:
        refuse_differences(found, folder, accepted=False)
    message = str(error.value)
    assert "median ncsnr, nsdgeneral: 0.495, published 0.490" in message and "\n" not in message
    assert "on 2 counts" in message and "--accept_differences" in message
    refuse_differences(found, folder, accepted=True)


def test_labels_below_0_are_outside_the_mask(rows):
    """-1 and 0 both mean "not in the region"."""
    folder = rows[0]
    expected = []
    for hemisphere in ("lh", "rh"):
        path = folder / f"nsddata/freesurfer/fsaverage/label/{hemisphere}.nsdgeneral.mgz"
        labels = np.asarray(nibabel.load(path).dataobj).reshape(-1)
        assert set(labels.tolist()) == {-1, 0, 1}
        expected += [v == 1 for v in labels.tolist()]
    np.testing.assert_array_equal(nsdgeneral(NSDSubject(folder)), expected)


def test_mask_of_another_surface_and_missing_mask(rows):
    folder = rows[0]
    subject = NSDSubject(folder)
    path = folder / "nsddata/freesurfer/fsaverage/label/lh.nsdgeneral.mgz"
    before = path.read_bytes()
    nibabel.save(nibabel.MGHImage(np.zeros((5, 1, 1), np.int32), np.eye(4)), path)
    with pytest.raises(
        ValueError, match=r"lh.nsdgeneral.mgz has 5 vertices, but .* 163842; get it"
    ):
        nsdgeneral(subject)
    path.unlink()
    assert nsdgeneral(subject) is None
    found = check_subject(subject, "special515", split_images(subject, "special515"))[-1]
    assert found.what == "median ncsnr, nsdgeneral" and "aws s3 cp" in found.verdict
    path.write_bytes(before)


def test_another_experiment_is_not_compared(tree):
    subject = NSDSubject(**tree.arguments())
    rows = check_subject(subject, "shared", split_images(subject, "shared", 3))
    assert "another experiment" in rows[0].verdict
    assert {row.verdict for row in rows[1:]} == {""}
    with pytest.raises(ValueError, match="has 5 shared images; choose 'shared'"):
        split_images(subject, "shared1000", 3)


def test_first_images_from_0(rows):
    design = scipy.io.loadmat(rows[0] / "nsddata/experiments/nsd/nsd_expdesign.mat")
    order, image_of = design["masterordering"][0].astype(int), design["subjectim"].astype(int)
    first = [image_of[0, order[t] - 1] - 1 for t in range(10)]
    assert first == list(published_nsd.FIRST_IMAGES)
    assert NSDSubject(rows[0]).trial_image_ids()[:10].tolist() == first
