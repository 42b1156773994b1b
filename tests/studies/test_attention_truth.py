"""The study's tables on made-up views whose answers are known."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats
import xarray
from scipy.stats import spearmanr
from tiny_pipeline import make_pipeline

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.evaluation.appearance import MEASURES
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader
from neuroadapter_jax.ibbi.matching import RegionTraits
from neuroadapter_jax.simulation.scenes import CATEGORIES, sample_scenes
from neuroadapter_jax.studies.attention_truth import (
    categories,
    check_pieces,
    document,
    maps,
    models,
    ranks,
    tables,
)
from neuroadapter_jax.studies.resume import cached

B, T, SIDE = 23, 3, 8
ROIS = ["Face", "VTC-food", "lh.V1", "rh.V1"]


def made_truth(rng):
    """Two masks per image: a face at one corner, food at another, not in every image."""
    masks = np.zeros((B, 3, SIDE, SIDE), bool)
    slots = np.full((B, 3), -1, np.int8)
    categories = np.full((B, 6), -1, np.int8)
    for i in range(B):
        y, x = rng.integers(0, 3, 2)
        masks[i, 0, y : y + 2, x : x + 2] = True
        slots[i, 0], categories[i, 2] = 2, CATEGORIES.index("face")
        if i % 3 == 0:
            masks[i, 1, 5 + y % 2 :, 4:6] = True
            slots[i, 1], categories[i, 5] = 5, CATEGORIES.index("food")
    return {
        "masks": masks,
        "mask_slots": slots,
        "categories": categories,
        "category_names": np.array(CATEGORIES),
    }


@pytest.fixture
def truth(rng):
    return made_truth(rng)


@pytest.fixture
def views(truth, rng):
    """The face ROI's map is the face; the food ROI's noise; V1 of each side points to the right."""
    looks = 0.1 * rng.random((B, T, 4, SIDE, SIDE))
    looks[:, :, 0] += truth["masks"][:, None, 0]
    looks[:, :, 2, :, :4], looks[:, :, 2, :, 4:] = 1.0, 3.0
    looks[:, :, 3] = looks[:, :, 2]
    looks = (looks / looks.sum((-2, -1), keepdims=True)).astype(np.float32)
    effect = looks[:, ::2]
    return xarray.Dataset(
        {
            "image_view": (("sample", "step", "roi", "y", "x"), looks),
            "effect_view": (("sample", "shown", "roi", "y", "x"), effect),
        },
        {"roi": ROIS},
        {"reduction": "attention"},
    )


def test_masks_of_categories(truth):
    found = maps.category_masks(truth, np.arange(B)[::-1])
    np.testing.assert_array_equal(found["face"], truth["masks"][::-1, 0])
    assert found["food"].any((1, 2)).tolist() == [i % 3 == 0 for i in range(B)][::-1]
    assert not found["word"].any()


def test_a_map_that_points_at_the_object_is_told_from_one_that_does_not(views, truth):
    masks = maps.category_masks(truth, np.arange(B))
    found = maps.localisation_tables(views, masks)
    assert list(found) == ["attention", "attention, contrast", "effect", "effect, contrast"]
    own = found["attention"]
    assert list(own) == ["Face", "VTC-food", "all ROIs"]
    assert own["Face"]["pointing"]["value"] == 1 and own["Face"]["num_images"] == B
    assert own["VTC-food"]["num_images"] == 8 and own["VTC-food"]["auc"]["value"] < 0.8
    assert own["all ROIs"]["num_images"] == B and own["all ROIs"]["num_pairs"] == B + 8
    face = own["Face"]["auc_above_permuted"]
    assert own["Face"]["family"] == 4 and face["p"] < face["p_holm"] < 0.01
    halves = maps.retinotopy_tables(views)["attention"]
    np.testing.assert_allclose(halves["lh.V1"]["value"], 0.75, rtol=1e-5)
    np.testing.assert_allclose(halves["rh.V1"]["value"], 0.25, rtol=1e-5)


def test_rank_agreement_is_spearmans(rng):
    view, effect, planted = rng.random((5, 11)), rng.random((5, 11)), rng.random(11)
    found = ranks.rank_agreement(view, {"effect": effect}, planted)
    assert list(found) == ["brain view and effect", "brain view and planted", "effect and planted"]
    rows = [spearmanr(view[i], effect[i]).statistic for i in range(5)]
    np.testing.assert_allclose(found["brain view and effect"]["value"], np.mean(rows))
    mean = spearmanr(effect.mean(0), planted).statistic
    np.testing.assert_allclose(found["effect and planted"]["of_means"], mean)


def test_planted_influence_is_the_regions_signal():
    regions = Parcellation(
        ("a", "b"), ("lh", "rh"), (np.array([0, 2], np.int32), np.array([1], np.int32)), (3, 2)
    )
    truth = {"signal_sd": np.array([1.0, 5, 2, 7, 3]), "noise_sd": np.array([1.0, 1, 4, 1, 2])}
    found = ranks.planted_influence(truth, regions)
    np.testing.assert_allclose(found, [1 + 0.25, 2.25])


def test_changed_categories_are_counted():
    scenes = sample_scenes(29, 5)
    intact, other = scenes.images, sample_scenes(29, 7).images
    names = list(CATEGORIES)
    rois = {"Face": np.arange(11) < 2, "LO": np.arange(11) == 5, "Word": np.zeros(11, bool)}

    def reconstruct(rows, members, perturbation):
        # Without the face ROI every image becomes another; any other set changes nothing.
        assert perturbation == "mean"
        gone = members[:, :2].all(axis=1)[:, None, None, None]
        return np.where(gone, other[rows], intact[rows])

    reader = load_scene_reader()
    found = categories.category_table(
        reconstruct,
        intact,
        scenes.categories,
        names,
        rois,
        RegionTraits(np.linspace(1.0, 1.1, 11), np.full(11, 5), ("lh",) * 11),
        reader,
        "mean",
        num_random=2,
    )
    assert list(found) == ["Face", "LO", "all ROIs"]
    assert found["Face"]["changed"]["value"] > 0.6 and found["LO"]["changed"]["value"] == 0
    assert found["Face"]["changed_by_random_sets"]["value"] == 0
    difference = found["Face"]["difference"]
    assert difference["value"] == found["Face"]["changed"]["value"] > difference["interval"][0] > 0
    assert difference["p"] < 0.01 < found["LO"]["difference"]["p"] == 1
    assert found["Face"]["match"]["matched"] and found["Face"]["regions"] == 2
    # The reader is right on nearly all stimuli, so nearly every face and object is counted.
    shown = {
        name: int((scenes.categories == names.index(name)).sum()) for name in ("face", "object")
    }
    assert 0.9 * shown["face"] <= found["Face"]["objects"] <= shown["face"]
    assert found["all ROIs"]["objects"] == found["Face"]["objects"] + found["LO"]["objects"]


def test_parts_are_stored_with_their_settings(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"x": (1.5, len(calls))}

    path = tmp_path / "parts" / "a.json"
    for settings, expected in (({"k": (1, 2)}, 1), ({"k": (1, 2)}, 1), ({"k": (1, 3)}, 2)):
        found = cached(path, settings, compute)
        assert found == {"x": [1.5, expected]}


def test_tables_hold_the_results(views, truth, rng):
    localised = maps.localisation_tables(views, maps.category_masks(truth, np.arange(B)))
    score = {"value": 0.5, "interval": [0.25, 0.75]}
    test = score | {"p": 0.01, "p_holm": 0.0004}
    lost = {"objects": 7, "changed": score, "changed_by_random_sets": score, "difference": test}
    report = {
        "matched": False,
        "num_sets": 0,
        "num_regions": 5,
        "failed": ["mean_snr"],
        "mean_snr": {"own": 0.92, "mean": 0.63, "range": [0.62, 0.64]},
    }
    measures = [*MEASURES, "pixel_correlation", "recall"]
    moved = dict.fromkeys(measures, score) | {"regions": 5, "match": report, "less_random": {}}
    late = moved | {"less_random": dict.fromkeys(measures, test), "match": report}
    late["match"] = report | {"matched": True, "num_sets": 3, "failed": []}
    both = {
        key: {"curve": [score] * 2, "area_under_curve": score}
        for key in ("pixel_correlation", "recall")
    }
    gain = dict.fromkeys(("pixel_correlation", "recall"), score | {"value": 0.625})
    curve = {"deletion": both, "insertion": both, "gain": gain}
    results = {
        "num_images": B,
        "regions": dict.fromkeys(ROIS, 3),
        "localisation": localised,
        "retinotopy": maps.retinotopy_tables(views),
        "ranks": {
            name: ranks.rank_agreement(
                rng.random((5, 11)), {"effect": rng.random((5, 11))}, rng.random(11)
            )
            for name in ("attention", "gradient")
        },
        "models": models.model_table(
            {
                name: {"kind": kind, "objects": score, "localisation": localised["attention"]}
                for name, kind in (("a", "trained"), ("b", "trained"), ("c", "untrained"))
            }
        ),
        "families": {"categories": 2, "changes": 7},
        "categories": {
            "silence": {"all ROIs": lost, "Word": {"match": report, **lost, "regions": 1}},
            "swap": {"Face": lost, "LO": lost | {"difference": None}},
        },
        "changes": {"mean": {"early": moved, "late": late}, "silence": {"early": moved}},
        "deletion": {
            "num_images": 3,
            "shares": [0.0, 1.0],
            "curves": dict.fromkeys(("attention", "gradient", "random"), curve),
        },
        "counts": {"effects": 5, "categories": {"swap": 19}, "changes": 17, "random": {"swap": 3}},
    }
    json.dumps(results)
    text = tables(results)
    assert "| Face | face | 3 | 23 |" in text
    assert "| swap | LO |  | 7 | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] | – |" in text
    assert (
        "| swap | Face |  | 7 | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75], p <"
        in text
    )
    assert "| early | 5 | **not matched** | 0.92 / 0.63 [0.62, 0.64] | – |" in text
    assert "| late | 5 | 3 sets |" in text and "| mean of 2 seeds | trained |" in text
    assert "| gradient | brain view and effect |" in text
    assert "| gradient | effect and planted |" not in text
    assert "(swap: 19 images and 3 random sets per ROI)" in text and "(17 images;" in text
    assert "| mean | early | 5 | 0.500 [0.250, 0.750] |" in text
    assert "| random | 0.500 [0.250, 0.750] | 0.500 [0.250, 0.750] | 0.625 [" in text
    assert text.count("\n| ---") == 11
    whole = document.document(results)
    assert text in whole and whole.count("](images/") == 3
    assert "**Where an ROI looks can be believed.**" in whole
    assert "No set is matched to Word, so these were not compared." in whole
    assert "no set outside it is matched: mean SNR 0.92 against 0.63 of the nearest sets." in whole
    assert "6 tests of adapters; 2 of categories lost" in whole and "Over 2 trainings" in whole


def test_an_adapter_that_still_points_is_not_said_to_have_lost_it(views, truth):
    localised = maps.localisation_tables(views, maps.category_masks(truth, np.arange(B)))
    score = {"value": 0.5, "interval": [0.25, 0.75]}
    each = {"objects": score, "localisation": localised["attention"]}
    found = {"a": each | {"kind": "trained"}, "shuffled keys": each | {"kind": "shuffled keys"}}
    told = document._models(models.model_table(found))
    assert len(told) == 1 and "does not always lose it" in told[0]


def test_seeds_have_students_interval():
    values = [0.5, 0.7, 0.75]
    found = models.mean_over_runs(values)
    expected = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    np.testing.assert_allclose(found["interval"], expected)
    assert found["value"] == np.mean(values) and found["runs"] == 3


def test_objects_found_are_counted_where_there_are_any():
    categories = np.array([[2, -1, 3], [-1, 4, -1]])
    read = np.array([[2, 5, -1], [0, 4, 3]])
    assert models.objects_found(read, categories)["value"] == pytest.approx(2 / 3)


def test_randomised_adapters_keep_what_they_may(random_backbone, as_user):
    random_pipeline = make_pipeline(random_backbone)
    intact = [np.asarray(x.kernel[...]) for x in random_pipeline.adapter.attention.to_k_ip]
    shuffled = models.randomised(random_pipeline, "shuffled keys", seed=3)
    again = models.randomised(random_pipeline, "shuffled keys", seed=3)
    for before, layer, same in zip(
        intact,
        shuffled.adapter.attention.to_k_ip,
        again.adapter.attention.to_k_ip,
        strict=True,
    ):
        after = np.asarray(layer.kernel[...])
        assert (after != before).mean() > 0.9
        np.testing.assert_array_equal(np.sort(after.ravel()), np.sort(before.ravel()))
        np.testing.assert_array_equal(after, same.kernel[...])
    for before, layer in zip(intact, random_pipeline.adapter.attention.to_k_ip, strict=True):
        np.testing.assert_array_equal(before, layer.kernel[...])  # the given one is untouched
    for one, other in zip(
        random_pipeline.adapter.attention.to_v_ip, shuffled.adapter.attention.to_v_ip, strict=True
    ):
        np.testing.assert_array_equal(one.kernel[...], other.kernel[...])
    new = models.randomised(random_pipeline, "untrained")
    assert new.provenance["randomised"] == "untrained"
    prints = [each.fingerprint for each in (random_pipeline, shuffled, new)]
    assert all(one != other for one, other in itertools.combinations(prints, 2))
    with pytest.raises(ValueError, match="how is 'asleep'; expected one of"):
        models.randomised(random_pipeline, "asleep")


def test_unknown_pieces_are_refused():
    with pytest.raises(ValueError, match="only is 'map'; expected some of maps, models, ranks"):
        check_pieces(("maps", "map"))
    with pytest.raises(ValueError, match="only is 'nothing'"):
        check_pieces(())


def test_results_of_version_0_1_0_make_the_same_tables(views, truth, rng, tmp_path):
    names = {"all ROIs": "all areas", "objects": "things", "area_under_curve": "area"}

    def old(content):
        if isinstance(content, dict):
            return {names.get(key, key): old(value) for key, value in content.items()}
        return content

    score = {"value": 0.5, "interval": [0.25, 0.75]}
    lost = {"objects": 7, "changed": score, "changed_by_random_sets": score, "over_random": score}
    both = {"curve": [score], "area_under_curve": score}
    both = {"pixel_correlation": both, "recall": both}
    gain = {"pixel_correlation": score, "recall": score}
    masks = maps.category_masks(truth, np.arange(B))
    results = {
        "num_images": B,
        "regions": dict.fromkeys(ROIS, 3),
        "localisation": maps.localisation_tables(views, masks),
        "retinotopy": maps.retinotopy_tables(views),
        "ranks": {},
        "categories": {"swap": {"all ROIs": lost}},
        "changes": {},
        "deletion": {
            "num_images": 3,
            "curves": {"random": {"deletion": both, "insertion": both, "gain": gain}},
        },
        "counts": {"effects": 5, "categories": {"swap": 19}, "changes": 17, "random": {"swap": 3}},
    }
    assert old(results) != results and tables(old(results)) == tables(results)
    # So do the parts that a killed run of that version left behind.
    path = tmp_path / "deletion.json"
    path.write_text(json.dumps({"settings": {"seed": 0}, "result": old(results["deletion"])}))
    assert cached(path, {"seed": 0}, dict) == results["deletion"]
