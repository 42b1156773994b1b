import itertools
import struct

import h5py
import nibabel
import numpy as np
import published_nsd
import pytest
import scipy.stats

from neuroadapter_jax.datasets.nsd.subject import NSDSubject

BUCKET = "aws s3 cp --no-sign-request s3://natural-scenes-dataset/nsddata"


def read(tree, **kwargs):
    return NSDSubject(**tree.arguments(), **kwargs)


def assert_one_sentence(error, *words):
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message, message


def test_layout_and_design(tree):
    subject = read(tree)
    assert subject.sessions == (1, 2, 3)
    assert subject.num_vertices == (13, 17)
    assert subject.trials_per_session == 11
    np.testing.assert_array_equal(subject.trial_image_ids(), tree.shown)
    np.testing.assert_array_equal(subject.shared_ids, tree.shared)
    np.testing.assert_array_equal(subject.ncsnr(), tree.ncsnr)


def test_images_come_in_the_asked_order(tree):
    ids = np.array([31, 7, 31, 2])
    np.testing.assert_array_equal(read(tree).images(ids), tree.images[ids])


def test_betas_are_zscored_per_vertex_and_session(tree):
    subject = read(tree)
    for session in (1, 2, 3):
        raw = subject.read_session(session, normalize="none")
        assert raw.dtype == np.float32 and raw.dtype.isnative
        np.testing.assert_array_equal(raw, tree.betas[session - 1])
        expected = scipy.stats.zscore(tree.betas[session - 1].astype(np.float64), axis=0)
        np.testing.assert_allclose(subject.read_session(session), expected, atol=1e-6)


def test_blocks_of_trials_make_no_difference(tree, monkeypatch):
    whole = read(tree).read_session(2)
    monkeypatch.setattr("neuroadapter_jax.datasets.nsd.subject._TRIAL_BLOCK", 3)
    np.testing.assert_allclose(read(tree).read_session(2), whole, atol=1e-6)


def test_runs_are_zscored_each_by_itself(tree):
    tree.betas[1, :6, 21] = 0.7  # constant in the first run only
    tree.write_session("rh", 2)
    raw = tree.betas[1].astype(np.float64)
    raw[:6, 21] = np.arange(6)  # else SciPy warns
    expected = np.concatenate([scipy.stats.zscore(raw[:6]), scipy.stats.zscore(raw[6:])])
    expected[:6, 21] = 0
    np.testing.assert_allclose(read(tree).read_session(2, "run"), expected, atol=1e-6)


def test_training_statistics_are_of_the_training_trials_only(tree):
    training = np.isin(np.arange(11), [0, 2, 3, 7, 10])
    raw = tree.betas[2].astype(np.float64)
    expected = (raw - raw[training].mean(axis=0)) / raw[training].std(axis=0)
    found = read(tree).session_betas(3, "train-stats", training).betas
    np.testing.assert_allclose(found, expected, atol=2e-6)
    tree.betas[2, ~training] *= 100
    tree.write_session("lh", 3)
    tree.write_session("rh", 3)
    again = read(tree).session_betas(3, "train-stats", training).betas
    np.testing.assert_array_equal(again[training], found[training])
    with pytest.raises(ValueError, match="Session 3 of subject 2 holds no training trial"):
        read(tree).session_betas(3, "train-stats", np.zeros(11, bool))


def test_constant_vertex_becomes_zero(tree):
    tree.betas[1, :, 15] = 0.1
    tree.write_session("rh", 2)
    betas = read(tree).read_session(2)
    np.testing.assert_array_equal(betas[:, 15], 0)
    assert np.isfinite(betas).all()


@pytest.mark.parametrize("normalize", ["session", "none"])
def test_vertex_without_data_becomes_zero_and_is_reported(tree, normalize):
    tree.betas[2, :, [4, 29]] = np.nan
    tree.write_session("lh", 3)
    tree.write_session("rh", 3)
    session = read(tree).session_betas(3, normalize)
    np.testing.assert_array_equal(session.nan_vertices, [4, 29])
    np.testing.assert_array_equal(session.betas[:, [4, 29]], 0)
    assert np.isfinite(session.betas).all()
    assert len(read(tree).session_betas(1).nan_vertices) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_other_nonfinite_betas_are_refused(tree, value):
    tree.betas[0, [1, 6, 8], 14] = value
    tree.write_session("rh", 1)
    with pytest.raises(ValueError) as error:
        read(tree).read_session(1)
    assert_one_sentence(error, "rh.betas_session01.mgh", "NaN or infinite in 3 of 11", "vertex 1 ")


def test_a_subset_of_sessions(tree):
    tree.session_file("lh", 1).unlink()
    subject = read(tree, sessions=[3, 2])
    assert subject.sessions == (2, 3)
    np.testing.assert_array_equal(subject.trial_image_ids(), tree.shown[11:])
    with pytest.raises(ValueError, match="not among the sessions in use"):
        subject.read_session(1)
    with pytest.raises(ValueError, match="lists 1 to 3"):
        read(tree, sessions=[4])


def test_unknown_normalization(tree):
    with pytest.raises(ValueError, match="'voxel'; choose one of session, run, train-stats, none"):
        read(tree).read_session(1, normalize="voxel")


def test_missing_session_file(tree):
    tree.session_file("rh", 2).unlink()
    with pytest.raises(FileNotFoundError) as error:
        read(tree)
    assert_one_sentence(error, "Session 2 is missing", "rh.betas_session02.mgh", "1 to 3")


@pytest.mark.parametrize(
    "path", ["design", "table", "responses", "stimuli"], ids=["design", "table", "tsv", "hdf5"]
)
def test_missing_file(tree, path):
    getattr(tree, path).unlink()
    with pytest.raises(FileNotFoundError) as error:
        read(tree)
    assert_one_sentence(error, str(getattr(tree, path)), "check the root", BUCKET)


def test_betas_of_another_type(tree):
    values = np.zeros((13, 1, 1, 11), np.int16)
    nibabel.save(nibabel.MGHImage(values, np.eye(4)), tree.session_file("lh", 2))
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, "lh.betas_session02.mgh", ">i2", "(13, 1, 1, 11)", ">f4", BUCKET)


@pytest.mark.parametrize("key", ["masterordering", "subjectim", "sharedix"])
def test_ids_counted_from_0_are_refused(tree, key):
    design = {k: v for k, v in scipy.io.loadmat(tree.design).items() if k[0] != "_"}
    design[key] = design[key] - design[key].min()
    scipy.io.savemat(tree.design, design)
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, f"{key} of ", "ids 0 to", "expected ids from 1", BUCKET)


def test_true_size_big_endian_fortran_order(tmp_path):
    """Bytes as NSD has them: after 284 bytes the vertices of trial 1, then those of trial 2."""
    design = published_nsd.make_design()
    root = published_nsd.write_tree(tmp_path / "nsd", design, sessions=[2])
    path = root / published_nsd.BETAS / "rh.betas_session02.mgh"
    trial, vertex = 613, 163_839
    with path.open("r+b") as file:
        file.seek(284 + 4 * (trial * 163_842 + vertex))
        file.write(struct.pack(">3f", -2.5, 0.75, 1e-3))
    subject = NSDSubject(root, sessions=[2])
    assert subject.num_vertices == (163_842, 163_842) and subject.trials_per_session == 750
    rows = next(itertools.islice(subject._blocks("rh", 2), 24, 25))
    np.testing.assert_array_equal(rows[trial - 600, vertex:], np.float32([-2.5, 0.75, 1e-3]))
    assert np.count_nonzero(rows) == 3 and rows.dtype.isnative
    shown = design.image_of[0][design.order[750:1500]]
    np.testing.assert_array_equal(subject.trial_image_ids(), shown)


@pytest.mark.parametrize("keep", [100, 284, 284 + 13 * 11 * 4 - 1])
def test_truncated_mgh(tree, keep):
    path = tree.session_file("lh", 3)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, "lh.betas_session03.mgh is truncated", str(keep), BUCKET)


def test_hemispheres_with_other_numbers_of_vertices(tree):
    tree.session_file("rh", 2).write_bytes(tree.session_file("lh", 2).read_bytes())
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, "rh.betas_session02.mgh has 13", "rh.ncsnr.mgh", "17")


def test_sessions_with_other_numbers_of_trials(tree):
    tree.betas = tree.betas[:, :7]
    tree.write_session("lh", 2)
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, "lh.betas_session02.mgh has 7 trials", "11")


def test_image_file_lacks_a_shown_image(tree):
    held = int(tree.shown.max())
    tree.write_images(held)
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, "nsd_stimuli.hdf5", f"{held} images", f"nsdId {held}")


def test_image_file_of_another_kind(tree):
    tree.stimuli.write_bytes(b"not hdf5")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        read(tree)
    tree.stimuli.unlink()
    with h5py.File(tree.stimuli, "w") as file:
        file["imgBrick"] = tree.images.astype(np.float32)
    with pytest.raises(ValueError, match="expected uint8"):
        read(tree)


def test_responses_disagree_with_the_design(tree):
    ids = tree.shown.copy()
    ids[16] += 1
    tree.write_responses(ids)
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(
        error, "responses.tsv", f"{ids[16] + 1} in trial 6 of session 2", f"{tree.shown[16] + 1} "
    )


def test_responses_without_a_trial(tree):
    tree.responses.write_text(tree.responses.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=r"responses\.tsv has a heading and no row below it"):
        read(tree)


def test_responses_with_a_trial_too_few(tree):
    lines = tree.responses.read_text().splitlines()
    tree.responses.write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"lists 10 trials in session 3, but .* holds 11"):
        read(tree)


def test_table_disagrees_with_the_design(tree):
    order = tree.order.copy()
    order[[5, 20]] = order[[20, 5]]
    assert order[5] != order[20]
    tree.write_table(order)
    with pytest.raises(ValueError) as error:
        read(tree)
    assert_one_sentence(error, "nsd_stim_info_merged.csv", "trial 6", f"nsdId {tree.shown[5]}")


def test_table_names_other_shared_images(tree):
    tree.shared = tree.shared[1:]
    tree.write_table()
    with pytest.raises(ValueError, match="disagree on 1 shared images"):
        read(tree)


def test_subject_outside_the_design(tree):
    design = scipy.io.loadmat(tree.design)
    design["subjectim"] = design["subjectim"][:1]
    scipy.io.savemat(tree.design, {k: v for k, v in design.items() if k[0] != "_"})
    with pytest.raises(ValueError, match="describes subjects 1 to 1, not subject 2"):
        read(tree)
