import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from tiny_pipeline import LH, RH, V, make_pipeline

from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import to_tensors
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import ExistingFileError
from neuroadapter_jax.pipeline import LowLevelStart, NeuroAdapterPipeline

TWO_STEPS = Sampling(num_steps=2, guidance_scale=2.5)
SAMPLING = {"sampling": TWO_STEPS, "num_candidates": 2}


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture(scope="module")
def fmri():
    return np.random.default_rng(3).standard_normal((3, LH + RH)).astype(np.float32)


@pytest.fixture(scope="module")
def images(pipeline, fmri):
    return pipeline(fmri, **SAMPLING)


@pytest.fixture
def saved(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_pipeline_gives_the_same_images(pipeline, saved, fmri, images):
    again = NeuroAdapterPipeline.from_pretrained(saved)
    np.testing.assert_array_equal(again(fmri, **SAMPLING), images)
    assert again.provenance == {"step": 7} and again.sampling == Sampling(guidance_scale=2.5)
    assert again.regions.fingerprint() == pipeline.regions.fingerprint()
    assert again.num_vertices == LH + RH
    names = {p.name for p in saved.iterdir()}
    assert names == {"config.json", "adapter.safetensors", "regions.npz"}
    # A second call gives the same images; the adapter reads the vertices of its regions alone.
    np.testing.assert_array_equal(pipeline(fmri, **SAMPLING), images)
    unread = np.setdiff1d(
        np.arange(LH + RH), np.concatenate([pipeline.regions.cortex_indices(i) for i in range(4)])
    )
    changed = fmri.copy()
    changed[:, unread] = 9
    np.testing.assert_array_equal(pipeline(changed, **SAMPLING), images)
    changed[0, 3] += 5
    differs = np.any(pipeline(changed, **SAMPLING) != images, axis=(1, 2, 3, 4))
    assert differs.tolist() == [True, False, False]


def test_images_and_seeds(pipeline, fmri, images):
    assert images.shape == (3, 2, 64, 64, 3) and images.dtype == np.uint8
    assert images.std() > 5
    reconstructions = [*images.reshape(6, -1), *pipeline(fmri, seed=1, **SAMPLING).reshape(6, -1)]
    assert len({image.tobytes() for image in reconstructions}) == 12


@pytest.mark.slow
def test_a_candidate_does_not_depend_on_its_batch(pipeline, fmri, images):
    ids = np.array([2, 0, 7], np.int64)
    other = pipeline(fmri[[2, 0, 1]], sample_ids=ids, **SAMPLING)
    for row, image in ((0, images[2]), (1, images[0])):
        np.testing.assert_array_equal(other[row], image)
    # Other batch shapes are compiled again, which may move a rounding.
    alone = pipeline(fmri[1:2], sample_ids=np.array([1]), sampling=TWO_STEPS, num_candidates=3)
    assert np.abs(alone[0, :2].astype(int) - images[1]).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("large", [1, 1 << 30])
def test_devices_share_the_images_and_exchange_nothing(saved, fmri, images, tmp_path, large):
    """With attention head by head, as large attention goes, and at once."""
    np.save(tmp_path / "fmri.npy", fmri)
    program = f"""
import re, numpy as np, jax
from neuroadapter_jax.diffusion import attention
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.pipeline import pipeline as module, reconstruct
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
attention._LARGE = {large}
fmri = np.load({str(tmp_path / "fmri.npy")!r})
pipeline = NeuroAdapterPipeline.from_pretrained({str(saved)!r})
images = pipeline(fmri, **{SAMPLING!r})
assert jax.local_device_count() == 4
assert list(pipeline.place.num_devices) == [2]  # of four devices, two share six images evenly
programs = []
for place, name in ((reconstruct, "sample_candidates"), (module, "sample_with_views")):
    def call(*args, _jitted=getattr(place, name), **options):
        programs.append(_jitted.lower(*args, **options).compile().as_text())
        return _jitted(*args, **options)
    setattr(place, name, call)
four = np.resize(fmri, (4, fmri.shape[1]))  # a device samples each response's images
pipeline(four, **{SAMPLING!r})
pipeline.interpret(four, np.eye(4), {TWO_STEPS!r})
assert list(pipeline.place.num_devices) == [4] and len(programs) == 2
for program in programs:
    found = re.findall("all-reduce|all-gather|reduce-scatter|all-to-all|permute", program)
    assert "num_partitions=4" in program and not found, found
np.save({str(tmp_path / "images.npy")!r}, images)
"""
    flags = os.environ.get("XLA_FLAGS", "")  # the caller's flags hold here too
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    shared = np.load(tmp_path / "images.npy")
    # Compiled for three images a device instead of six, which may move a rounding.
    assert np.abs(shared.astype(int) - images).max() <= 1


@pytest.mark.slow
def test_half_precision_export(pipeline, tmp_path, fmri, images):
    pipeline.save_pretrained(tmp_path, np.float16)
    stored = load_file(tmp_path / "adapter.safetensors")
    loaded = NeuroAdapterPipeline.from_pretrained(tmp_path)
    for name, value in to_tensors(pipeline.adapter).items():
        assert stored[name].dtype == np.float16
        np.testing.assert_array_equal(stored[name], value.astype(np.float16))
        np.testing.assert_array_equal(to_tensors(loaded.adapter)[name], stored[name])
    assert loaded.adapter.token_norm.norm.scale[...].dtype == jnp.float32
    reconstructions = loaded(fmri, **SAMPLING)
    assert np.abs(reconstructions.astype(int) - images).mean() < 1


def test_wrong_responses_are_answered(as_user, pipeline, fmri):
    with pytest.raises(
        ValueError, match=r"shape \(3, 29\); expected \[samples, 30\], all vertices"
    ):
        pipeline(fmri[:, 1:])
    with pytest.raises(ValueError, match=r"shape \(30,\); expected \[samples, 30\]"):
        pipeline(fmri[0])
    bad = fmri.copy()
    bad[1, [4, 7]], bad[2, 7] = np.nan, np.inf
    with pytest.raises(ValueError, match="NaN or infinite values at 2 vertices; expected finite"):
        pipeline(bad)
    with pytest.raises(ValueError, match="sampler is 'euler'; expected one of"):
        pipeline(fmri, Sampling(sampler="euler"))
    with pytest.raises(ValueError, match="num_steps is 0; expected a whole number of at least 1"):
        pipeline(fmri, Sampling(num_steps=0))
    with pytest.raises(ValueError, match="num_steps is 1001; expected 1 to 1000"):
        pipeline(fmri, Sampling(num_steps=1001))


def test_prediction_with_and_without_attention(as_user, pipeline, fmri, rng):
    latents = rng.standard_normal((3, 4, 8, 8)).astype(np.float32)
    alone = pipeline.predict_noise(fmri, latents, 571)
    also, maps = pipeline.predict_noise(fmri, latents, np.full(3, 571), return_attention=True)
    assert alone.shape == (3, 4, 8, 8)
    np.testing.assert_allclose(alone, also, rtol=0, atol=1e-5 * np.std(also))
    assert list(maps) == [name for name, _ in pipeline.backbone.unet.cross_attentions()]
    for weights in maps.values():
        assert weights.shape[:2] == (3, 2) and weights.shape[3] == 4
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"shape \(3, 29\); expected \[samples, 30\]"):
        pipeline.predict_noise(fmri[:, 1:], latents, 571)
    with pytest.raises(ValueError, match=r"shape \(3, 4, 6\); expected \(3, 4, 5\), packed"):
        pipeline.predict_noise(np.zeros((3, 4, 6)), latents, 571)
    with pytest.raises(ValueError, match="NaN or infinite values"):
        pipeline.predict_noise(np.full((3, 4, 5), np.nan), latents, 571)
    for wrong in (latents[:2], latents[:, 1:], latents[:, :, 1:], latents[0]):
        with pytest.raises(ValueError, match=r"latents have shape .*expected \[3, 4, rows, col"):
            pipeline.predict_noise(fmri, wrong, 571)


@pytest.mark.parametrize("name", ["config.json", "adapter.safetensors", "regions.npz"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: not found; expected a folder written"):
        NeuroAdapterPipeline.from_pretrained(saved)


def test_a_missing_folder_or_backbone_is_named(saved):
    with pytest.raises(FileNotFoundError, match=r"nowhere/config\.json: not found"):
        NeuroAdapterPipeline.from_pretrained("nowhere")
    with pytest.raises(FileNotFoundError, match="Backbone 'sd-none': no folder"):
        NeuroAdapterPipeline.from_pretrained(saved, backbone="sd-none")


@pytest.mark.parametrize(("key", "value"), [("num_regions", 6), ("max_vertices", 3)])
def test_weights_of_another_shape_are_refused(saved, key, value):
    path = saved / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError) as error:
        NeuroAdapterPipeline.from_pretrained(saved)
    shape = {"num_regions": 4, "max_vertices": V} | {key: value}
    p, v = shape["num_regions"], shape["max_vertices"]
    for word in (
        "adapter.safetensors",
        f"region_projection.weights is (4, {V}, 8), expected ({p}, {v}, 8)",
        "copy config.json and the weights again, together",
    ):
        assert word in str(error.value)


@pytest.mark.parametrize("name", ["README.md", "config.json", "adapter.safetensors", "regions.npz"])
def test_files_of_someone_else_are_never_overwritten(pipeline, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExistingFileError, match=f"holds {name} already, which this run did not"):
        pipeline.save_pretrained(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_another_step_of_the_same_training_takes_the_place_of_the_model(saved, pipeline):
    before = pipeline.provenance
    try:
        pipeline.provenance = before | {"step": 11}
        pipeline.save_pretrained(saved)
        assert json.loads((saved / "config.json").read_text())["provenance"]["step"] == 11
        pipeline.provenance = before | {"training": {"seed": 3}}
        with pytest.raises(ExistingFileError, match=r"holds config\.json, adapter\.safetensors"):
            pipeline.save_pretrained(saved)
    finally:
        pipeline.provenance = before


def test_regions_of_another_model_are_refused(saved, pipeline):
    pipeline.regions.subset([1, 0, 2, 3]).save(saved / "regions.npz")
    with pytest.raises(ValueError, match=r"regions\.npz: not the regions that config\.json"):
        NeuroAdapterPipeline.from_pretrained(saved)
    with pytest.raises(ValueError, match="The adapter has 4 regions but 3 were given"):
        NeuroAdapterPipeline(
            pipeline.adapter,
            pipeline.backbone,
            pipeline.regions.subset([0, 1, 3]),
            backbone_name="x",
        )


def test_the_backbone_may_lie_elsewhere(saved, random_backbone, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(random_backbone, elsewhere)
    assert NeuroAdapterPipeline.from_pretrained(saved, elsewhere).backbone.folder == elsewhere


class Judge(BrainEncoder):
    """Prefers the second candidate of the first image, the first of the others."""

    def __init__(self, regions):
        self.regions, self.provenance = regions, {}

    def rank(self, images, fmri, regions):
        assert images.shape[:2] == (len(fmri), 2) and regions is not None
        scores = np.tile(np.array([0.3, 0.1], np.float32), (len(fmri), 1))
        scores[0] = np.nan, -0.2
        return scores


def test_an_encoder_chooses_among_the_candidates(pipeline, fmri, images):
    judge = Judge(pipeline.regions)
    found = pipeline.candidates(fmri, judge, **SAMPLING)
    np.testing.assert_array_equal(found.images, images)
    assert found.chosen.tolist() == [1, 0, 0]
    reconstructions = pipeline(fmri, encoder=judge, **SAMPLING)
    assert reconstructions.shape == (3, 1, *images.shape[2:])
    for i, chosen in enumerate([1, 0, 0]):
        np.testing.assert_array_equal(reconstructions[i, 0], images[i, chosen])


class Umpire(BrainEncoder):
    """Gives the scores of a list, one entry per round, and keeps the images it was shown."""

    def __init__(self, regions, scores):
        self.regions, self.provenance = regions, {}
        self.scores, self.shown = [np.array(x, np.float32) for x in scores], []

    def rank(self, images, fmri, regions):
        self.shown.append(np.asarray(images))
        return self.scores[len(self.shown) - 1]


@pytest.mark.slow
def test_halving_drops_candidates_on_the_way(pipeline, fmri):
    reconstruct = {"sampling": Sampling("ddpm", 5, 2.5)}
    whole = pipeline(fmri, num_candidates=5, **reconstruct)
    first = [[0.1, 0.5, 0.3, 0.2, 0.4], [0.9, np.nan, 0.1, 0.2, 0.3], [np.nan] * 5]
    second = [[0.2, 0.9, 0.1], [0.1, 0.2, 0.3], [0.2, np.nan, 0.2]]
    third = [[0.1, 0.2], [0.2, 0.1], [np.nan, 0.3]]
    umpire = Umpire(pipeline.regions, [first, second, third])
    found = pipeline.candidates(
        fmri, umpire, num_candidates=5, halving=((2, 3), (4, 2)), **reconstruct
    )
    # After two steps 1 2 4, 0 3 4 and 0 1 2 are left.
    assert found.numbers.tolist() == [[1, 2], [3, 4], [0, 2]]
    assert found.chosen.tolist() == [1, 0, 1]
    assert [x.shape[1] for x in umpire.shown] == [5, 3, 2]
    expected = whole[np.arange(3)[:, None], found.numbers]
    # Compiled in pieces, which may move a rounding.
    assert np.abs(found.images.astype(int) - expected).max() <= 1
    assert np.abs(umpire.shown[1][0, 2].astype(int) - whole[0, 4]).max() > 1  # not yet at its end


@pytest.mark.parametrize("halving", [((0, 1),), ((5, 1),), ((2, 3),), ((2, 0),), ((3, 2), (2, 1))])
def test_halving_out_of_order_is_refused(pipeline, fmri, halving):
    with pytest.raises(ValueError, match=r"halving is .* with 3 candidates and 5 steps"):
        pipeline.candidates(
            fmri,
            Judge(pipeline.regions),
            num_candidates=3,
            sampling=Sampling(num_steps=5),
            halving=halving,
        )


def test_halving_needs_an_encoder(pipeline, fmri):
    with pytest.raises(ValueError, match="halving needs an encoder"):
        pipeline(fmri, halving=((1, 1),), **SAMPLING)


@pytest.mark.slow
def test_sampling_begins_from_given_latents(pipeline, fmri, images, rng):
    low = 0.4 * rng.standard_normal((3, 16, 16, 4)).astype(np.float32)
    # At strength 1 nothing of the start is left.
    full = pipeline(fmri, low_level=LowLevelStart(low, 1.0), **SAMPLING)
    np.testing.assert_array_equal(full, images)

    reconstruct = {"sampling": Sampling("ddim", 5, 1.0), "low_level": LowLevelStart(low, 0.6)}
    found = pipeline(fmri, num_candidates=3, sample_ids=np.array([7, 2, 4]), **reconstruct)
    # By hand, from what the U-Net predicts at the last three of five timesteps.
    schedule, latents = pipeline.backbone.schedule, []
    abar = np.append(schedule.alphas_cumprod.astype(np.float64), schedule.alphas_cumprod[0])
    for i in (7, 2, 4):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), i), 1)
        noise = np.asarray(jax.random.normal(jax.random.fold_in(key, 0), (16, 16, 4)))
        latents.append(abar[401] ** 0.5 * low[len(latents)] + (1 - abar[401]) ** 0.5 * noise)
    x = np.moveaxis(np.stack(latents), -1, 1)
    for now, then in ((401, 201), (201, 1), (1, -1)):
        eps = np.asarray(pipeline.predict_noise(fmri, x.astype(np.float32), now))
        clean = (x - (1 - abar[now]) ** 0.5 * eps) / abar[now] ** 0.5
        x = abar[then] ** 0.5 * clean + (1 - abar[then]) ** 0.5 * eps
    expected = pipeline.decode(np.moveaxis(x, 1, -1).astype(np.float32))
    assert np.abs(found[:, 1].astype(int) - expected).max() <= 1
    assert np.abs(found[:, 0].astype(int) - expected).max() > 1

    # Halving counts the steps that are taken.
    judge = Umpire(pipeline.regions, [np.eye(3)[::-1], np.ones((3, 1))])
    some = pipeline.candidates(
        fmri,
        judge,
        num_candidates=3,
        sample_ids=np.array([7, 2, 4]),
        halving=((2, 1),),
        **reconstruct,
    )
    assert some.numbers.tolist() == [[2], [1], [0]]
    kept = found[np.arange(3), [2, 1, 0]]
    assert np.abs(some.images[:, 0].astype(int) - kept).max() <= 1
    with pytest.raises(ValueError, match="with 3 candidates and 3 steps"):
        pipeline.candidates(fmri, judge, num_candidates=3, halving=((3, 1),), **reconstruct)


def test_wrong_starts_are_answered(as_user, pipeline, fmri):
    low = np.zeros((3, 16, 16, 4), np.float32)
    with pytest.raises(ValueError, match=r"shape \(2, 16, 16, 4\); expected \(3, 16, 16, 4\), the"):
        pipeline(fmri, low_level=LowLevelStart(low[:2]), **SAMPLING)
    with pytest.raises(ValueError, match=r"strength is 0\.3, which leaves none of 2"):
        pipeline(fmri, low_level=LowLevelStart(low, 0.3), **SAMPLING)
    low[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"low_level\.latents has NaN"):
        pipeline(fmri, low_level=LowLevelStart(low), **SAMPLING)


ROI_WEIGHTS = np.array([[0.5, 0.5, 0, 0], [0, 0, 0, 1]], np.float32)


@pytest.mark.slow
def test_the_views_come_with_the_images(pipeline, fmri):
    torch = pytest.importorskip("torch")
    reconstruct = {"sampling": Sampling("ddim", 5, 2.5)}
    expected = pipeline(fmri, num_candidates=2, **reconstruct)[:, 1]
    found = pipeline.interpret(fmri, ROI_WEIGHTS, candidate=1, shown=(0, 3), **reconstruct)
    assert np.abs(found.images.astype(int) - expected).max() <= 1
    assert found.views.brain.shape == (5, 3, 4) and found.views.image.shape == (5, 3, 2, 16, 16)
    np.testing.assert_allclose(found.views.brain.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.views.image.sum((-2, -1)), 1, atol=1e-5)
    # At step 3 the full matrices say the same.
    assert found.timesteps[3] == plan(pipeline.backbone.schedule, Sampling("ddim", 5)).timesteps[3]
    noisy = np.moveaxis(found.noisy[1], -1, 1)
    _, maps = pipeline.predict_noise(fmri, noisy, int(found.timesteps[3]), return_attention=True)
    queries = np.array([x.shape[2] for x in maps.values()])
    means = np.stack([np.asarray(x).mean((1, 2)) for x in maps.values()])
    brain = (queries[:, None, None] * means).sum(0) / queries.sum()
    np.testing.assert_allclose(found.views.brain[3], brain, rtol=1e-4)
    total = 0.0
    for weights in maps.values():
        roi = np.einsum("bhqp,rp->brq", np.asarray(weights), ROI_WEIGHTS) / weights.shape[1]
        side = int(roi.shape[2] ** 0.5)
        square = torch.from_numpy(roi.reshape(3, 2, side, side))
        large = torch.nn.functional.interpolate(square, (16, 16), mode="bilinear").numpy()
        total = total + large / large.sum((2, 3), keepdims=True)
    np.testing.assert_allclose(
        found.views.image[3], total / total.sum((2, 3), keepdims=True), rtol=1e-4
    )
    assert found.noisy.shape == (2, 3, 16, 16, 4)
    assert found.predicted_clean.shape == (2, *found.images.shape)


def without_regions(pipeline, dropped):
    """The pipeline with the projection of some regions set to zero: their tokens are zero."""
    params = nnx.state(pipeline.adapter, nnx.Param)
    adapter = nnx.merge(nnx.graphdef(pipeline.adapter), jax.tree.map(jnp.copy, params))
    bank = adapter.region_projection
    keep = ~np.asarray(dropped)
    bank.weights[...] = bank.weights[...] * keep[:, None, None]
    bank.bias[...] = bank.bias[...] * keep[:, None]
    return NeuroAdapterPipeline(
        adapter, pipeline.backbone, pipeline.regions, backbone_name="x", sampling=TWO_STEPS
    )


@pytest.mark.slow
def test_a_silenced_region_is_a_token_of_zeros(pipeline, fmri):
    dropped = np.array([False, True, False, True])
    silent = without_regions(pipeline, dropped)
    keep = np.tile(~dropped, (3, 1))
    found = pipeline(fmri, keep=keep, sampling=TWO_STEPS)
    assert np.abs(found.astype(int) - silent(fmri)).max() <= 1
    assert np.abs(found.astype(int) - pipeline(fmri, TWO_STEPS)).max() > 1
    with pytest.raises(ValueError, match=r"keep has shape \(3, 3\); expected \(3, 4\)"):
        pipeline(fmri, keep=keep[:, :3], sampling=TWO_STEPS)


@pytest.mark.slow
def test_effects_are_changes_of_the_prediction(pipeline, fmri, rng):
    noisy = rng.standard_normal((3, 8, 8, 4)).astype(np.float32)
    region_sets = np.array([[False, True, False, True], [True, False, False, False], [False] * 4])
    found = pipeline.effects(fmri, noisy, 571, region_sets)
    whole = np.asarray(pipeline.predict_noise(fmri, np.moveaxis(noisy, -1, 1), 571))
    for r, dropped in enumerate(region_sets):
        silent = without_regions(pipeline, dropped)
        other = np.asarray(silent.predict_noise(fmri, np.moveaxis(noisy, -1, 1), 571))
        expected = ((whole - other) ** 2).sum(1)
        np.testing.assert_allclose(found[:, r], expected, rtol=1e-3, atol=1e-9)
    alone = pipeline.effects(fmri, noisy, 571, ~region_sets[:1], alone=True)
    none, some = (
        np.asarray(
            without_regions(pipeline, dropped).predict_noise(fmri, np.moveaxis(noisy, -1, 1), 571)
        )
        for dropped in (np.ones(4, bool), region_sets[0])
    )
    np.testing.assert_allclose(alone[:, 0], ((none - some) ** 2).sum(1), rtol=1e-3, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["difference", "gradient"])
def test_other_reductions_leave_the_images_and_sum_to_one(pipeline, fmri, reduction):
    reconstruct = {"sampling": TWO_STEPS}
    expected = pipeline(fmri, num_candidates=1, **reconstruct)[:, 0]
    found = pipeline.interpret(fmri, ROI_WEIGHTS, reduction=reduction, **reconstruct)
    assert np.abs(found.images.astype(int) - expected).max() <= 1
    np.testing.assert_allclose(found.views.brain.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.views.image.sum((-2, -1)), 1, atol=1e-5)
    raw = pipeline.interpret(fmri, ROI_WEIGHTS, reduction="paper", **reconstruct)
    assert np.abs(found.views.brain - raw.views.brain).max() > 1e-2


def test_wrong_requests_for_views_are_answered(pipeline, fmri):
    with pytest.raises(ValueError, match=r"roi_weights has shape \(2, 3\); expected \[ROIs, 4\]"):
        pipeline.interpret(fmri, ROI_WEIGHTS[:, :3])
    with pytest.raises(ValueError, match=r"shown is \(2,\); expected steps from 0 to 1"):
        pipeline.interpret(fmri, ROI_WEIGHTS, shown=(2,), sampling=TWO_STEPS)
    with pytest.raises(ValueError, match=r"region_sets have shape \(1, 3\)"):
        pipeline.effects(fmri, np.zeros((3, 8, 8, 4)), 5, np.zeros((1, 3), bool))


def test_an_export_knows_its_backbone_by_its_weights(saved, random_backbone, tmp_path):
    config = json.loads((saved / "config.json").read_text())
    assert set(config["backbone_fingerprint"]) == {"unet", "vae", "text_encoder", "scheduler"}
    other = shutil.copytree(random_backbone, tmp_path / "other")
    NeuroAdapterPipeline.from_pretrained(saved, backbone=other)  # the same weights elsewhere
    path = other / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1  # the last number of the last tensor
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"other holds other weights \(unet\) than the one that th"
    ):
        NeuroAdapterPipeline.from_pretrained(saved, backbone=other)
    pipe = NeuroAdapterPipeline.from_pretrained(saved, backbone=other, allow_other=["backbone"])
    unchanged = NeuroAdapterPipeline.from_pretrained(saved)
    differing = {k for k, x in pipe.fingerprint.items() if x != unchanged.fingerprint[k]}
    assert differing == {"unet"}
    # An export of version 0.1.0 has no fingerprint, and nothing is compared.
    del config["backbone_fingerprint"]
    (saved / "config.json").write_text(json.dumps(config))
    NeuroAdapterPipeline.from_pretrained(saved, backbone=other)
