import csv
import dataclasses
import hashlib
import json
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io

from neuroadapter_jax.cortex.label_files import read_parcellation
from neuroadapter_jax.cortex.parcellation import match_regions
from neuroadapter_jax.cortex.roi import read_rois
from neuroadapter_jax.simulation import subject as subject_module
from neuroadapter_jax.simulation.layout import load_hemispheres
from neuroadapter_jax.simulation.nsd_writer import ATLASES, write_nsd
from neuroadapter_jax.simulation.scenes import sample_scenes
from neuroadapter_jax.simulation.subject import SubjectConfig, make_subject
from neuroadapter_jax.simulation.truth import load_scenes, load_truth

CONFIG = SubjectConfig(
    num_images=34, num_shared=11, trials_per_session=17, regions_per_hemisphere=23, seed=5
)
BETAS = "nsddata_betas/ppdata/subj01/fsaverage5/betas_fithrf_GLMdenoise_RR"
EXPERIMENT = "nsddata/experiments/nsd"
LABELS = "nsddata/freesurfer"


@pytest.fixture(scope="module", autouse=True)
def few_calibration_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject_module, "CALIBRATION_SCENES", 97)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_nsd(tmp_path_factory.mktemp("nsd") / "root", CONFIG, progress=False)


@pytest.fixture(scope="module")
def design(root):
    return scipy.io.loadmat(root / EXPERIMENT / "nsd_expdesign.mat")


@pytest.fixture(scope="module")
def trial_images(design):
    """0-based image of each trial by NSD's published rule."""
    order = design["masterordering"][0].astype(int)
    return np.array([int(design["subjectim"][0, k - 1]) - 1 for k in order])


@pytest.fixture(scope="module")
def betas(root):
    """float32 [trials, vertices] of both hemispheres, in percent signal change."""
    sides = []
    for h in ("lh", "rh"):
        files = [nib.load(root / BETAS / f"{h}.betas_session{s:02d}.mgh") for s in range(1, 7)]
        assert all(f.shape == (10_242, 1, 1, 17) for f in files)
        assert all(f.get_data_dtype() == np.dtype(">f4") for f in files)
        sides.append(np.concatenate([np.asarray(f.dataobj)[:, 0, 0].T for f in files]))
    return np.concatenate(sides, axis=1).astype(np.float32)


def test_every_image_is_shown_three_times_and_all_tables_agree(root, design, trial_images):
    assert {design[k].shape for k in ("masterordering", "subjectim")} == {(1, 102), (1, 34)}
    assert sorted(trial_images) == sorted([*range(34)] * 3)
    shared = design["sharedix"][0].astype(int)
    assert len(shared) == 11 and (np.diff(shared) > 0).all()
    assert design["subjectim"][0, :11].tolist() == shared.tolist()
    assert design["stimpattern"].shape == (6, 12, 75) and design["stimpattern"].sum() == 102
    assert design["basiccnt"][:, -1].tolist() == [34, 34, 34]

    with open(root / EXPERIMENT / "nsd_stim_info_merged.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 34 and len(rows[0]) == 9 + 8 + 24
    for image, row in enumerate(rows):
        assert int(row["nsdId"]) == int(row[""]) == image
        assert (row["shared1000"] == "True") == (image + 1 in shared)
        trials = [int(row[f"subject1_rep{k}"]) for k in range(3)]
        assert trials == [t + 1 for t in range(102) if trial_images[t] == image]
        assert [row[f"subject{s}"] for s in range(1, 9)] == ["1"] + ["0"] * 7
        assert row["subject8_rep2"] == "0"

    with open(root / "nsddata/ppdata/subj01/behav/responses.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 102 and len(rows[0]) == 19
    earlier = set()
    for t, row in enumerate(rows):
        assert int(row["73KID"]) == trial_images[t] + 1
        assert int(row["10KID"]) == design["masterordering"][0, t]
        assert int(row["SESSION"]) == t // 17 + 1
        assert int(row["ISOLD"]) == (trial_images[t] in earlier)
        assert (row["MEMORYFIRST"] == "NaN") == (trial_images[t] not in earlier)
        earlier.add(trial_images[t])
    # The first five runs have two trials, the others one: odd runs come first in NSD's counting.
    runs = [int(row["RUN"]) for row in rows[:17]]
    assert np.bincount(runs)[1:].tolist() == [2, 1] * 5 + [1, 1]


def test_the_same_subject_is_simulated_to_the_same_bytes(root, tmp_path):
    """Seconds lie between the two: no file holds the time at which it was written."""
    again = write_nsd(tmp_path / "again", CONFIG, progress=False)
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert {p.suffix for p in files} == {".mat", ".csv", ".hdf5", ".tsv", ".mgh", ".mgz", ".ctab",
                                         ".annot", ".npz", ".json"}  # fmt: skip
    differing = [str(p) for p in files if (root / p).read_bytes() != (again / p).read_bytes()]
    assert differing == []


def test_images_are_the_scenes_of_the_stated_seed(root):
    scenes = sample_scenes(34, seed=5 + 1_000_003)
    with h5py.File(root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        assert file["imgBrick"].dtype == np.uint8
        np.testing.assert_array_equal(file["imgBrick"][:], scenes.images)
    truth = load_truth(root)
    np.testing.assert_array_equal(truth["masks"], scenes.masks)
    np.testing.assert_array_equal(truth["categories"], scenes.categories)
    np.testing.assert_array_equal(truth["objects"], scenes.objects)
    assert truth["captions"].tolist() == scenes.captions
    assert load_scenes(root, np.array([31, 0, 7])) == [scenes.scenes[i] for i in (31, 0, 7)]


def test_ncsnr_is_the_published_formula_on_the_written_files(root, betas, trial_images):
    files = [root / BETAS / f"{h}.ncsnr.mgh" for h in ("lh", "rh")]
    stored = np.concatenate([np.asarray(nib.load(f).dataobj).ravel() for f in files])
    assert np.isfinite(stored).all() and np.isfinite(betas).all()
    roi = load_truth(root)["roi"]
    for vertex in [*np.flatnonzero(roi == "V1d")[:3], *np.flatnonzero(roi == "")[-3:]]:
        z = []
        for s in range(6):
            x = betas[17 * s : 17 * s + 17, vertex].astype(float)
            z += [(v - x.mean()) / np.sqrt(((x - x.mean()) ** 2).sum() / 16) for v in x]
        variances = []
        for image in range(34):
            repeats = [z[t] for t in range(102) if trial_images[t] == image]
            variances.append(sum((r - sum(repeats) / 3) ** 2 for r in repeats) / 2)
        noise = np.sqrt(sum(variances) / 34)
        expected = np.sqrt(max(0, 1 - noise**2)) / noise
        assert stored[vertex] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert stored[roi != ""].mean() > stored[roi == ""].mean() + 0.5


def test_responses_are_signal_plus_the_stated_noise(betas, trial_images):
    subject = make_subject(CONFIG)
    scenes = sample_scenes(34, seed=5 + 1_000_003)
    signal = subject.signal(scenes)
    noise = betas.copy()
    noise[:, subject.responsive] -= signal[trial_images]
    # Drift: within sessions the offset cancels, the trend adds 0.25 / 12 of the variance.
    within = noise.reshape(6, 17, -1).var(axis=1, ddof=1).mean(axis=0) ** 0.5
    ratio = within / subject.noise_sd
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    silent = subject.roi == ""
    mean = noise.mean(axis=0)[silent] - subject.baseline[silent]
    assert np.abs(np.median(mean)) < 0.05
    average = np.stack([betas[trial_images == i].mean(axis=0) for i in range(34)])
    average = average[:, subject.responsive]
    together = ((average - average.mean(0)) * (signal - signal.mean(0))).mean(axis=0)
    assert np.median(together / average.std(axis=0) / signal.std(axis=0)) > 0.7


def test_rois_read_from_native_labels_are_the_truth(root):
    rois = read_rois(
        root / LABELS / "subj01" / "label", root / "nsddata/ppdata/subj01/transforms", list(ATLASES)
    )
    truth = load_truth(root)["roi"]
    for name in set(truth) - {""}:
        np.testing.assert_array_equal(rois[name], truth == name)
    assert not rois["mTL-faces"].any()
    assert sum(mask.sum() for mask in rois.values()) == (truth != "").sum()
    native = np.asarray(
        nib.load(root / LABELS / "subj01" / "label" / "lh.floc-places.mgz").dataobj
    ).ravel()
    counts = [(truth[:10_242] == name).sum() for name in ("OPA", "PPA", "RSC")]
    assert np.bincount(native)[1:].tolist() == counts
    assert ((native == 1) != (truth[:10_242] == "OPA")).any()


def test_parcellation_covers_all_but_the_medial_wall(root):
    folder = root / LABELS / "fsaverage5" / "label"
    paths = [folder / f"{h}.Simulated46Parcels.annot" for h in ("lh", "rh")]
    parcels = read_parcellation(*paths, num_vertices=(10_242, 10_242))
    assert len(parcels) == 46 and parcels.names[0] == "Simulated_LH_001"
    assert parcels.names[-1] == "Simulated_RH_023"
    members = np.concatenate([parcels.cortex_indices(i) for i in range(46)])
    wall = np.concatenate([h.medial_wall for h in load_hemispheres()])
    assert sorted(members) == np.flatnonzero(~wall).tolist()


def digests(root):
    kept = (".mgh", ".annot", ".tsv", ".csv", ".npz", ".json", ".hdf5")
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name.endswith(kept))
    return {p.relative_to(root): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_writing_again_is_the_same_or_nothing(root, tmp_path):
    (tmp_path / ".again-killed.partial" / "left over").mkdir(parents=True)
    (tmp_path / "again.partial").mkdir()  # someone else's
    again = write_nsd(tmp_path / "again", CONFIG, progress=False)
    assert digests(again) == digests(root)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "again.partial"]
    stamps = {p: p.stat().st_mtime_ns for p in again.rglob("*")}
    assert write_nsd(again, CONFIG, progress=False) == again
    assert {p: p.stat().st_mtime_ns for p in again.rglob("*")} == stamps


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "simulation.json").write_text(json.dumps({"format_version": 1, "num_images": 9}))
    with pytest.raises(ValueError, match="num_images is 9 there, 34 here"):
        write_nsd(tmp_path, CONFIG)
    (tmp_path / "simulation.json").rename(tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"lacks simulation\.json"):
        write_nsd(tmp_path, CONFIG)


@pytest.fixture
def former(root, tmp_path):
    """The same subject as version 0.1.0 wrote it: other names of files, arrays and regions."""
    folder = shutil.copytree(root, tmp_path / "former")
    (folder / "simulation.json").rename(folder / "embedded.json")
    keys = {
        "roi": "area",
        "object_tuning": "thing_tuning",
        "object_names": "thing_names",
        "objects": "things",
    }
    with np.load(folder / "truth.npz") as file:
        assert keys.keys() <= set(file)
        arrays = {keys.get(key, key): file[key] for key in file}
    np.savez_compressed(folder / "truth.npz", **arrays)
    for path in list((folder / LABELS).rglob("*imulated*")):
        name = path.name.replace("Simulated", "Embedded").replace("simulated-vtc", "embedded-vtc")
        path = path.rename(path.with_name(name))
        if path.suffix == ".annot":
            values, table, names = nib.freesurfer.read_annot(path)
            names = [n.decode().replace("Simulated_", "Embedded_") for n in names]
            nib.freesurfer.write_annot(path, values, table, names)
    return folder


def test_a_root_of_version_010_is_read_under_todays_names(root, former):
    ours, theirs = load_truth(root), load_truth(former)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(theirs[key], value)
    images = np.array([31, 0, 7])
    assert load_scenes(former, images) == load_scenes(root, images)
    stamps = {p: p.stat().st_mtime_ns for p in former.rglob("*")}
    assert write_nsd(former, CONFIG, progress=False) == former
    assert {p: p.stat().st_mtime_ns for p in former.rglob("*")} == stamps
    with pytest.raises(ValueError, match="seed is 5 there, 6 here"):
        write_nsd(former, dataclasses.replace(CONFIG, seed=6))


def test_label_files_of_version_010_are_found_by_todays_names(root, former):
    def rois(folder):
        labels = folder / LABELS / "subj01" / "label"
        return read_rois(labels, folder / "nsddata/ppdata/subj01/transforms", list(ATLASES))

    ours, theirs = rois(root), rois(former)
    assert ours.keys() == theirs.keys()
    for name, mask in ours.items():
        np.testing.assert_array_equal(theirs[name], mask)
    names = [f"fsaverage5/label/{h}.Simulated46Parcels.annot" for h in ("lh", "rh")]
    now, then = (read_parcellation(*(f / LABELS / n for n in names)) for f in (root, former))
    assert then.names[0] == "Embedded_LH_001" and str(then.atlas) == "Embedded46Parcels"
    np.testing.assert_array_equal(match_regions(now, then), np.arange(46))


def test_a_folder_without_truth_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"truth\.npz does not exist, .*--config demo"):
        load_truth(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks simulation\.json, .*prepare --config demo"):
        load_scenes(tmp_path, np.array([0]))
