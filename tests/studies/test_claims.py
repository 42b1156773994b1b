"""The claims ledger: its statistics against definitions, its cells, its verdicts."""

import itertools

import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.studies.claims import run as ledger
from neuroadapter_jax.studies.claims.attention import matched_pairs
from neuroadapter_jax.studies.claims.cells import (
    EVALUATIONS,
    ClaimsPlan,
    all_cells,
    chosen_cells,
    read_cells,
    write_cell,
)
from neuroadapter_jax.studies.claims.claims import CLAIMS, Cells
from neuroadapter_jax.studies.claims.decoding import lost_masks
from neuroadapter_jax.studies.claims.images import LABELS
from neuroadapter_jax.studies.claims.report import findings, write_report
from neuroadapter_jax.studies.claims.statistics import Estimate, crossed_mean
from neuroadapter_jax.training.brain_encoder import EncoderSettings
from neuroadapter_jax.training.settings import Settings

DATA = {"prepared": "records", "parcellation": ("lh.annot", "rh.annot")}
INPUTS = {"prepared": ["a", "b"], "parcellation": "c", "backbone": {"unet": "d"}}
SEEDS, B = (3, 5, 7), 37


def plan_of(num_steps=11, rows=("full", "no_token_dropout", "p20"), seeds=SEEDS):
    settings = Settings(**DATA, num_steps=num_steps)
    rows = dict.fromkeys(rows, settings) | {"full": settings}
    encoder = EncoderSettings(**DATA, num_steps=5)
    return ClaimsPlan(rows, seeds, encoder, 13, 2, 3, "ddim", 4)


# Statistics


def test_one_seed_gives_the_images_t_test(rng):
    values = rng.standard_normal((1, B)) + 0.3
    found, expected = crossed_mean(values), stats.ttest_1samp(values[0], 0.0)
    assert found.p_value() == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.interval, expected.confidence_interval())


def test_images_that_are_all_alike_leave_the_seeds_t_test(rng):
    """Without any spread over images the seeds are the whole sample."""
    each = rng.standard_normal((5, 1)) + 0.4
    values = np.tile(each, (1, B))
    found, expected = crossed_mean(values), stats.ttest_1samp(each[:, 0], 0.0)
    assert found.p_value() == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.interval, expected.confidence_interval())


def test_intervals_cover_what_was_drawn_as_often_as_they_say(rng):
    """Trainings differ as much as images do: an interval over images alone covers far less."""
    covered = {"crossed": 0, "images": 0}
    for _ in range(600):
        values = 0.1 * rng.standard_normal((3, 1)) + rng.standard_normal((1, B))
        values = values + 0.7 * rng.standard_normal((3, B)) + 0.25
        for name, table in (("crossed", values), ("images", values.mean(axis=0, keepdims=True))):
            low, high = crossed_mean(table).interval
            covered[name] += low <= 0.25 <= high
    assert 0.925 < covered["crossed"] / 600 < 0.985
    values = 2 * rng.standard_normal((400, 3, 1)) + rng.standard_normal((400, 1, B))
    inside = [np.prod(crossed_mean(x).interval) <= 0 for x in values]
    naive = [np.prod(crossed_mean(x.mean(axis=0, keepdims=True)).interval) <= 0 for x in values]
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean(naive) < 0.4


def test_the_detectable_effect_is_found_four_times_of_five():
    estimate = Estimate(0.0, 0.02, 11.0, 3, B)
    away = estimate.detectable / estimate.error
    limit = stats.t.ppf(0.975, 11.0)
    power = stats.nct.sf(limit, 11.0, away) + stats.nct.cdf(-limit, 11.0, away)
    assert power == pytest.approx(0.8, abs=0.02)


def test_a_mean_refuses_numbers_that_are_not_finite():
    with pytest.raises(InputError, match="5 are finite"):
        crossed_mean(np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]]))


# Cells


def test_cells_come_in_the_order_of_their_claims_and_after_what_they_need():
    cells = list(all_cells(plan_of()))
    assert cells[:5] == ["encoder", "judge", "full-seed3", "no_token_dropout-seed3", "p20-seed3"]
    assert len(cells) == 2 + 3 * 3 + 3 * len(EVALUATIONS)
    for name, cell in all_cells(plan_of()).items():
        assert all(cells.index(need) < cells.index(name) for need in cell.needs())
    assert not any("lost" in name for name in all_cells(plan_of(rows=("p20",))))


def test_a_row_and_a_measurement_name_all_their_cells():
    plan = plan_of()
    assert list(chosen_cells(plan, ["p20"])) == [f"p20-seed{k}" for k in SEEDS]
    assert list(chosen_cells(plan, ["full-seed5", "unseen-seed3"])) == [
        "full-seed5", "unseen-seed3",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"'p21'.*full-seed3.*no_token_dropout"):
        chosen_cells(plan, ["p21"])


def test_a_cell_of_other_settings_or_other_data_is_refused(tmp_path):
    plan = plan_of()
    cell = all_cells(plan)["full-seed5"]
    write_cell(tmp_path, cell, plan, INPUTS, {"scores": [1 / 3]}, 2.04)
    found = read_cells(tmp_path, plan, INPUTS)
    assert found["full-seed5"]["result"] == {"scores": [0.33333]}
    assert found["full-seed5"]["minutes"] == 2.0
    with pytest.raises(InputError, match=r"full-seed5\.json.*full\.num_steps is 11 there, 12 here"):
        read_cells(tmp_path, plan_of(num_steps=12), INPUTS)
    with pytest.raises(InputError, match="content of prepared is another"):
        read_cells(tmp_path, plan, INPUTS | {"prepared": ["a", "z"]})
    # Without the data here, the cells have to agree with one another.
    write_cell(
        tmp_path, all_cells(plan)["p20-seed5"], plan, INPUTS | {"parcellation": "z"}, {}, 1.0
    )
    with pytest.raises(InputError, match=r"p20-seed5\.json.*content of parcellation"):
        read_cells(tmp_path, plan)


def test_where_the_records_lie_makes_no_other_cell(tmp_path):
    plan = plan_of()
    write_cell(tmp_path, all_cells(plan)["full-seed3"], plan, INPUTS, {}, 1.0)
    moved = Settings(prepared="elsewhere", parcellation=("l", "r"), num_steps=11)
    assert read_cells(
        tmp_path,
        ClaimsPlan(dict.fromkeys(plan.rows, moved), SEEDS, plan.encoder, 13, 2, 3, "ddim", 4),
        INPUTS,
    )


def test_a_killed_ledger_goes_on_with_the_cells_that_are_missing(tmp_path, monkeypatch):
    plan, begun = plan_of(rows=("p20",), seeds=(0,)), []
    places = ledger.Places(tmp_path, tmp_path / "cells", tmp_path / "out", {})

    def run(work, cell, places):
        begun.append(cell.name)
        if begun == ["encoder", "judge", "full-seed0"]:
            raise KeyboardInterrupt
        (tmp_path / "out" / "models" / cell.name).mkdir(parents=True)
        return {"value": len(begun)}

    monkeypatch.setattr(ledger, "_run", run)
    monkeypatch.setattr(ledger, "data_fingerprints", lambda plan: INPUTS)
    monkeypatch.setattr(ledger.TestImages, "read", lambda *args: object())
    with pytest.raises(KeyboardInterrupt):
        ledger.run_claims(plan, places, tmp_path / "out")
    assert sorted(read_cells(tmp_path / "cells", plan)) == ["encoder", "judge"]
    found = ledger.run_claims(plan, places, tmp_path / "out", ["full", "selection"])
    assert begun[3:] == ["full-seed0", "selection-seed0"]
    assert found["full-seed0"]["result"] == {"value": 4}
    assert "missing  p20-seed0" in ledger.list_cells(plan, found)
    # Elsewhere, where the numbers are but no networks, what a cell reads is made again first.
    (tmp_path / "out" / "models" / "full-seed0").rmdir()
    ledger.run_claims(plan, places, tmp_path / "out", ["unseen"])
    assert begun[5:] == ["full-seed0", "unseen-seed0"]
    ledger.run_claims(plan, places, tmp_path / "out", max_minutes=1e-9)
    assert len(begun) == 7


# Measurements


def test_a_region_that_is_lost_stays_lost_as_more_are():
    masks = [lost_masks(B, 19, share, seed=2) for share in (0.0, 0.25, 0.5, 0.9)]
    assert [mask.sum(axis=1).tolist() for mask in masks] == [[n] * B for n in (19, 14, 9, 2)]
    for more, less in itertools.pairwise(masks):
        assert (less <= more).all()
    assert len({row.tobytes() for row in masks[2]}) > B // 2


def test_controls_are_of_the_same_hemisphere_and_alike(rng):
    p = 61
    snr, sizes = rng.random(p), rng.integers(10, 40, p)
    sides = tuple(rng.choice(["lh", "rh"], p))
    members, allowed = np.arange(p) < 17, np.arange(p) >= 23
    own, controls = matched_pairs(members, allowed, snr, sizes, sides, seed=3)
    assert own.sum() == controls.sum() > 5
    assert not (controls & ~allowed).any() and not (own & ~members).any()
    for side in ("lh", "rh"):
        here = np.array(sides) == side
        assert (own & here).sum() == (controls & here).sum()
    assert abs(snr[own].mean() - snr[controls].mean()) <= 0.1


# Verdicts


def stored(result):
    return {"cell": "", "settings": {}, "inputs": INPUTS, "minutes": 30.0, "result": result}


def training(rng, shift):
    """Scores of a training: objects found of three in each image, and the curve."""
    scores = {name: (rng.random(B) + shift).tolist() for name in LABELS}
    scores["semantic_recall"] = np.clip(rng.normal(1.2 + 3 * shift, 0.3, B), 0, 3).tolist()
    curve = {"step": [10, 20], "validation": [0.2, 0.1 - shift / 9], "training": [0.3, 0.1]}
    return stored({"curve": curve, "shown": [3] * B, "scores": scores, "mean_scores": scores})


def made_up_cells(rng, **shifts):
    return {
        f"{row}-seed{seed}": training(rng, shift) for row, shift in shifts.items() for seed in SEEDS
    }


def verdicts(found):
    return {x.claim.text: x.verdict for x in findings(Cells(found, SEEDS))}


def test_verdicts_follow_what_was_put_into_the_cells(rng):
    found = made_up_cells(rng, full=0.3, no_token_dropout=0.0, p20=0.5, no_min_snr=0.3)
    told = verdicts(found)
    assert told["Token dropout helps, in meaning"] == "holds"
    assert told["Fewer regions are worse"] == "does not"
    assert told["Min-SNR weights help"] == "undecided"
    assert told["Encoder selection helps, in meaning"] == "not tested yet"
    assert len(told) == len(CLAIMS)


def measurements(rng):
    """Results of every measurement, in all of which the claims hold."""

    def scores(hits, pixels=0.5):
        found = {name: rng.normal(pixels, 0.1, B).tolist() for name in LABELS}
        return found | {"semantic_recall": rng.normal(hits, 0.2, B).tolist()}

    def of_set(hits):
        return {"shown": [3] * B, "scores": scores(hits, 0.9), "chance": scores(0.2)}

    def thirds(first, last):
        return {
            name: rng.normal(x, 0.1, B).tolist() for name, x in (("first", first), ("last", last))
        }

    gain = {name: thirds(0.0, 0.3) for name in ("Face", "Body", "Scene")}
    gain["Face"]["last"][:9] = gain["Face"]["first"][:9] = [None] * 9
    curve = np.linspace(0, 1, 5).tolist()
    ways = {"chosen": 2.0, "mean": 1.5, "random": 1.5, "oracle": 2.5}
    judged = {"chosen": 0.9, "mean": 0.1, "random": 0.1, "oracle": 0.9}
    methods = {"neuroadapter": 0.3, "neuroadapter_low_level": 0.8, "linear": 0.3,
               "linear_low_level": 0.7}  # fmt: skip
    hits = {"full": 1.9, "no_token_dropout": 1.0}
    match = [{"is_matched": True}]
    return {
        "selection": {"shown": [3] * B, "ways": {
            way: scores(x) | {"judge": rng.normal(judged[way], 0.1, B).tolist()}
            for way, x in ways.items()}},
        "lost_regions": {"shown": [3] * B, "scores": {
            f"{row}, {way}, {share}": scores(x if share else 2.0)
            for row, x in hits.items() for way in ("guided", "unguided")
            for share in (0.0, 0.25, 0.5, 0.75, 0.9)}},
        "attention": {"higher_over_early": rng.normal(0.5, 0.1, B).tolist(),
                      "entropy": thirds(0.9, 0.4), "beyond_habit": gain,
                      "curves": {"higher_over_early": curve, "entropy": curve,
                                 "beyond_habit": {name: curve for name in gain}}},
        "silencing": {"shown": [3] * B, "intact": scores(2.0), "sets": {
            name: {"whole": scores(x), "matched": [scores(x)], "controls": [scores(1.5)],
                   "match": match} for name, x in (("early", 2.0), ("category", 0.5))}},
        "low_level": {"shown": [3] * B, "scores": {n: scores(1.0, x) for n, x in methods.items()}},
        "unseen": {"sets": {name: of_set(1.0) for name in ("unseen_objects", "new_combinations")}},
        "imagery": {"sets": {name: of_set(1.0) for name in ("vision", "imagery")}},
    }  # fmt: skip


def test_every_measurement_decides_its_claims_and_has_its_figure(tmp_path, rng):
    plan, found = plan_of(), {}
    for seed in SEEDS:
        found |= {f"{kind}-seed{seed}": stored(x) for kind, x in measurements(rng).items()}
    told = verdicts(found)
    trained = {text for text, verdict in told.items() if verdict == "not tested yet"}
    assert {text for text in told if told[text] == "holds"} == told.keys() - trained
    assert len(told) - len(trained) == 15
    write_report(plan, found, tmp_path / "claims.md")
    made = {path.stem.removeprefix("claims_") for path in (tmp_path / "images").iterdir()}
    assert made == {"effects", "lost", "attention", "silencing", "sets"}
    # What has no matched controls is not tested.
    found["silencing-seed5"]["result"]["sets"]["early"]["match"][0]["is_matched"] = False
    assert verdicts(found)["Silencing V1 to V3 leaves the meaning"] == "not tested yet"


def test_no_worse_is_decided_against_the_margin(rng):
    same = training(rng, 0.2)
    found = {f"{row}-seed{seed}": same for row in ("full", "mlp") for seed in SEEDS}
    told = verdicts(found)
    assert told["A linear projection per region is no worse than an MLP"] == "holds"


def test_a_recall_is_objects_found_over_objects_shown(rng):
    found = made_up_cells(rng, full=0.3, no_token_dropout=0.0)
    for cell in found.values():
        cell["result"]["shown"] = rng.integers(1, 4, B).tolist()
    shown = found["full-seed3"]["result"]["shown"]
    for cell in found.values():
        cell["result"]["shown"] = shown

    def recall(row):
        hits = [found[f"{row}-seed{k}"]["result"]["scores"]["semantic_recall"] for k in SEEDS]
        return np.sum(hits) / (len(SEEDS) * np.sum(shown))

    (claim,) = [x for x in findings(Cells(found, SEEDS)) if x.claim.text.startswith("Token dropout helps")]  # fmt: skip  # noqa: E501
    assert claim.estimate.value == pytest.approx(recall("full") - recall("no_token_dropout"))


def test_the_page_says_what_is_missing_and_shows_the_curves(tmp_path, rng):
    plan = plan_of()
    found = made_up_cells(rng, full=0.3, p20=0.0)
    del found["p20-seed7"]
    write_report(plan, found, tmp_path / "claims.md")
    text = (tmp_path / "claims.md").read_text()
    assert f"**Unfinished: 5 of {len(all_cells(plan))} cells are done (2.5 hours" in text
    assert "(2 x 37)" in text  # the seeds and images that the row of p = 20 has
    row = next(line for line in text.splitlines() if line.startswith("| Fewer regions are worse"))
    assert "| holds |" in row and "[regions](#regions)" in row
    assert "p20-seed7" in text.split("What is still to run")[1]
    for name in ("curves", "effects", "regions"):
        assert f"images/claims_{name}.png" in text
        assert (tmp_path / "images" / f"claims_{name}.png").stat().st_size > 1000
