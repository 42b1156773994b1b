"""Subjects as noisy as NSD's: what they are, and what the project's readers find of them."""

import dataclasses
import json

import numpy as np
import pytest

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.datasets.nsd import published
from neuroadapter_jax.datasets.nsd.imagery import RUNS as IMAGERY_RUNS
from neuroadapter_jax.datasets.nsd.imagery import TARGETS, NSDImagery
from neuroadapter_jax.datasets.nsd.source import NSDSelection
from neuroadapter_jax.datasets.unseen import SimulatedUnseen
from neuroadapter_jax.simulation import nsd_like, unseen_scenes
from neuroadapter_jax.simulation.cohort import make_cohort_subject, visual_mask
from neuroadapter_jax.simulation.cohort_writer import _IMAGERY_RUNS, _TARGET_FILES, write_cohort
from neuroadapter_jax.simulation.noise import SessionNoise, expected_ncsnr, run_scales
from neuroadapter_jax.simulation.nsd_like import COHORT, NSDLikeConfig
from neuroadapter_jax.simulation.scenes import CATEGORIES, OBJECTS, PLACES
from neuroadapter_jax.simulation.truth import load_scenes, load_truth
from neuroadapter_jax.simulation.unseen import IMAGERY_LETTERS, imagery_signals, make_designs

pytestmark = pytest.mark.slow

CONFIG = NSDLikeConfig(
    num_images=80,
    num_shared=20,
    num_special=14,
    trials_per_session=6,
    num_unseen=7,
    regions_per_hemisphere=23,
    seed=5,
)


@pytest.fixture(scope="module", autouse=True)
def few_calibration_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unseen_scenes, "CALIBRATION_SCENES", 61)
        yield


@pytest.fixture(scope="module")
def subject():
    return make_cohort_subject(CONFIG, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort") / "root", CONFIG, (1, 3), progress=False)


def test_the_medians_are_those_published_for_nsd():
    assert nsd_like.MEDIAN_NCSNR == published.MEDIAN_NCSNR
    assert COHORT == (1, 2, 5, 7, 3)


def test_nsds_own_estimator_finds_the_published_median(subject):
    """Signals are white here: what is tested is the scale of noise, drift and bad runs."""
    rng = np.random.default_rng(0)
    images, sessions = 480, 5
    signal = subject.signal_sd * rng.standard_normal((images, len(subject.responsive)))
    order = np.concatenate([rng.permutation(images) for _ in range(3)])
    config = dataclasses.replace(CONFIG, num_images=images, trials_per_session=288)
    noise = SessionNoise(dataclasses.replace(subject, config=config), 1)
    scales = run_scales(CONFIG, 1)[:sessions]
    ceiling = NoiseCeiling(order, len(subject.roi), 3)
    for s, shown in enumerate(order.reshape(sessions, -1)):
        ceiling.add(noise.responses(s, signal[shown].astype(np.float32), scales[s]))
    found = ceiling.ncsnr()
    assert np.median(found[visual_mask()]) == pytest.approx(published.MEDIAN_NCSNR[1], abs=0.03)
    silent = np.setdiff1d(np.arange(len(found)), subject.responsive)
    assert len(silent) > 0.75 * len(found)
    # 0 but for chance: ncsnr**2 of noise is about the error of a variance over 960 differences.
    assert np.median(found[silent]) < 0.15


def test_what_the_estimator_finds_without_drift_is_the_ratio_itself():
    ratio = np.array([0.0, 0.3, 0.7, 1.9])
    np.testing.assert_allclose(expected_ncsnr(ratio, np.ones((3, 12)), 0.0), ratio, atol=1e-12)
    doubled = expected_ncsnr(ratio, np.full((3, 12), 2.0), 0.0)
    np.testing.assert_allclose(doubled, ratio / 2, atol=1e-12)


def test_snr_falls_off_around_areas_and_is_none_in_most_of_cortex(subject):
    ratio = np.zeros(len(subject.roi))
    ratio[subject.responsive] = subject.signal_sd / subject.noise_sd[subject.responsive]
    inside = subject.roi != ""
    around = (ratio > 0) & ~inside
    assert (ratio[inside] > 0).all() and (ratio == 0).mean() > 0.75
    assert np.median(ratio[around]) < 0.6 * np.median(ratio[inside])


def test_each_subject_has_areas_tunings_and_noise_of_its_own(subject):
    other = make_cohort_subject(CONFIG, 2)
    sizes = [
        {a: int((s.roi == a).sum()) for a in ("V1v", "FFA-1", "PPA")} for s in (subject, other)
    ]
    assert sum(sizes[0][a] != sizes[1][a] for a in sizes[0]) >= 2
    for a in ("FFA-1", "EBA", "PPA"):
        one, two = subject.roi == a, other.roi == a
        assert (one & two).sum() < 0.8 * min(one.sum(), two.sum())
    again = make_cohort_subject(CONFIG, 1)
    np.testing.assert_array_equal(again.object_tuning, subject.object_tuning)
    np.testing.assert_array_equal(again.noise_sd, subject.noise_sd)


def test_noise_has_its_parts(subject):
    config = dataclasses.replace(
        CONFIG, smooth_noise=0.0, shared_noise=0.3, signal_like_noise=0.5, drift=0.0
    )
    signal = np.zeros((480, len(subject.responsive)), np.float32)

    def residuals(**changes):
        chosen = dataclasses.replace(config, **changes)
        noise = SessionNoise(dataclasses.replace(subject, config=chosen), 1)
        return (noise.responses(0, signal) - subject.baseline) / subject.noise_sd

    x = residuals()
    assert x.var(axis=0).mean() == pytest.approx(1, abs=0.05)
    assert residuals().mean(axis=1).std() > 5 * residuals(shared_noise=0.0).mean(axis=1).std()
    # Signal-like: an area's noise has few directions, white noise as many as vertices.
    area = np.flatnonzero(subject.roi == "EBA")
    first_five = []
    for share in (0.5, 0.0):
        values = residuals(shared_noise=0.0, signal_like_noise=share)[:, area]
        power = np.linalg.svd(values - values.mean(axis=0), compute_uv=False) ** 2
        first_five.append(power[:5].sum() / power.sum())
    assert first_five[0] > 2 * first_five[1]


def test_bad_runs_are_twice_as_noisy(subject):
    signal = np.zeros((120, len(subject.responsive)), np.float32)
    scales = np.ones(12)
    scales[3] = 2.0
    noise = SessionNoise(
        dataclasses.replace(subject, config=dataclasses.replace(CONFIG, drift=0.0)), 1
    )
    x = (noise.responses(0, signal, scales) - subject.baseline) / subject.noise_sd
    assert x[30:40].std() / x[:30].std() == pytest.approx(2, rel=0.1)


def test_designs_are_laid_out_as_nsds():
    designs = make_designs(CONFIG)
    assert set(designs) == set(COHORT)
    seen = [set(d.subject_images.tolist()) for d in designs.values()]
    shared = set.intersection(*seen)
    assert shared == set(designs[1].shared.tolist()) and len(shared) == 20
    assert len(set.union(*seen)) == 20 + 5 * 60
    for design in designs.values():
        np.testing.assert_array_equal(design.ten_k, designs[1].ten_k)
        assert np.bincount(design.ten_k).tolist() == [3] * 80


@pytest.mark.parametrize("number", [1, 3])
def test_nsds_reader_and_split_find_training_alignment_and_test_images(root, number):
    source = NSDSelection(subject=number, space="fsaverage5", split="special515").open(root)
    shown = source.trial_image_ids()
    parts = {name: np.unique(shown[trials]) for name, trials in source.splits().items()}
    assert {name: len(ids) for name, ids in parts.items()} == {
        "train": 60,
        "validation": 6,
        "test": 14,
    }
    other = NSDSelection(subject=4 - number, space="fsaverage5", split="special515").open(root)
    theirs = other.trial_image_ids()
    assert set(parts["test"]) == set(theirs[other.splits()["test"]])
    assert not set(parts["train"]) & set(theirs)
    rows = {row.what: row for row in source.check_before_preparing()}
    assert rows["median ncsnr, nsdgeneral"].published == {1: "0.490", 3: "0.431"}[number]
    assert all(row.verdict != "differs" for row in rows.values())


def test_a_subject_is_the_same_whoever_else_is_in_the_root(root, tmp_path):
    alone = write_cohort(tmp_path / "alone", CONFIG, (3,), progress=False)
    files = [p.relative_to(alone) for p in alone.rglob("*") if p.is_file() and "subj03" in str(p)]
    assert len(files) > 100
    assert [str(p) for p in files if (alone / p).read_bytes() != (root / p).read_bytes()] == []
    with pytest.raises(
        ValueError, match="holds other subjects of this simulation, but not subject 1"
    ):
        write_cohort(alone, CONFIG, (1, 3), progress=False)
    assert write_cohort(alone, CONFIG, (3,), progress=False) == alone
    with pytest.raises(ValueError, match="are 1, 2, 5, 7, 3, not"):
        write_cohort(tmp_path / "none", CONFIG, (4,), progress=False)


def test_the_main_experiment_shows_no_held_out_object_and_no_held_out_place(root):
    truth = load_truth(root, 1)
    names = set(truth["object_names"][truth["objects"][truth["objects"] >= 0]].tolist())
    held_out = {"frosty", "foot", "snake", "melon", "hundred", "camera"}
    assert not names & held_out and len(names) > 35
    for objects, place in zip(truth["objects"], truth["place"], strict=True):
        assert all((k + place) % 8 != 0 for k in objects[objects >= 0])
    ids = np.flatnonzero(truth["place"] >= 0)[[0, 7, 90]]
    assert [s.caption for s in load_scenes(root, ids)] == truth["captions"][ids].tolist()
    assert "roi" not in load_truth(root) and "roi" in truth
    with pytest.raises(FileNotFoundError, match="holds no subject 2"):
        load_truth(root, 2)


def test_unseen_sets_hold_what_they_are_named_after(root):
    source = SimulatedUnseen(root, 3)
    shown = source.trial_image_ids()
    truth = load_truth(root / "unseen", 3)
    assert list(source.splits()) == [
        "unseen_objects", "new_combinations", "same_category", "localizer",
    ]  # fmt: skip
    ids = {name: np.unique(shown[trials]) for name, trials in source.splits().items()}
    assert all(
        len(i) == 7 and len(t) == 21
        for i, t in zip(ids.values(), source.splits().values(), strict=True)
    )
    last = [OBJECTS.index([o for o in OBJECTS if o.category == c][-1]) for c in CATEGORIES]
    for i in ids["unseen_objects"]:
        objects = truth["objects"][i]
        assert np.isin(objects[objects >= 0], last).all()
    for i in ids["new_combinations"]:
        objects = truth["objects"][i][truth["objects"][i] >= 0]
        assert not np.isin(objects, last).any()
        assert ((objects + truth["place"][i]) % len(PLACES) == 0).all()
    for i in ids["same_category"]:
        categories = truth["categories"][i][truth["categories"][i] >= 0]
        assert np.bincount(categories).max() == 2
    images = source.images(ids["localizer"])
    for i, image in zip(ids["localizer"], images, strict=True):
        assert (truth["objects"][i] >= 0).sum() == 1 and truth["place"][i] == -1
        assert (image[~truth["masks"][i, 0]].reshape(-1, 3) == 128).all(axis=1).mean() > 0.95
    betas = source.read_block(2).betas
    assert betas.shape == (21, 20_484) and np.isfinite(betas).all()
    captions = [s.caption for s in load_scenes(root / "unseen", np.arange(28))]
    assert captions == truth["captions"].tolist()


def test_an_unseen_experiment_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"unseen_sets\.tsv does not exist, .*nsd_like"):
        SimulatedUnseen(tmp_path)


def test_imagery_is_read_as_nsd_imagery_and_is_weakest_in_early_areas(root, subject):
    assert {s: "".join(x) for s, x in TARGETS.items()} == IMAGERY_LETTERS
    assert {s: list(x.values()) for s, x in TARGETS.items() if s != "C"} == _TARGET_FILES
    assert {r: 48 * n for r, n in IMAGERY_RUNS.items()} == dict(_IMAGERY_RUNS)
    source = NSDImagery(root, 1, "fsaverage5", normalize="none")
    shown, roi = source.trial_image_ids(), load_truth(root, 1)["roi"]
    betas = np.concatenate([source.read_block(block).betas for block in source.blocks])
    signals = dict(zip(("vision", "imagery"), imagery_signals(subject, CONFIG), strict=True))
    names = roi[subject.responsive]
    for areas, gain in ((["V1v", "V1d"], 0.15), (["V3v", "V3d"], 0.25), (["EBA", "LO"], 0.6)):
        inside = np.isin(names, areas)
        seen, imagined = (signals[kind][:12, :, inside].mean(axis=1) for kind in signals)
        np.testing.assert_allclose(imagined, gain * seen, rtol=1e-4, atol=1e-5)
    # The files hold them: along its own pattern, a target's mean response is as large as planted.
    cortex = subject.responsive[np.isin(names, ["V1v", "V1d", "V2v", "V2d"])]
    early = np.searchsorted(subject.responsive, cortex)
    for kind, planted in signals.items():
        trials = source.splits()[kind]
        found = np.stack([betas[trials][shown[trials] == k].mean(axis=0) for k in range(12)])
        x, y = planted[:12, 0, early], found[:, cortex]
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        assert (x * y).sum() / (x * x).sum() == pytest.approx(1, abs=0.3), kind
    truth = load_truth(root / "imagery")
    assert (truth["objects"][:6] >= 0).sum(axis=1).tolist() == [1] * 6
    assert truth["captions"][6:11].tolist() == [
        s.caption for s in load_scenes(root, np.unique(source_test_images(root))[:5])
    ]


def source_test_images(root):
    source = NSDSelection(subject=1, space="fsaverage5", split="special515").open(root)
    return source.trial_image_ids()[source.splits()["test"]]


def test_the_configuration_is_kept_and_another_is_refused(root):
    stored = json.loads((root / "simulation.json").read_text())
    assert stored == {"format_version": 1, **dataclasses.asdict(CONFIG)}
    with pytest.raises(ValueError, match="seed is 5 there, 6 here"):
        write_cohort(root, dataclasses.replace(CONFIG, seed=6), (1,))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_shared": 2560}, "num_shared is 2560; expected less than 2560"),
        ({"num_special": 260}, "num_special is 260; expected less than 260"),
        ({"trials_per_session": 191}, "trials_per_session is 191; expected a divisor of"),
        ({"signal_like_noise": 0.9}, "signal_like_noise is 0.9; expected at most 1 together"),
        ({"bad_runs": 1.5}, "bad_runs is 1.5"),
    ],
)
def test_impossible_cohorts_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        NSDLikeConfig(**values)
