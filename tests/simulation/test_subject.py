import dataclasses
import re

import numpy as np
import pytest
import scipy.sparse.csgraph

from neuroadapter_jax.simulation import subject as module
from neuroadapter_jax.simulation.layout import CATEGORY_ROIS, ROIS, grow_discs, load_hemispheres
from neuroadapter_jax.simulation.scenes import CATEGORIES, sample_scenes
from neuroadapter_jax.simulation.subject import SubjectConfig, make_subject

# Literature's places, left hemisphere, mm (MNI): the right one is mirrored.
PUBLISHED = {
    "hV4": (-29, -80, -13),
    "OFA": (-38, -80, -12),
    "FFA-1": (-40, -52, -20),
    "EBA": (-47, -74, 5),
    "FBA-1": (-41, -41, -23),
    "OPA": (-32, -84, 22),
    "PPA": (-26, -46, -9),
    "RSC": (-14, -56, 10),
    "VWFA-1": (-46, -57, -15),
    "LO": (-42, -80, -3),
}


@pytest.fixture(scope="module")
def subject():
    return make_subject(SubjectConfig(seed=7))


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(307, seed=901)


@pytest.fixture(scope="module")
def signal(subject, scenes):
    return subject.signal(scenes)


def test_rois_have_their_sizes_and_places(subject):
    for side, hemisphere in enumerate(load_hemispheres()):
        roi = np.split(subject.roi, 2)[side]
        assert len(roi) == 10_242
        assert not (roi[hemisphere.medial_wall] != "").any()
        early = [sum(np.char.startswith(roi, name)) for name in ("V1", "V2", "V3", "hV4")]
        assert early == [250, 200, 150, 75]
        assert set(roi) == {*ROIS, ""}
        assert 1_150 < (roi != "").sum() < 1_300
        for name in ROIS:
            members = np.flatnonzero(roi == name)
            mesh = hemisphere.neighbours[members][:, members]
            _, part = scipy.sparse.csgraph.connected_components(mesh)
            assert np.bincount(part).max() >= 0.75 * len(members), name
            if name in PUBLISHED:
                expected = np.array(PUBLISHED[name]) * [1 - 2 * side, 1, 1]
                assert np.linalg.norm(hemisphere.white[members].mean(axis=0) - expected) < 12, name
        ventral, dorsal = (hemisphere.white[roi == f"V1{half}", 2].mean() for half in "vd")
        assert ventral + 5 < dorsal


def test_medial_wall_is_one_patch_at_the_midline():
    for hemisphere in load_hemispheres():
        wall = hemisphere.medial_wall
        mesh = hemisphere.neighbours[wall][:, wall]
        assert scipy.sparse.csgraph.connected_components(mesh)[0] == 1
        assert 400 < wall.sum() < 1_000
        assert np.median(np.abs(hemisphere.white[wall, 0])) < 15


def test_discs_share_no_vertex_and_keep_to_what_is_allowed():
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(997, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    allowed = sphere[:, 0] > -0.2
    sizes = np.array([31, 53, 17])
    near = np.argsort(-sphere @ [1, 0, 0])[[0, 3, 8]]
    owner = grow_discs(sphere, sphere[near], sizes, allowed)
    assert [(owner == k).sum() for k in range(3)] == sizes.tolist()
    assert (owner[~allowed] == -1).all()
    with pytest.raises(ValueError, match="discs find no room"):
        grow_discs(sphere, sphere[near], sizes, sphere[:, 0] > 0.9)


def test_receptive_fields_are_contralateral_and_cover_the_half_field(subject):
    retinotopic = subject.channel >= 0
    right = subject.responsive >= 10_242
    names = subject.roi[subject.responsive]
    assert (subject.rf_centre[retinotopic & ~right, 1] > 31.5).all()
    assert (subject.rf_centre[retinotopic & right, 1] < 31.5).all()
    ventral = np.isin(names, ["V1v", "V2v", "V3v"])
    assert (subject.rf_centre[ventral, 0] < 31.5).all()
    rois = ("V1", "V2", "V3", "hV4")
    sizes = [subject.rf_sigma[np.char.startswith(names, a)].mean() for a in rois]
    assert sizes == sorted(sizes)
    # Every 8 x 8 pixel tile is in the field of some vertex of V1 and of V2.
    for roi in ("V1", "V2"):
        tiles = subject.rf_centre[np.char.startswith(names, roi)] // 8
        assert len(np.unique(np.clip(tiles, 0, 7), axis=0)) == 64


def test_a_change_in_one_half_of_the_image_stays_with_the_other_hemisphere(subject, scenes):
    changed = dataclasses.replace(scenes, images=scenes.images.copy())
    changed.images[:, :, :32] = 255 - changed.images[:, :, :32]
    few = [dataclasses.replace(s, images=s.images[:5], scenes=s.scenes[:5],
                               place=s.place[:5], ground=s.ground[:5], sky=s.sky[:5])
           for s in (scenes, changed)]  # fmt: skip
    change = np.abs(subject.signal(few[0]) - subject.signal(few[1])).mean(axis=0)
    change /= subject.signal_sd
    v1 = np.char.startswith(subject.roi[subject.responsive], "V1")
    right = subject.responsive >= 10_242
    far = np.abs(subject.rf_centre[:, 1] - 31.5) > 12
    assert change[v1 & far & ~right].max() < 1e-3
    assert np.median(change[v1 & far & right]) > 0.3


def test_retinotopic_response_follows_the_written_equation(subject, scenes, signal):
    for channel in range(4):
        for m in np.flatnonzero(subject.channel == channel)[[0, 101]]:
            (cy, cx), sigma = subject.rf_centre[m], subject.rf_sigma[m]
            for i in (0, 3):
                rgb = scenes.images[i].astype(float) / 255
                light = rgb.sum(axis=-1) / 3
                total = weight = 0.0
                for y in range(64):
                    for x in range(64):
                        up, down = max(y - 1, 0), min(y + 1, 63)
                        left, east = max(x - 1, 0), min(x + 1, 63)
                        dy = (light[down, x] - light[up, x]) / (down - up)
                        dx = (light[y, east] - light[y, left]) / (east - left)
                        r, g, b = rgb[y, x]
                        feature = (light[y, x], r - g, b - (r + g) / 2, (dx**2 + dy**2) ** 0.5)
                        w = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
                        total, weight = total + w * feature[channel], weight + w
                z = (total / weight - subject.drive_mean[m]) / subject.drive_sd[m]
                expected = subject.amplitude[m] * 5 * np.tanh(z / 5)
                assert signal[i, m] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_category_rois_prefer_their_category_in_the_contralateral_field(subject, scenes, signal):
    z = signal / subject.signal_sd
    names = subject.roi[subject.responsive]
    right = subject.responsive >= 10_242
    for roi, category in CATEGORY_ROIS.items():
        found = scenes.categories == CATEGORIES.index(category)
        present = found.any(axis=1)
        for side, outer in ((False, (2, 5)), (True, (0, 3))):
            mean = z[:, (names == roi) & (right == side)].mean(axis=1)
            contralateral = found[:, outer].any(axis=1)
            ipsilateral = found[:, [5 - s for s in outer]].any(axis=1) & ~contralateral
            ipsilateral &= ~found[:, (1, 4)].any(axis=1)
            assert mean[contralateral].mean() > mean[~present].mean() + 1, (roi, side)
            assert mean[contralateral].mean() > mean[ipsilateral].mean() + 0.7, (roi, side)


def test_scene_rois_ignore_objects_and_tell_settings_apart(subject, scenes, signal):
    ppa = np.isin(subject.roi[subject.responsive], ["PPA", "OPA", "RSC"])
    signal = signal[:, ppa]
    setting = np.stack([scenes.place, scenes.ground, scenes.sky], axis=1)
    _, group = np.unique(setting, axis=0, return_inverse=True)
    for g in range(group.max() + 1):
        assert np.ptp(signal[group == g], axis=0).max() < 1e-4


def test_signal_has_the_stated_spread_on_fresh_scenes(subject, signal):
    ratio = signal.std(axis=0) / subject.signal_sd
    assert 0.9 < np.median(ratio) < 1.1
    assert np.abs(signal.mean(axis=0) / subject.signal_sd).max() < 0.4
    snr = subject.signal_sd / subject.noise_sd[subject.responsive]
    assert np.median(snr) == pytest.approx(1, abs=0.05)
    assert 0.2 < np.log(snr).std() < 0.3


def test_the_seed_decides(monkeypatch):
    monkeypatch.setattr(module, "CALIBRATION_SCENES", 29)
    one, same = (make_subject(SubjectConfig(seed=3)) for _ in range(2))
    other = make_subject(SubjectConfig(seed=4))
    for field in dataclasses.fields(one):
        value = getattr(one, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(same, field.name))
    assert (one.object_tuning != other.object_tuning).any()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_repeats": 1}, "num_repeats is 1"),
        ({"num_images": 70}, "num_shared is 250"),
        ({"trials_per_session": 700}, "trials_per_session is 700; expected a divisor of"),
        ({"snr": 0.0}, "snr is 0.0; expected a number above 0"),
        ({"noise_smoothness": 1.0}, "noise_smoothness is 1.0; expected a number from 0 to below 1"),
    ],
)
def test_impossible_configurations_are_refused(values, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        SubjectConfig(**values)
