import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_backbone import random_network
from torch_reference import assert_close, carried, nhwc, randomise

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.guidance import Guidance, clean_start, expand, sample_latents
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.samplers import plan, sample, unit_noise
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig, AutoencoderKL

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import AutoencoderKL as TorchAutoencoder
from diffusers import DDPMScheduler

B, P, V, K, STEPS = 3, 5, 7, 11, 4
SCHEDULE = NoiseSchedule()
CONFIG = UNetConfig(
    sample_size=6,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(6, 9),
    layers_per_block=1,
    cross_attention_dim=13,
    attention_head_dim=3,
    norm_num_groups=3,
)


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(4)
    unet = random_network(lambda rngs: UNet2DConditionModel(CONFIG, rngs=rngs), 0)
    widths, heads = map(tuple, cross_attention_shapes(unet))
    config = NeuroAdapterConfig(P, V, 13, widths, heads)
    adapter = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 1)
    text = unet.text_context(jnp.asarray(rng.standard_normal((1, K, 13)), jnp.float32))
    packed = jnp.asarray(3 * rng.standard_normal((B, P, V)), jnp.float32)
    return {
        "unet": unet,
        "text": text,
        "brain": adapter(packed),
        "unconditional": adapter.unconditional(),
        "keys": jax.random.split(jax.random.key(5), B),
    }


def reconstruct(scene, guidance_scale, probe=None, sampler="ddim", **changes):
    scene = scene | changes
    graph, state = nnx.split(scene["unet"])

    @jax.jit
    def run(state, text, brain, unconditional, keys):
        return sample_latents(
            nnx.merge(graph, state),
            Guidance(text, brain, unconditional, guidance_scale),
            keys,
            plan(SCHEDULE, Sampling(sampler, STEPS)),
            probe=probe,
        )

    return run(state, *(scene[k] for k in ("text", "brain", "unconditional", "keys")))


def first(stream, size):
    return Stream(*(tuple(x[:size] for x in bank) for bank in stream[:2]), stream.scale)


@pytest.fixture(scope="module")
def unguided(scene):
    with jax.numpy_dtype_promotion("strict"):
        return np.asarray(reconstruct(scene, None)[0])


def test_a_scale_of_one_is_no_guidance(scene, unguided):
    latents, probed = reconstruct(scene, jnp.float32(1.0))
    assert probed is None
    assert_close(latents, unguided, 1e-5)


@pytest.mark.slow
def test_a_scale_of_zero_sees_no_brain(scene):
    other = scene["brain"]._replace(values=tuple(5 * v + 1 for v in scene["brain"].values))
    latents = reconstruct(scene, jnp.float32(0.0))[0]
    assert_close(reconstruct(scene, jnp.float32(0.0), brain=other)[0], latents, 1e-5)
    all_dropped = expand(scene["unconditional"], B)
    assert_close(reconstruct(scene, None, brain=all_dropped)[0], latents, 1e-5)


@pytest.mark.slow
def test_guidance_moves_away_from_the_unconditional_prediction(scene, unguided):
    unet, g = scene["unet"], 3.5
    config = unet.config
    start = unit_noise(scene["keys"], 0, (config.sample_size, config.sample_size, 4))

    def predict(x, t):
        streams = (scene["brain"], scene["unconditional"])
        conditional, unconditional = (
            unet(x, jnp.full((B,), t), [scene["text"], stream]) for stream in streams
        )
        return unconditional + g * (conditional - unconditional), None

    truth, _ = sample(predict, start, scene["keys"], plan(SCHEDULE, Sampling("ddim", STEPS)))
    latents = reconstruct(scene, jnp.float32(g))[0]
    assert_close(latents, np.asarray(truth), 1e-5)
    assert np.abs(np.asarray(latents) - unguided).max() > 1e-2


@pytest.mark.slow
def test_guidance_in_an_interval_is_none_outside_of_it(scene):
    unet, g = scene["unet"], 3.5
    sampling = Sampling("ddim", STEPS, guidance_low=0.5, guidance_high=3.0)
    steps = plan(SCHEDULE, sampling)
    abar = SCHEDULE.alphas_cumprod[steps.timesteps]
    inside = (abar < 1 / (1 + 0.5**2)) & (abar >= 1 / (1 + 3.0**2))
    assert inside.tolist() == [False, True, True, False]
    scales = np.where(inside, g, 1.0).astype(np.float32)
    seen = []

    def probe(weights):
        seen.append(len(weights))
        return weights.mean((0, 1, 2))

    def predict(x, t):
        streams = (scene["brain"], scene["unconditional"])
        conditional, unconditional = (
            unet(x, jnp.full((B,), t), [scene["text"], stream]) for stream in streams
        )
        scale = jnp.asarray(scales)[jnp.argmax(jnp.asarray(steps.timesteps) == t)]
        return unconditional + scale * (conditional - unconditional), None

    start = unit_noise(scene["keys"], 0, (unet.config.sample_size, unet.config.sample_size, 4))
    truth, _ = sample(predict, start, scene["keys"], plan(SCHEDULE, Sampling("ddim", STEPS)))
    arguments = (scene["text"], scene["brain"], scene["unconditional"], jnp.float32(g))
    latents, probed = sample_latents(unet, Guidance(*arguments), scene["keys"], steps, probe=probe)
    assert_close(latents, np.asarray(truth), 1e-5)
    assert [x.shape for x in probed] == [(STEPS, P)] * 4
    assert set(seen) == {B}  # the conditional half alone, in all three spans


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [None, 2.5])
def test_the_probe_sees_the_conditional_half_and_changes_nothing(scene, guidance):
    scale = None if guidance is None else jnp.float32(guidance)
    plain, _ = reconstruct(scene, scale)
    latents, probed = reconstruct(scene, scale, probe=lambda weights: weights)
    assert_close(latents, np.asarray(plain), 1e-5)
    layers = len(list(scene["unet"].cross_attentions()))
    assert len(probed) == layers == 4
    for weights in probed:
        assert weights.shape[:3] == (STEPS, B, 3) and weights.shape[-1] == P
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)

    # At the first step it is the U-Net's attention to the samples' own tokens.
    unet, size = scene["unet"], scene["unet"].config.sample_size
    start = unit_noise(scene["keys"], 0, (size, size, 4))
    timestep = int(plan(SCHEDULE, Sampling("ddim", STEPS)).timesteps[0])
    _, truth = nnx.jit(
        lambda unet, x: unet(x, jnp.full((B,), timestep), [scene["text"], scene["brain"]], jnp.copy)
    )(unet, start)
    for weights, expected in zip(probed, truth, strict=True):
        np.testing.assert_allclose(weights[0], expected, atol=1e-5)
        assert np.abs(expected - 1 / P).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_sample_does_not_depend_on_its_batch(scene, sampler):
    whole = reconstruct(scene, jnp.float32(2.5), sampler=sampler)[0]
    part = reconstruct(
        scene,
        jnp.float32(2.5),
        sampler=sampler,
        brain=first(scene["brain"], 2),
        keys=scene["keys"][:2],
    )[0]
    assert_close(part, np.asarray(whole)[:2], 1e-5)


@pytest.mark.slow
def test_sampling_from_a_noised_grey_image(scene):
    unet, config = scene["unet"], scene["unet"].config
    shape = (config.sample_size, config.sample_size, 4)
    grey = np.random.default_rng(8).standard_normal(shape).astype(np.float32)
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    scheduler.set_timesteps(STEPS)
    noise = torch.from_numpy(np.array(unit_noise(scene["keys"], 0, shape)))
    noised = scheduler.add_noise(torch.from_numpy(grey), noise, scheduler.timesteps[:1])

    def predict(x, t):
        return unet(x, jnp.full((B,), t), [scene["text"], scene["brain"]]), None

    steps = plan(SCHEDULE, Sampling("ddpm", STEPS))
    truth, _ = sample(predict, jnp.asarray(noised.numpy()), scene["keys"], steps)
    latents, _ = sample_latents(
        unet,
        Guidance(scene["text"], scene["brain"], scene["unconditional"], None),
        scene["keys"],
        steps,
        clean=jnp.asarray(grey),
    )
    assert_close(latents, np.asarray(truth), 1e-5)


def test_the_latents_of_a_grey_image_are_diffusers():
    reference = TorchAutoencoder(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(5, 11),
        layers_per_block=1,
        norm_num_groups=1,
    )
    randomise(reference, seed=3)
    config = AutoencoderConfig(block_out_channels=(5, 11), layers_per_block=1, norm_num_groups=1)
    vae = carried(lambda rngs: AutoencoderKL(config, rngs=rngs), reference)
    mean = reference.encode(torch.zeros(1, 3, 14, 14)).latent_dist.mode()
    assert_close(clean_start(vae, "grey", 7), 0.18215 * nhwc(mean)[0])
    assert clean_start(vae, "noise", 7) is None


def test_an_unknown_start(as_user):
    with pytest.raises(ValueError, match="'gray'"):
        clean_start(None, "gray", 7)
