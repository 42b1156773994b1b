"""The ablation table against plain loops and closed forms."""

import numpy as np
import pytest

from neuroadapter_jax.evaluation.features import (
    IMAGENET,
    FeatureMetric,
    MissingWeightsError,
    Network,
)
from neuroadapter_jax.evaluation.protocol import score_images
from neuroadapter_jax.pipeline import Reconstructions
from neuroadapter_jax.simulation.nsd_writer import load_scenes
from neuroadapter_jax.simulation.scenes import CATEGORIES, render
from neuroadapter_jax.studies.ablation import scores as ablation
from neuroadapter_jax.studies.ablation.results import (
    ablation_results,
    crossed_bootstrap,
    direction,
)
from neuroadapter_jax.studies.ablation.scores import (
    ImageScores,
    score_choice,
    score_mean_candidate,
)
from neuroadapter_jax.studies.ablation.tables import tables
from neuroadapter_jax.studies.ablation.variants import FULL, NO_SELECTION

K, B = 3, 11
IDS = np.arange(B) * 7


def runs_of(points, out_of=None, **changes):
    """Runs of one score, pixcorr, for each seed of points [k, b]."""
    out_of = np.ones(points.shape[1]) if out_of is None else out_of
    return [
        ImageScores(IDS[: len(row)], {"pixcorr": row}, {"pixcorr": out_of}, {})._replace(**changes)
        for row in points
    ]


def test_seeds_and_images_are_drawn_with_replacement(rng):
    points, out_of = rng.integers(0, 4, (K, B)), np.tile(rng.integers(1, 5, B), (K, 1))
    found = crossed_bootstrap(points, out_of, seed=5, num_resamples=13)
    again = np.random.default_rng(5)
    rows = again.multinomial(K, [1 / K] * K, size=13)
    columns = again.multinomial(B, [1 / B] * B, size=13)
    for value, row, column in zip(found, rows, columns, strict=True):
        k, b = np.repeat(np.arange(K), row), np.repeat(np.arange(B), column)
        assert len(k) == K and len(b) == B
        hits = sum(points[i, j] for i in k for j in b)
        assert value == pytest.approx(hits / sum(out_of[i, j] for i in k for j in b))


def test_its_variance_is_that_of_the_pigeonhole_bootstrap(rng):
    """Owen 2007 for a full table: E (w_k u_b)^2 and the like, over multinomial counts."""
    seeds, images = rng.standard_normal((K, 1)), rng.standard_normal((1, B))
    points = 0.3 * seeds + images + 0.5 * rng.standard_normal((K, B))
    resampled = crossed_bootstrap(points, np.ones((K, B)), num_resamples=200_000)
    covariance = [np.eye(n) - 1 / n for n in (K, B)]  # of the counts w and u
    both = covariance[0] @ points @ covariance[1]
    variance = (
        (covariance[0] @ points.sum(axis=1)) @ points.sum(axis=1)
        + (covariance[1] @ points.sum(axis=0)) @ points.sum(axis=0)
        + (both * points).sum()
    ) / (K * B) ** 2
    assert resampled.mean() == pytest.approx(points.mean(), abs=5 * (variance / 200_000) ** 0.5)
    assert resampled.var() == pytest.approx(variance, rel=0.02)


def test_values_and_paired_differences(rng):
    """A variant that loses the same everywhere: its own interval is wide, its difference's nil."""
    full = rng.standard_normal((K, B))
    other = full - 0.25
    found = ablation_results({FULL: runs_of(full), "quarter_p": runs_of(other)})
    own = found["quarter_p"]["scores"]["pixcorr"]
    assert own["value"] == pytest.approx(other.mean())
    np.testing.assert_allclose(own["per_seed"], other.mean(axis=1))
    assert own["interval"][1] - own["interval"][0] > 0.3
    difference = found["quarter_p"]["difference"]["pixcorr"]
    np.testing.assert_allclose([difference["value"], *difference["interval"]], -0.25)
    assert found["quarter_p"]["ours"] == {"low level": "worse", "high level": "not measured"}
    assert found["quarter_p"]["paper"] == "worse"
    assert "difference" not in found[FULL]


def test_a_share_is_hits_over_shown(rng):
    hits = rng.integers(0, 3, (K, B)).astype(float)
    shown = rng.integers(3, 6, B).astype(float)
    found = ablation_results({FULL: runs_of(hits, shown)})[FULL]["scores"]["pixcorr"]
    assert found["value"] == pytest.approx(hits.sum() / (K * shown.sum()))


@pytest.mark.parametrize(
    ("score", "interval", "expected"),
    [
        ("pixcorr", [0.01, 0.02], "better"),
        ("pixcorr", [-0.02, -0.01], "worse"),
        ("pixcorr", [-0.01, 0.02], "undecided"),
        ("distance_effnet", [0.01, 0.02], "worse"),
        ("distance_effnet", [-0.02, -0.01], "better"),
    ],
)
def test_directions(score, interval, expected):
    other = {"interval": [7.0, 9.0]}
    assert direction({"ssim": other, score: {"interval": interval}}, ("x", score)) == expected


def test_tables_say_values_directions_and_what_is_missing(rng):
    full, other = np.full((K, B), 0.5), np.full((K, B), 0.375)
    missing = {
        "two_way_alexnet2": "no weights",
        "two_way_clip": "no net",
        "distance_swav": "no net",
    }
    found = ablation_results({"mine": runs_of(other), FULL: runs_of(full)})
    text = tables(found, missing)
    lines = text.splitlines()
    assert lines[0] == "|  | PixCorr |"
    assert lines[2:4] == [
        "| full | 0.500 [0.500, 0.500] |",
        "| mine | 0.375 [0.375, 0.375] |",
    ]
    row = "| mine | not known | worse | not measured | -0.125 [-0.125, -0.125] |"
    assert row in lines
    assert lines[-3:] == [
        "Not computed: AlexNet(2) (no weights).",
        "",
        "Not computed: CLIP, SwAV (no net).",
    ]


def test_runs_that_do_not_belong_together_are_refused(rng):
    full = runs_of(rng.standard_normal((K, B)))
    with pytest.raises(ValueError, match="'full' has to be one of them"):
        ablation_results({"quarter_p": full})
    with pytest.raises(ValueError, match="quarter_p has 2 seeds and full has 3"):
        ablation_results({FULL: full, "quarter_p": full[:2]})
    others = runs_of(rng.standard_normal((K, B)), image_ids=IDS + 1)
    with pytest.raises(ValueError, match="quarter_p holds other images than full"):
        ablation_results({FULL: full, "quarter_p": others})


@pytest.fixture
def networks(monkeypatch):
    """None of the networks, whose imports take long; one that is missing."""

    def load(folder, download):
        raise MissingWeightsError("no weights")

    absent = Network("clip", 8, IMAGENET, (FeatureMetric("two_way_clip", "", "", "two_way"),), load)
    monkeypatch.setattr(ablation, "PUBLISHED_NETWORKS", (absent,))
    monkeypatch.setattr(ablation, "NETWORKS", (absent,))


def test_choice_and_mean_candidate(rng, tmp_path, networks):
    """Candidates are the stimulus in noise of two strengths; the better one is chosen."""
    stimuli = rng.integers(0, 256, (B, 16, 16, 3), np.uint8)
    noise = np.array([20.0, 90.0])[:, None, None, None]
    reconstructions = np.clip(
        stimuli[:, None] + noise * rng.standard_normal((B, 2, 16, 16, 3)), 0, 255
    )
    reconstructions = reconstructions.astype(np.uint8)
    made = Reconstructions(
        image_ids=IDS,
        stimuli=stimuli,
        has_target=np.ones(B, bool),
        names=("",) * B,
        candidates=reconstructions,
        settings={},
        chosen=np.zeros(B, int),
        scores=rng.standard_normal((B, 2)),
    )
    better, worse = (
        score_images(
            stimuli, np.ascontiguousarray(reconstructions[:, j]), networks=(), progress=False
        ).per_image
        for j in range(2)
    )
    own, mean = score_choice(made), score_mean_candidate(made)
    assert own.points.keys() == {"pixcorr", "ssim"} and own.missing == {
        "two_way_clip": "no weights"
    }
    for name in own.points:
        np.testing.assert_array_equal(own.points[name], better[name])
        np.testing.assert_allclose(mean.points[name], (better[name] + worse[name]) / 2)
    mean.save(tmp_path / "scores.npz")
    again = ImageScores.load(tmp_path / "scores.npz")
    assert again.missing == mean.missing
    np.testing.assert_array_equal(again.image_ids, IDS)
    for part in ("points", "out_of"):
        got, truth = getattr(again, part), getattr(mean, part)
        assert got.keys() == truth.keys()
        for name in truth:
            np.testing.assert_array_equal(got[name], truth[name])
    found = ablation_results({FULL: [own], NO_SELECTION: [mean]})[NO_SELECTION]
    assert found["ours"]["low level"] == "worse"


def test_objects_of_the_simulated_subject(tmp_path, networks):
    """Of the stimuli themselves every object is found, of a grey image only by chance."""
    ids = np.array([3, 8, 9, 21, 40])
    (tmp_path / "simulation.json").write_text('{"seed": 4}')
    scenes = load_scenes(tmp_path, ids)
    categories = np.full((ids.max() + 1, 6), -1, np.int16)
    for i, scene in zip(ids, scenes, strict=True):
        for item in scene.objects:
            categories[i, item.slot] = CATEGORIES.index(item.scene_object.category)
    np.savez(
        tmp_path / "truth.npz",
        categories=categories,
        masks_packed=np.zeros((41, 3, 512), np.uint8),
        image_size=64,
    )
    stimuli = np.stack([render(scene)[0] for scene in scenes])
    grey = np.full_like(stimuli, 128)
    reconstructions = np.stack([grey, stimuli], axis=1)
    made = Reconstructions(
        image_ids=ids,
        stimuli=stimuli,
        has_target=np.ones(5, bool),
        names=("",) * 5,
        candidates=reconstructions,
        settings={},
        chosen=np.ones(5, int),
        scores=np.zeros((5, 2)),
    )
    own, mean = score_choice(made, tmp_path), score_mean_candidate(made, tmp_path)
    objects = [len(scene.objects) for scene in scenes]
    for name in ("semantic_recall", "object_identity"):
        np.testing.assert_array_equal(own.out_of[name], objects)
        np.testing.assert_array_equal(own.points[name], objects)
        assert mean.points[name].sum() < 0.75 * sum(objects)


def test_scores_of_version_0_1_0_are_read(tmp_path):
    part = {"points/thing_identification": np.ones(2), "out_of/thing_identification": np.ones(2)}
    np.savez(tmp_path / "scores.npz", image_ids=np.arange(2), **part)
    found = ImageScores.load(tmp_path / "scores.npz")
    assert found.points.keys() == found.out_of.keys() == {"object_identity"}
