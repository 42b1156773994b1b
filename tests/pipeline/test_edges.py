"""What the pipeline is given at its edges: seeds, masks, ids, absurd and not finite numbers."""

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from tiny_pipeline import LH, RH, make_pipeline

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError, NotFiniteError
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.checks import usable_latents

# As in test_pipeline, so that no program is compiled again.
TWO_STEPS = Sampling(num_steps=2, guidance_scale=2.5)
SAMPLING = {"sampling": TWO_STEPS, "num_candidates": 2}


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture(scope="module")
def fmri():
    return np.random.default_rng(3).standard_normal((3, LH + RH)).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seed": 2**32}, "seed is 4294967296; expected a whole number from 0 to below 4294967296"),
        ({"seed": -1}, "seed is -1; expected"),
        ({"seed": 1.0}, r"seed is 1\.0; expected a whole number"),
        ({"seed": True}, "seed is True; expected a whole number"),
        ({"num_candidates": 0}, "num_candidates is 0; expected a whole number of at least 1"),
        ({"num_candidates": -1}, "num_candidates is -1; expected"),
        ({"num_candidates": 1.5}, r"num_candidates is 1\.5; expected"),
        ({"sample_ids": np.array([0.0, 1.0, 2.5])}, "sample_ids is float64 of shape"),
        (
            {"sample_ids": np.array([0, 1])},
            r"sample_ids is int64 of shape \(2,\); expected 3 whole",
        ),
        ({"sample_ids": np.array([0, 1, 2**31])}, "sample_ids is between 0 and 2147483648; expec"),
        ({"sample_ids": np.array([-1, 1, 2])}, "sample_ids is between -1 and 2; expected from 0"),
        ({"sample_ids": np.array([True, False, True])}, "sample_ids is bool of shape"),
        ({"keep": np.array([[0, 2, 3, 1]] * 3)}, "keep is int64; expected booleans"),
        ({"keep": np.ones((3, 4))}, "keep is float64; expected booleans"),
        ({"keep": np.ones((3, 5), bool)}, r"keep has shape \(3, 5\); expected \(3, 4\)"),
    ],
)
def test_arguments_out_of_their_range_are_refused(as_user, pipeline, fmri, options, sentence):
    with pytest.raises(InputError, match=sentence):
        pipeline(fmri, **{"sampling": TWO_STEPS, "num_candidates": 2, **options})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[:0], "fmri holds no sample; expected the responses of at least one"),
        (lambda x: (300 * x).astype(np.int16), "fmri is int16; expected floats, normalised as in"),
        (lambda x: x > 0, "fmri is bool; expected floats"),
        (lambda x: x * 1e30, r"fmri holds values up to \d\.\d+e\+30, with which the networks over"),
        (lambda x: x.astype(float) * 1e200, r"fmri holds values up to \d\.\d+e\+200"),
    ],
)
def test_responses_that_are_none_are_refused(as_user, pipeline, fmri, change, sentence):
    packed = np.zeros((3, *pipeline.packing.index.shape), np.float32)
    latents = np.zeros((3, 4, 8, 8), np.float32)
    for call in (
        lambda: pipeline(change(fmri), **SAMPLING),
        lambda: pipeline.interpret(change(fmri), np.eye(4, dtype=np.float32), TWO_STEPS),
        lambda: pipeline.predict_noise(change(fmri), latents, 571),
        lambda: pipeline.effects(change(fmri), latents, 571, np.eye(4, dtype=bool)),
    ):
        with pytest.raises(InputError, match=sentence):
            call()
    with pytest.raises(InputError, match=sentence.split(r"\d")[0]):
        pipeline.predict_noise(change(packed + 1.0), latents, 571)


@pytest.mark.parametrize(("scale", "found"), [(300, "3.*"), (0.001, "0.00.*")])
def test_responses_on_another_scale_are_told_of(pipeline, fmri, scale, found):
    latents = np.zeros((3, 4, 8, 8), np.float32)
    with pytest.warns(UserWarning, match=f"standard deviation of {found}; .* z-score them over"):
        pipeline.predict_noise(fmri * np.float32(scale), latents, 571)


def test_other_arguments_of_single_predictions_are_refused(as_user, pipeline, fmri):
    latents = np.zeros((3, 4, 8, 8), np.float32)
    noisy = np.zeros((3, 16, 16, 4), np.float32)
    for timestep in (-1, 1000, 3.5):
        with pytest.raises(InputError, match=f"timesteps is {timestep}; expected whole numbers"):
            pipeline.predict_noise(fmri, latents, timestep)
        with pytest.raises(InputError, match=f"timesteps is {timestep}; expected whole numbers"):
            pipeline.effects(fmri, noisy, timestep, np.eye(4, dtype=bool))
    with pytest.raises(InputError, match="region_sets is int64; expected booleans"):
        pipeline.effects(fmri, noisy, 571, np.array([[0, 1, 2, 3]]))
    latents[1, 0, 3] = np.nan
    with pytest.raises(NotFiniteError, match="latents of sample 1 is NaN or infinite"):
        pipeline.predict_noise(fmri, latents, 571)
    with pytest.raises(NotFiniteError, match="roi_weights holds NaN"):
        pipeline.interpret(fmri, np.full((1, 4), np.nan, np.float32), TWO_STEPS)
    with pytest.raises(InputError, match="candidate is -1; expected"):
        pipeline.interpret(fmri, np.eye(4, dtype=np.float32), TWO_STEPS, candidate=-1)
    with pytest.raises(InputError, match="images are float32; expected uint8, 0 to 255"):
        pipeline.encode(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(NotFiniteError, match="sample 1: the sampled latents are NaN"):
        pipeline.decode(np.stack([noisy[0], noisy[0] + np.nan]))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
def test_a_guidance_scale_is_a_finite_number(scale):
    with pytest.raises(InputError, match=f"guidance_scale is {scale}; expected a finite number"):
        Sampling(guidance_scale=scale)


def test_latents_that_overflow_are_no_black_image(pipeline, fmri):
    wild = TWO_STEPS.replace(guidance_scale=1e30)
    with pytest.raises(NotFiniteError, match=r"sample 0, sample 1, sample 2: the sampled latents"):
        pipeline(fmri, wild, num_candidates=2)
    # Of several, those whose latents overflow are named.
    latents = np.zeros((3, 2, 16, 16, 4), np.float32)
    latents[1, 1, 5], latents[2, 0, 0, 0, 0] = 1e30, -np.inf
    with pytest.raises(NotFiniteError, match=r"^sample 1, sample 2: the sampled latents are NaN"):
        usable_latents(latents)
    latents[1:] = 1e4
    usable_latents(latents)


def test_weights_that_are_not_finite_are_refused_by_name(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    path = tmp_path / "adapter.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[1]
    tensors[name].reshape(-1)[:2] = np.nan, np.inf
    save_file(tensors, path)
    with pytest.raises(NotFiniteError) as error:
        NeuroAdapterPipeline.from_pretrained(tmp_path)
    assert str(error.value).startswith(
        f"{path}: 2 of {tensors[name].size} numbers of {name} are NaN"
    )


def test_weights_that_overflow_in_half_precision_are_not_written(pipeline, tmp_path):
    graph, state = nnx.split(pipeline.adapter)
    large = nnx.merge(graph, nnx.map_state(lambda path, leaf: leaf + 1e5, state))
    other = NeuroAdapterPipeline(
        large, pipeline.backbone, pipeline.regions, backbone_name=pipeline.backbone_name
    )
    with (
        np.errstate(over="ignore"),
        pytest.raises(NotFiniteError, match="or write float32 weights"),
    ):
        other.save_pretrained(tmp_path / "half", np.float16)
    assert not list((tmp_path / "half").glob("*"))
