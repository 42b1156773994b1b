"""Decoders compared from end to end on a few scenes; no test image is used before its turn."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from prepared_records import change_responses
from scipy import stats
from tiny_pipeline import LH, RH, make_pipeline
from tiny_prepared import SPLITS, write_prepared

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders import linear_map
from neuroadapter_jax.decoders.linear_map import fit_latents, fit_states
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.retrieval import gallery_of_folder
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import NotFiniteError
from neuroadapter_jax.pipeline import load_reconstructions
from neuroadapter_jax.studies.decoders import (
    DEFAULT,
    LABELS,
    DecoderSettings,
    run_decoders,
    simulated_captions,
    validation,
)
from neuroadapter_jax.studies.decoders.acceptance import judged
from neuroadapter_jax.studies.decoders.scores import permuted_rows, summarise
from neuroadapter_jax.studies.decoders.tables import tables
from neuroadapter_jax.studies.decoders.validation import choose_strength

MIXING = np.random.default_rng(2).standard_normal((3, LH + RH))


def settings(pipeline, num_steps=2, **more):
    sampling = pipeline.sampling.replace(sampler="dpmsolver++", num_steps=num_steps)
    return DecoderSettings(sampling=sampling, batch_size=3, num_candidates=2, **more)


def run(pipeline, prepared, out, settings, *, encoder=None, captions=None, progress, **options):
    material = Material(
        prepared=prepared, pipeline=pipeline, shared=out, encoder=encoder, captions=captions,
        progress=progress,
    )  # fmt: skip
    return run_decoders(material, out, settings, **options)


class RedLover(BrainEncoder):
    """Predicts a linear function of the mean colour, and prefers the redder candidate."""

    precision = "fp32"

    def __init__(self, regions):
        self.regions, self.provenance, self.fingerprint = regions, {}, "encoder"
        self.correlations = np.ones((1, LH + RH), np.float32)
        self.predictions, self._members = 0, ()

    def reliable(self):
        return np.ones(LH + RH, bool)

    def predict(self, images, batch_size=32):
        self.predictions += len(images)
        return (images.mean(axis=(1, 2)) @ MIXING).astype(np.float32)

    def rank(self, images, fmri, regions):
        return np.asarray(images)[..., 0].mean(axis=(2, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder / "prepared", folder / "nsd", write_prepared(folder / "prepared", folder / "nsd")


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture(scope="module")
def ran(world, pipeline, tmp_path_factory):
    prepared, root, _ = world
    out = tmp_path_factory.mktemp("decoders")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "STRENGTHS", (0.5,))
        patch.setattr(validation, "GUIDANCE_SCALES", (2.0, 4.0))
        results = run(
            pipeline,
            prepared,
            out,
            settings(pipeline),
            encoder=RedLover(pipeline.regions),
            captions=simulated_captions(root),
            root=root,
            progress=False,
        )
    return out, results


@pytest.mark.slow
def test_every_method_has_its_folder_and_its_row(ran, world, pipeline):
    out, results = ran
    prepared, _, images = world
    assert list(results["methods"]) == list(DEFAULT) and results["missing"] == {}
    best = {}
    for name, scores in results["methods"].items():
        found = load_reconstructions(out / name)
        np.testing.assert_array_equal(found.image_ids, SPLITS["test"])
        np.testing.assert_array_equal(found.stimuli, [images[i] for i in SPLITS["test"]])
        best[name] = found.best
        r = [
            stats.pearsonr(a.ravel().astype(float), b.ravel()).statistic
            for a, b in zip(found.stimuli, found.best, strict=True)
            if b.std() > 0
        ]
        np.testing.assert_allclose(
            scores["pixel_correlation"]["value"], sum(r) / 3, rtol=1e-6, atol=1e-9
        )
    trained = [images[i].astype(float) for i in SPLITS["train"]]
    np.testing.assert_array_equal(best["mean_image"][1], np.rint(np.mean(trained, axis=0)))
    for name in ("random_image", "retrieval"):
        for image in best[name]:
            assert any((image == images[i]).all() for i in SPLITS["train"])
    # The reference image whose predicted response fits best, by a plain loop.
    vertices = np.concatenate(
        [pipeline.regions.cortex_indices(i) for i in range(len(pipeline.regions))]
    )
    test = PreparedDataset(prepared, "test")
    for i, image in enumerate(best["retrieval"]):
        measured = test[i]["betas"].astype(np.float32).mean(axis=0)[vertices]
        r = [
            stats.pearsonr(measured, (x.mean(axis=(0, 1)) @ MIXING)[vertices]).statistic
            for x in trained
        ]
        np.testing.assert_array_equal(image, trained[int(np.argmax(r))])
    # Chosen is the redder of two candidates, the first of which is the one without choosing.
    reds = [best[x][..., 0].mean(axis=(1, 2)) for x in ("neuroadapter_chosen", "neuroadapter")]
    assert (reds[0] >= reds[1]).all() and (reds[0] > reds[1]).any()
    assert (best["neuroadapter_low_level"] != best["neuroadapter"]).any()
    scale = pipeline.backbone.vae.config.scaling_factor
    latents = np.stack([test[i]["latent_mean"] for i in range(3)]).astype(np.float32)
    np.testing.assert_array_equal(best["autoencoder"], pipeline.decode(scale * latents))

    table = (out / "table.md").read_text()
    assert all(table.count(f"| {label} |") >= 1 for label in (LABELS[name] for name in DEFAULT))
    assert json.loads((out / "results.json").read_text()) == results
    # What is fitted: 11 vertices and a bias for each of 24 x 8 numbers of a text's states.
    assert results["costs"]["linear"]["parameters"] == 12 * 24 * 8
    assert results["costs"]["mean_image"]["parameters"] == 0
    assert results["costs"]["neuroadapter"]["training_seconds"] is None
    assert all(row["peak_bytes"] > 2**20 for row in results["costs"].values())
    # The control is the same images beside other stimuli.
    images = load_reconstructions(out / "linear_latents")
    order = permuted_rows(3, 0)
    assert not (order == np.arange(3)).any()
    r = [
        stats.pearsonr(a.ravel().astype(float), b.ravel()).statistic
        for a, b in zip(images.stimuli, images.best[order], strict=True)
    ]
    control = results["permuted"]["linear_latents"]["pixel_correlation"]["value"]
    np.testing.assert_allclose(control, np.mean(r), rtol=1e-6)


@pytest.mark.slow
def test_a_second_call_reconstructs_nothing(ran, world, pipeline, monkeypatch):
    out, results = ran
    prepared, root, _ = world
    monkeypatch.setattr(validation, "STRENGTHS", (0.5,))
    monkeypatch.setattr(validation, "GUIDANCE_SCALES", (2.0, 4.0))
    monkeypatch.setattr(linear_map, "fit_linear_map", None)
    pipeline = make_pipeline(pipeline.backbone.folder)

    def refuse(*arguments, **options):
        raise AssertionError("an image is reconstructed again")

    monkeypatch.setattr(type(pipeline), "__call__", refuse)
    monkeypatch.setattr(type(pipeline), "candidates", refuse)
    encoder = RedLover(pipeline.regions)
    arguments = (pipeline, prepared, out)
    options = {"encoder": encoder, "captions": simulated_captions(root), "root": root}
    options |= {"progress": False}
    assert run(*arguments, settings(pipeline), **options) == results
    assert encoder.predictions == 0
    other = r"decoders made with other settings: settings\.sampling\.num_steps is 2 there, 3 here; "
    with pytest.raises(ValueError, match=other):
        run(*arguments, settings(pipeline, 3), **options)


@pytest.mark.slow
def test_fitting_never_sees_a_test_or_validation_image(world, pipeline, ran, tmp_path):
    prepared, root, _ = world
    copy = tmp_path / "prepared"
    shutil.copytree(prepared, copy)
    for split in ("test", "validation"):
        for path in (copy / "records").glob(f"*-{split}.*"):
            path.unlink()
    held_out = SPLITS["test"] + SPLITS["validation"]
    captions = simulated_captions(root)
    for i in held_out:
        del captions[i]
    latents = fit_latents(copy, pipeline, tmp_path / "maps", progress=False)
    states = fit_states(copy, pipeline, captions, tmp_path / "maps", progress=False)
    for name, made in (("latents", latents), ("states", states)):
        assert not set(made.image_ids.tolist()) & set(held_out)
        with np.load(ran[0] / "fitted" / "linear" / f"{name}.npz") as file:
            np.testing.assert_array_equal(made.weights, file["weights"])
    # Nor do the responses to them: they are not there to be read.
    with pytest.raises(FileNotFoundError, match="no records of split 'test'"):
        PreparedDataset(copy, "test")


def test_a_stimulus_in_the_gallery_is_refused(world, pipeline, tmp_path):
    prepared, _, images = world
    for i in (3, 6):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=r"holds 1 of the images to decode, such as 6\.png"):
        run(
            pipeline,
            prepared,
            tmp_path / "out",
            settings(pipeline, methods=("retrieval",), strength=0.5, linear_guidance_scale=2.0),
            encoder=RedLover(pipeline.regions),
            gallery=gallery_of_folder(tmp_path, 64),
            progress=False,
        )


def test_what_cannot_be_run_is_said(world, pipeline, tmp_path):
    prepared, _, _ = world
    options = {"encoder": RedLover(pipeline.regions), "progress": False}
    with pytest.raises(
        ValueError, match=r"There is no method oracle; choose methods of mean_image, "
    ):
        settings(pipeline, methods=("oracle",))
    with pytest.raises(ValueError, match=r"so give strength \(for neuroadapter_low_level"):
        run(pipeline, prepared, tmp_path / "out", settings(pipeline), **options)
    assert not (tmp_path / "out").exists()
    # Without captions the linear decoder is missing, and the table says so.
    results = run(
        pipeline,
        prepared,
        tmp_path / "out",
        settings(
            pipeline,
            methods=("mean_image", "linear", "linear_latents"),
            strength=0.5,
            linear_guidance_scale=2.0,
        ),
        **options,
    )
    assert list(results["methods"]) == ["mean_image", "linear_latents"]
    assert set(results["methods"]["mean_image"]) == {"pixel_correlation", "ssim", "two_way_pixels"}
    missing = "Missing: Linear two-stage, without low-level path (no captions of the training"
    assert missing in (tmp_path / "out" / "table.md").read_text()


def test_a_folder_goes_on_with_the_same_content_only(world, pipeline, tmp_path):
    prepared, _, _ = world
    floor = settings(pipeline, methods=("mean_image",), strength=0.5, linear_guidance_scale=2.0)
    encoder = RedLover(pipeline.regions)
    records, out = shutil.copytree(prepared, tmp_path / "records"), tmp_path / "out"
    options = {"encoder": encoder, "progress": False}
    results = run(pipeline, records, out, floor, **options)
    moved = records.rename(tmp_path / "moved")
    again = run(pipeline, moved, out, floor, **options)
    assert again["methods"] == results["methods"]
    encoder.fingerprint = "trained again"
    with pytest.raises(ValueError, match="the content of encoder_weights is another than then"):
        run(pipeline, moved, out, floor, **options)
    encoder.fingerprint = "encoder"
    path = next((moved / "records").glob("*-validation.*"))
    path.write_bytes(next((moved / "records").glob("*-test.*")).read_bytes())
    with pytest.raises(ValueError, match="the content of prepared is another than then"):
        run(pipeline, moved, out, floor, **options)


def test_what_is_of_other_data_is_refused_before_anything_is_fitted(world, pipeline, tmp_path):
    prepared, root, _ = world
    encoder = RedLover(pipeline.regions)
    encoder.provenance = {"data": {"subject": 5}}
    options = {"encoder": encoder, "root": root, "progress": False}
    with pytest.raises(ValueError, match="subject is 5 for the encoder, 1 for the records"):
        run(pipeline, prepared, tmp_path / "out", settings(pipeline), **options)
    encoder.provenance = {}
    records = shutil.copytree(prepared, tmp_path / "records")
    made = json.loads((records / "provenance.json").read_text())
    made["simulation"] = {"seed": 6}
    (records / "provenance.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match=r"holds another simulated subject .*seed is 5 for"):
        run(pipeline, records, tmp_path / "out", settings(pipeline), **options)
    assert not (tmp_path / "out").exists()


def test_maps_of_other_records_or_captions_are_not_taken(world, pipeline, tmp_path):
    prepared, _, _ = world
    records = shutil.copytree(prepared, tmp_path / "records")
    latents = fit_latents(records, pipeline, tmp_path / "maps", progress=False)
    moved = records.rename(tmp_path / "moved")
    again = fit_latents(moved, pipeline, tmp_path / "maps", progress=False)
    assert again.made_from == latents.made_from != ""
    with np.load(moved / "cortex.npz") as file:
        np.savez(moved / "cortex.npz", **dict(file) | {"ncsnr": 2 * file["ncsnr"]})
    with pytest.raises(
        ValueError, match=r"latents\.npz was fitted on other records, regions, capt"
    ):
        fit_latents(moved, pipeline, tmp_path / "maps", progress=False)


def test_the_strength_costs_no_meaning():
    def scores(correlation, ssim, recall, named):
        return {
            "pixel_correlation": correlation,
            "ssim": ssim,
            "semantic_recall": recall,
            "object_identity": named,
        }

    without = scores(0.5, 0.3, 0.8, 0.6)
    tried = {
        0.3: scores(0.9, 0.6, 0.79, 0.7),
        0.4: scores(0.9, 0.6, 0.81, 0.59),
        0.5: scores(0.7, 0.4, 0.8, 0.6),
        0.7: scores(0.6, 0.4, 0.9, 0.7),
    }
    assert choose_strength(without, tried) == 0.5
    assert choose_strength(without, {0.3: tried[0.3], 0.4: tried[0.4]}) == 1.0


def test_differences_and_improvement():
    rng = np.random.default_rng(4)
    values = {
        name: rng.uniform(0.2, 0.6, 101) for name in ("retrieval", "linear", "linear_low_level")
    }
    ones = np.ones(101)
    found = summarise({name: {"ssim": (x, ones)} for name, x in values.items()})
    mean = {name: x.mean() for name, x in values.items()}
    improved = found["improvement_over_retrieval"]
    assert set(improved) == {"linear", "linear_low_level"}
    np.testing.assert_allclose(
        improved["linear"]["ssim"]["value"], mean["linear"] / mean["retrieval"] - 1
    )
    paired = found["low_level_start"]["linear_low_level - linear"]["ssim"]
    difference = values["linear_low_level"] - values["linear"]
    np.testing.assert_allclose(paired["value"], difference.mean())
    reference = stats.bootstrap((difference,), np.mean, method="percentile", rng=0)
    np.testing.assert_allclose(paired["interval"], reference.confidence_interval, atol=0.005)


def test_the_table_of_version_0_1_0_has_the_new_column():
    entry = {"value": 0.5, "interval": [0.25, 0.75]}
    old = {
        "num_images": 7,
        "methods": {"neuroadapter": {"ssim": entry, "thing_identification": entry}},
        "improvement_over_retrieval": {},
        "low_level_start": {},
        "missing": {},
    }
    assert "|  | SSIM | Object identity |\n" in tables(old)
    assert "| NeuroAdapter | 0.500 [0.250, 0.750] | 50.0% [25.0%, 75.0%] |\n" in tables(old)


def test_a_setting_is_asked_for_only_where_a_chosen_method_needs_it(world, pipeline, tmp_path):
    prepared, _, _ = world
    options = {"encoder": RedLover(pipeline.regions), "progress": False}
    floor = settings(pipeline, methods=("mean_image",))
    assert "mean_image" in run(pipeline, prepared, tmp_path, floor, **options)["methods"]
    text = settings(pipeline, methods=("linear",))
    with pytest.raises(ValueError, match=r"so give linear_guidance_scale \(for linear\), or leave"):
        captions = {i: ["a cat"] for i in range(20)}
        run(pipeline, prepared, tmp_path / "x", text, captions=captions, **options)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_responses_that_are_no_numbers_are_refused_and_nothing_is_written(
    world, pipeline, tmp_path, split
):
    prepared = tmp_path / "prepared"
    shutil.copytree(world[0], prepared)
    change_responses(prepared, split, lambda betas: np.append(np.nan, betas[1:]))
    with pytest.raises(NotFiniteError, match=rf"-{split}\..*: the responses \(betas\) of image"):
        run(
            pipeline,
            prepared,
            tmp_path / "out",
            settings(pipeline, methods=("linear_latents",)),
            encoder=RedLover(pipeline.regions),
            progress=False,
        )
    assert not [path for path in (tmp_path / "out").glob("*") if path.name[0] != "."]


def test_more_steps_than_the_backbone_was_trained_with_are_refused_first(world, pipeline, tmp_path):
    prepared, _, _ = world
    with pytest.raises(ValueError, match="num_steps is 1001; expected 1 to 1000"):
        run(
            pipeline,
            prepared,
            tmp_path / "out",
            settings(pipeline, 1001, methods=("mean_image",)),
            encoder=RedLover(pipeline.regions),
            progress=False,
        )
    assert not [path for path in (tmp_path / "out").glob("*") if path.name[0] != "."]


def test_expectations_of_rows_that_are_there_are_judged():
    def row(correlation, recall=0.5):
        return {"pixel_correlation": {"value": correlation}, "semantic_recall": {"value": recall}}

    found = judged(
        {
            "brain_diffuser": row(0.305),
            "brain_diffuser_without_text": row(0.279),
            "brain_diffuser_without_vision": row(0.3),
            "true_embedding": row(0.9, 0.96),
        }
    )
    met = {(each["row"], each["score"]): each["met"] for each in found}
    assert met == {
        ("true_embedding", "semantic_recall"): True,
        ("brain_diffuser_without_text", "pixel_correlation"): True,
        ("brain_diffuser_without_vision", "pixel_correlation"): False,
    }
