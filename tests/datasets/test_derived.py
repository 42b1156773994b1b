import os
import pickle

import h5py
import nibabel
import numpy as np
import PIL.Image
import pytest
import scipy.stats

from neuroadapter_jax.datasets.algonauts import Algonauts2023
from neuroadapter_jax.datasets.derived import DerivedNSD
from neuroadapter_jax.datasets.safe_pickle import load_dictionary

LH, RH, TRIALS = 13, 17, 757  # one session of 750 and seven trials of the next
HELD = 43


def make(root, layout, rng):
    """The files of one layout, and their truth."""
    root.mkdir()
    shown = rng.integers(0, HELD, TRIALS)
    betas = rng.normal(0.4, 1.7, (TRIALS, LH + RH)).astype(np.float32)
    snr = rng.uniform(0, 1, LH + RH).astype(np.float32)
    truth = {
        "shown": shown,
        "betas": betas,
        "snr": snr,
        "ids": {"train": np.arange(29), "validation": np.arange(29, 36), "test": np.arange(36, 43)},
        "images": rng.integers(0, 256, (HELD, 5, 7, 3), np.uint8),
        "V1v": np.array([2, 11, LH + 1, LH + 16]),
    }
    metadata = {
        "img_presentation_order": shown,
        "train_img_num": truth["ids"]["train"],
        "val_img_num": truth["ids"]["validation"],
        "test_img_num": truth["ids"]["test"],
        "lh_ncsnr": snr[:LH],
        "rh_ncsnr": snr[LH:],
    }
    if layout == "berg":
        metadata |= {
            "lh_fsaverage_rois": {"V1v": np.array([2, 11]), "EBA": np.array([], np.int64)},
            "rh_fsaverage_rois": {"V1v": np.array([1, 16]), "EBA": np.array([0])},
        }
        np.save(root / "metadata_subject-2.npy", metadata, allow_pickle=True)
        for name, part in (("lh", betas[:, :LH]), ("rh", betas[:, LH:])):
            with h5py.File(root / f"{name}_betas_subject-2.h5", "w") as file:
                file["betas"] = part
    else:
        left, right = np.zeros(LH, bool), np.zeros(RH, bool)
        left[[2, 11]] = right[[1, 16]] = True
        metadata |= {"lh_rois": {"V1v": left}, "rh_rois": {"V1v": right}}
        np.save(root / "metadata_sub-02.npy", metadata, allow_pickle=True)
        with h5py.File(root / "betas_sub-02.h5", "w") as file:
            file["lh_betas"], file["rh_betas"] = betas[:, :LH], betas[:, LH:]
    with h5py.File(root / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = truth["images"]
    return truth


def read(root, **options):
    return DerivedNSD(root, root / "nsd_stimuli.hdf5", 2, **{"allow_pickle": True, **options})


@pytest.mark.parametrize("layout", ["berg", "released"])
def test_both_layouts(tmp_path, rng, layout):
    truth = make(tmp_path / "data", layout, rng)
    source = read(tmp_path / "data")
    assert source.settings["layout"] == layout and source.num_vertices == (LH, RH)
    np.testing.assert_array_equal(source.trial_image_ids(), truth["shown"])
    np.testing.assert_array_equal(source.ncsnr(), truth["snr"])
    blocks = [source.read_block(block).betas for block in source.blocks]
    assert [len(block) for block in blocks] == [750, 7]
    np.testing.assert_array_equal(np.concatenate(blocks), truth["betas"])
    for split, trials in source.splits().items():
        assert set(truth["shown"][trials]) == set(truth["ids"][split]) & set(truth["shown"])
    np.testing.assert_array_equal(source.images(np.array([41, 3])), truth["images"][[41, 3]])
    np.testing.assert_array_equal(np.flatnonzero(source.rois()["V1v"]), truth["V1v"])


def test_sessions_of_750_trials(tmp_path, rng):
    truth = make(tmp_path / "data", "released", rng)
    source = read(tmp_path / "data", normalize="session")
    for block, part in ((1, truth["betas"][:750]), (2, truth["betas"][750:])):
        expected = scipy.stats.zscore(part.astype(np.float64))
        np.testing.assert_allclose(source.read_block(block).betas, expected, atol=2e-6)


def refuse(tmp_path, *words, **options):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(tmp_path / "data", **options)
    for word in words:
        assert word in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_what_does_not_fit_is_refused(tmp_path, rng):
    make(tmp_path / "data", "berg", rng)
    refuse(tmp_path, "metadata_subject-2.npy is a pickle", "--allow-pickle", allow_pickle=False)
    refuse(tmp_path, "'run'; choose one of as_stored, session", normalize="run")
    with h5py.File(tmp_path / "data" / "rh_betas_subject-2.h5", "a") as file:
        file["betas"][5, 4] = np.nan
    source = read(tmp_path / "data")
    with pytest.raises(ValueError, match="NaN or infinite in 1 of 750"):
        source.read_block(1)
    with h5py.File(tmp_path / "data" / "rh_betas_subject-2.h5", "w") as file:
        file["betas"] = np.zeros((TRIALS, RH + 1), np.float32)
    refuse(tmp_path, "rh_betas_subject-2.h5", "(757, 18)", "(757, 17)")
    (tmp_path / "data" / "rh_betas_subject-2.h5").unlink()
    refuse(tmp_path, "rh_betas_subject-2.h5 does not exist")
    (tmp_path / "data" / "metadata_subject-2.npy").unlink()
    refuse(tmp_path, "neither metadata_subject-2.npy", "github.com/gifale95/BERG")


class Malice:
    """Pickled, it stands for a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["np.save", "bare"])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, form):
    trace, path = tmp_path / "trace", tmp_path / "metadata.npy"
    attacks = {
        "system": Malice(os.system, f"touch {trace}"),
        "eval": Malice(eval, f"open({str(trace)!r}, 'w')"),
        "getattr": Malice(getattr, "text", "format"),
        "numpy": Malice(np.memmap, str(trace), "uint8", "w+", 0, (3,)),
    }
    for name, attack in attacks.items():
        if form == "np.save":
            np.save(path, {"train_img_num": np.arange(3), "more": attack}, allow_pickle=True)
        else:
            header = np.lib.format.header_data_from_array_1_0(np.array(None, dtype=object))
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                pickle.dump(attack, file)
        with pytest.raises(ValueError, match="refused: it holds more than arrays") as error:
            load_dictionary(path, allow_pickle=True)
        assert "nothing of it was run" in str(error.value), name
        assert not trace.exists(), name
    # The same file without restriction does run: the attack is one.
    np.save(path, {"more": attacks["system"]}, allow_pickle=True)
    np.load(path, allow_pickle=True)
    assert trace.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol_are_read(tmp_path, protocol):
    value = {
        "ids": np.arange(5),
        "text": np.array(["a", "bc"]),
        "scalar": np.float32(2.5),
        "rois": {"V1": np.array([True, False]), "empty": np.zeros((0, 3))},
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "objects": np.array([1, "x", None], dtype=object),
    }
    header = np.lib.format.header_data_from_array_1_0(np.array(None, dtype=object))
    whole = np.empty((), object)
    whole[()] = value
    with (tmp_path / "m.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(whole, file, protocol)
    found = load_dictionary(tmp_path / "m.npy", allow_pickle=True)
    assert found.keys() == value.keys() and found["scalar"] == 2.5
    for key in ("ids", "text", "fortran", "objects"):
        np.testing.assert_array_equal(found[key], value[key])
    np.testing.assert_array_equal(found["rois"]["V1"], [True, False])


def test_files_that_are_no_dictionary(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"array of int64 and shape \(3,\); expected one dict"):
        load_dictionary(tmp_path / "a.npy", allow_pickle=True)
    np.save(tmp_path / "b.npy", np.array(None, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="NoneType; expected a dictionary"):
        load_dictionary(tmp_path / "b.npy", allow_pickle=True)
    (tmp_path / "c.npy").write_bytes(b"no array")
    with pytest.raises(
        ValueError, match=r"c\.npy: .*; expected a dictionary as np\.save writes it"
    ):
        load_dictionary(tmp_path / "c.npy", allow_pickle=True)
    with pytest.raises(FileNotFoundError):
        load_dictionary(tmp_path / "d.npy", allow_pickle=True)


@pytest.fixture
def challenge(tmp_path, rng):
    """A subject of the challenge: 11 training and 5 test images on 7 + 3 of 13 + 17 vertices."""
    folder = tmp_path / "challenge" / "subj07"
    truth = {"lh": [1, 2, 5, 6, 8, 10, 12], "rh": [0, 9, 16], "pictures": {}, "folder": folder}
    (folder / "roi_masks").mkdir(parents=True)
    for name, count in (("lh", LH), ("rh", RH)):
        mask = np.zeros(count, int)
        mask[truth[name]] = 1 + np.arange(len(truth[name])) % 2  # the sum of two masks
        np.save(folder / "roi_masks" / f"{name}.all-vertices_fsaverage_space.npy", mask)
    ids = rng.permutation(700)[:16]
    for part, prefix, own in (("training", "train", ids[:11]), ("test", "test", ids[11:])):
        truth[part] = np.sort(own)
        for kind in ("fmri", "images"):
            (folder / f"{part}_split" / f"{part}_{kind}").mkdir(parents=True)
        for name in ("lh", "rh"):
            values = rng.normal(size=(len(own), len(truth[name]))).astype(np.float32)
            truth[part, name] = values
            np.save(folder / f"{part}_split" / f"{part}_fmri" / f"{name}_{part}_fmri.npy", values)
        for row, image in enumerate(truth[part]):
            picture = rng.integers(0, 256, (5, 7, 3), np.uint8)
            truth["pictures"][image] = picture
            path = folder / f"{part}_split" / f"{part}_images"
            path /= f"{prefix}-{row + 1:04d}_nsd-{image:05d}.png"
            PIL.Image.fromarray(picture).save(path)
    return truth


def test_algonauts_on_the_whole_surface(challenge, tmp_path, rng, monkeypatch):
    monkeypatch.setattr("neuroadapter_jax.datasets.algonauts._BLOCK", 4)
    snr = rng.uniform(size=LH + RH).astype(np.float32)
    files = [tmp_path / "lh.ncsnr.mgh", tmp_path / "rh.ncsnr.mgh"]
    for path, part in zip(files, (snr[:LH], snr[LH:]), strict=True):
        nibabel.save(nibabel.MGHImage(part[:, None, None], np.eye(4)), path)
    source = Algonauts2023(tmp_path / "challenge", 7, files, num_validation=3)
    assert source.num_vertices == (LH, RH) and len(source.blocks) == 5
    expected = np.zeros((16, LH + RH), np.float32)
    for row, part in ((0, "training"), (11, "test")):
        last = row + len(challenge[part])
        expected[row:last, challenge["lh"]] = challenge[part, "lh"]
        expected[row:last, [LH + v for v in challenge["rh"]]] = challenge[part, "rh"]
    found = np.concatenate([source.read_block(block).betas for block in source.blocks])
    np.testing.assert_array_equal(found, expected)
    ids = np.concatenate([challenge["training"], challenge["test"]])
    np.testing.assert_array_equal(source.trial_image_ids(), ids)
    sizes = {split: len(rows) for split, rows in source.splits().items()}
    assert sizes == {"train": 8, "validation": 3, "test": 5}
    for image, picture in zip(ids[[2, 13]], source.images(ids[[2, 13]]), strict=True):
        np.testing.assert_array_equal(picture, challenge["pictures"][image])
    kept = challenge["lh"] + [LH + v for v in challenge["rh"]]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(source.ncsnr())), kept)
    np.testing.assert_array_equal(source.ncsnr()[kept], snr[kept])


def test_algonauts_without_the_withheld_responses(challenge, tmp_path):
    folder = challenge["folder"]
    for path in (folder / "test_split" / "test_fmri").iterdir():
        path.unlink()
    (folder / "test_split" / "test_fmri").rmdir()
    source = Algonauts2023(tmp_path / "challenge", 7, num_validation=3)
    assert list(source.splits()) == ["train", "validation"]
    assert np.isnan(source.ncsnr()).all()
    path = folder / "training_split" / "training_fmri" / "rh_training_fmri.npy"
    np.save(path, np.zeros((11, 4), np.float32))
    with pytest.raises(ValueError, match=r"rh_training_fmri.npy has shape \(11, 4\).*\(11, 3\)"):
        Algonauts2023(tmp_path / "challenge", 7)
    next((folder / "training_split" / "training_images").glob("train-0004*")).unlink()
    with pytest.raises(ValueError, match=r"10 images train-NNNN_nsd-NNNNN\.png, not numbered"):
        Algonauts2023(tmp_path / "challenge", 7)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"rh_training_fmri.npy does not exist.*braindata"):
        Algonauts2023(tmp_path / "challenge", 7)
