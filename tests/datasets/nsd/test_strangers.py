"""Betas and ncsnr of exchanged hemispheres and sessions, on a simulated subject's files."""

import json
import os
import shutil
import tempfile

import numpy as np
import pytest

from neuroadapter_jax.datasets.nsd.checks import refuse_strangers
from neuroadapter_jax.datasets.nsd.source import NSDSelection
from neuroadapter_jax.datasets.prepared.images import ImageEncoder
from neuroadapter_jax.datasets.prepared.prepare import PreparationSettings, prepare_subject
from neuroadapter_jax.datasets.repeats import RepeatVariance
from neuroadapter_jax.datasets.session_agreement import SessionAgreement
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.simulation import subject as subject_module
from neuroadapter_jax.simulation.nsd_writer import write_nsd
from neuroadapter_jax.simulation.subject import SubjectConfig

BETAS = "nsddata_betas/ppdata/subj01/fsaverage5/betas_fithrf_GLMdenoise_RR"
CONFIG = SubjectConfig(
    num_images=68, num_shared=11, trials_per_session=34, regions_per_hemisphere=23, seed=5
)
SESSIONS = range(1, 7)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject_module, "CALIBRATION_SCENES", 97)
        return write_nsd(tmp_path_factory.mktemp("nsd") / "root", CONFIG, progress=False)


@pytest.fixture
def exchanged(root, tmp_path):
    """A copy of the folder in which pairs of files have each other's name."""

    def exchange(*pairs):
        copy = tmp_path / "nsd"
        shutil.copytree(root, copy, copy_function=os.link)
        for one, other in pairs:
            a, b = copy / BETAS / one, copy / BETAS / other
            a.rename(copy / "waiting")
            b.rename(a)
            (copy / "waiting").rename(b)
        return copy

    return exchange


def rows_of(root, work, sessions=None):
    """The rows of a preparation, without its images."""
    selection = NSDSelection(space="fsaverage5", num_validation=7, sessions=sessions)
    source = selection.open(root)
    variance = RepeatVariance(sum(source.num_vertices))
    agreement = SessionAgreement(source.ncsnr(), source.num_vertices, len(source.blocks))
    trials = source.open_trials(work, lambda *_: None)
    shown = source.trial_image_ids()
    for image in np.unique(shown):
        positions = np.flatnonzero(shown == image)
        z = trials.read(positions)[1]
        variance.add(z)
        agreement.add(z, positions // trials.trials_per_session)
    trials.close()
    ncsnr = variance.ncsnr(trials.trials_per_session)
    return {row.what: row for row in source.check_responses(ncsnr, {}, agreement)}


CORRELATION = "  correlation of the repeats' ncsnr with the file's"


@pytest.mark.parametrize("sessions", [None, (1, 2, 3, 5)])
def test_right_files_belong_together(root, tmp_path, sessions):
    rows = rows_of(root, tmp_path, sessions)
    assert rows[CORRELATION].verdict == "equal"
    if sessions is None:
        assert rows[CORRELATION].found == "lh 1.0000, rh 1.0000"
    refuse_strangers(list(rows.values()), root, accepted=False)


HEMISPHERES = [(f"lh.betas_session0{s}.mgh", f"rh.betas_session0{s}.mgh") for s in SESSIONS]
CASES = {
    "betas of the hemispheres": HEMISPHERES,
    "ncsnr of the hemispheres": [("lh.ncsnr.mgh", "rh.ncsnr.mgh")],
    "all sessions": [
        (f"{h}.betas_session0{a}.mgh", f"{h}.betas_session0{b}.mgh")
        for h in ("lh", "rh")
        for a, b in ((1, 2), (3, 4), (5, 6))
    ],
}


@pytest.mark.parametrize("pairs", CASES.values(), ids=CASES)
def test_exchanged_files_are_refused_by_the_ncsnr_of_the_repeats(exchanged, tmp_path, pairs):
    root = exchanged(*pairs)
    rows = rows_of(root, tmp_path / "work")
    assert rows[CORRELATION].verdict == "differs"
    found = [float(part.split()[1]) for part in rows[CORRELATION].found.split(", ")]
    assert max(found) < 0.7
    with pytest.raises(InputError) as caught:
        refuse_strangers(list(rows.values()), root, accepted=False)
    sentence = str(caught.value)
    assert (
        f"correlation of the repeats' ncsnr with the file's: {rows[CORRELATION].found}, expected"
        in sentence
    )
    assert "hemispheres, sessions or subjects are exchanged" in sentence
    assert "--accept_differences" in sentence and "\n" not in sentence
    refuse_strangers(list(rows.values()), root, accepted=True)


def test_exchanged_hemispheres_show_in_a_part_of_the_sessions(exchanged, tmp_path):
    rows = rows_of(exchanged(*HEMISPHERES), tmp_path / "work", (1, 2, 3, 5))
    assert rows[CORRELATION].verdict == "differs"
    assert rows[CORRELATION].published == "not less than with the other hemisphere's"


@pytest.mark.parametrize("sessions", [None, (1, 2, 3, 4, 5)])
def test_a_single_session_of_the_other_hemisphere_is_named(exchanged, tmp_path, sessions):
    root = exchanged(HEMISPHERES[3])
    rows = rows_of(root, tmp_path / "work", sessions)
    for hemisphere in ("lh", "rh"):
        row = rows[f"sessions' agreement on the same images, {hemisphere}"]
        assert row.verdict == "differs" and row.found.startswith("session 4 ")
    with pytest.raises(InputError, match=r"agreement on the same images, lh: session 4 -?0\.0"):
        refuse_strangers(list(rows.values()), root, accepted=False)


def test_two_sessions_of_a_hemisphere_that_are_exchanged_are_named(exchanged, tmp_path):
    root = exchanged(("lh.betas_session02.mgh", "lh.betas_session05.mgh"))
    rows = rows_of(root, tmp_path / "work")
    found = rows["sessions' agreement on the same images, lh"]
    assert found.verdict == "differs"
    assert [part.split()[1] for part in found.found.split(", ")] == ["2", "5"]
    assert rows["sessions' agreement on the same images, rh"].verdict == ""


def moments(images):
    """A stand-in for the VAE."""
    values = images[:, ::12, ::12].astype(np.float32) / 127.5 - 1
    return values, 0.1 + values**2


def test_preparing_stops_before_the_folder_appears(exchanged, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root, folder = exchanged(*HEMISPHERES), tmp_path / "prepared"
    selection = NSDSelection(space="fsaverage5", num_validation=7)

    def prepare(**choices):
        settings = PreparationSettings(image_size=24, batch_size=11, progress=False, **choices)
        return prepare_subject(root, folder, ImageEncoder(moments, "x"), selection, settings)

    with pytest.raises(InputError, match="do not belong together"):
        prepare()
    assert not folder.exists()
    prepare(accept_differences=True)
    provenance = json.loads((folder / "provenance.json").read_text())
    verdicts = {row["what"]: row["verdict"] for row in provenance["checks"]}
    assert verdicts[CORRELATION] == "differs"


def test_agreement_is_the_mean_correlation_with_other_sessions():
    """NumPy in loops, of a made subject: 3 sessions of 40 trials, 20 images, 131 + 151 vertices."""
    rng = np.random.default_rng(3)
    shown = rng.permuted(np.repeat(np.arange(20), 6))
    sessions = np.repeat(np.arange(3), 40)
    signal = rng.normal(size=(20, 282))
    z = (signal[shown] + 3 * rng.normal(size=(120, 282))).astype(np.float32)
    agreement = SessionAgreement(rng.uniform(0, 1, 282).astype(np.float32), (131, 151), 3)
    values = [[[], [], []], [[], [], []]]
    for image in range(20):
        own = np.flatnonzero(shown == image)
        agreement.add(z[own], sessions[own])
        for trial in own:
            others = own[sessions[own] != sessions[trial]]
            for side, part in enumerate((slice(131), slice(131, None))):
                mean = z[others, part].mean(axis=0)
                values[side][sessions[trial]].append(np.corrcoef(z[trial, part], mean)[0, 1])
    expected = [[np.mean(r) for r in side] for side in values]
    np.testing.assert_allclose(agreement.means(), expected, rtol=1e-5)
    assert agreement.strangers() == []


def test_few_trials_or_vertices_are_not_judged():
    agreement = SessionAgreement(np.ones(190, np.float32), (99, 91), 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        agreement.add(rng.normal(size=(3, 190)).astype(np.float32), np.arange(3))
    assert np.isnan(agreement.means()).all() and agreement.strangers() == []
    agreement = SessionAgreement(np.ones(400, np.float32), (200, 200), 3)
    for _ in range(9):
        agreement.add(rng.normal(size=(3, 400)).astype(np.float32), np.arange(3))
    assert np.isnan(agreement.means()).all()
