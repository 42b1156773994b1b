import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiny_backbone import random_network

from neuroadapter_jax.diffusion.images import to_model_range, to_uint8
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig, AutoencoderKL
from neuroadapter_jax.training.backbone import (
    ArrayBatches,
    initial_state,
    make_autoencoder_step,
    make_text_to_image_step,
)


def test_batches_are_a_function_of_seed_and_position():
    arrays = {"image": np.arange(23), "id": 100 + np.arange(23)}
    whole = ArrayBatches(arrays, 7, seed=3)
    batches = [next(whole) for _ in range(5)]
    assert whole.get_state() == {"position": 5}
    for k in (4, 0, 2):
        jumped = ArrayBatches(arrays, 7, seed=3)
        jumped.set_state({"position": k})
        for name, values in next(jumped).items():
            np.testing.assert_array_equal(values, batches[k][name])
    for batch in batches:
        assert len(set(batch["image"])) == 7
        np.testing.assert_array_equal(batch["id"], 100 + batch["image"])
    assert len({tuple(batch["image"]) for batch in batches}) == 5
    assert tuple(next(ArrayBatches(arrays, 7, seed=4))["image"]) != tuple(batches[0]["image"])


def test_images_to_the_model_and_back():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    inside = to_model_range(jnp.asarray(values))
    np.testing.assert_allclose(inside, values / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(to_uint8(inside), values)
    outside = jnp.array([-7.0, -1.001, 1.001, 7.0]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(np.ravel(to_uint8(outside)), [0, 0, 255, 255])


@pytest.mark.slow
def test_the_autoencoder_learns():
    config = AutoencoderConfig(
        block_out_channels=(6, 9), layers_per_block=1, norm_num_groups=3, latent_channels=2
    )
    vae = random_network(lambda rngs: AutoencoderKL(config, rngs=rngs), 1)
    optimizer = optax.adam(1e-2)
    state = initial_state(nnx.state(vae, nnx.Param), optimizer)
    step = make_autoencoder_step(vae, optimizer, seed=3, kl_weight=1e-4, absolute_weight=0.25)
    corners = np.random.default_rng(0).integers(0, 256, (31, 2, 2, 3), np.uint8)
    images = ArrayBatches({"image": corners.repeat(5, axis=1).repeat(5, axis=2)}, 7, seed=1)
    history = []
    for _ in range(40):
        state, metrics = step(state, next(images))
        history.append({name: float(value) for name, value in metrics.items()})
    for m in history:
        total = m["squared_error"] + 0.25 * m["absolute_error"] + 1e-4 * m["kl"]
        assert m["loss"] == pytest.approx(total, rel=1e-5)
        assert m["kl"] >= 0
    losses = [m["loss"] for m in history]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    assert int(state["step"]) == 40 and step._cache_size() == 1


def test_a_dropped_caption_is_the_empty_one():
    unet_config = UNetConfig(
        sample_size=4,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(6,),
        layers_per_block=1,
        cross_attention_dim=10,
        attention_head_dim=3,
        norm_num_groups=3,
    )
    text_config = CLIPTextConfig(13, 10, 7, 1, 5, 3)
    unet = random_network(lambda rngs: UNet2DConditionModel(unet_config, rngs=rngs), 1)
    encoder = random_network(lambda rngs: CLIPTextModel(text_config, rngs=rngs), 2)
    params = {name: nnx.state(x) for name, x in {"unet": unet, "text_encoder": encoder}.items()}
    empty, captions = np.array([0, 1, 1], np.int32), np.array([[0, 3 + i, 1] for i in range(8)])
    latents = np.random.default_rng(0).standard_normal((8, 4, 4, 4)).astype(np.float16)
    optimizer = optax.sgd(0.0)
    step = make_text_to_image_step(
        unet, encoder, NoiseSchedule(), optimizer, empty, seed=3, drop_rate=0.5
    )

    def loss(changed=None):
        ids = captions.astype(np.int32)
        if changed is not None:
            ids[changed] = empty
        state = initial_state(jax.tree.map(jnp.copy, params), optimizer)
        return float(step(state, {"latent": latents, "ids": ids})[1]["loss"])

    # Emptying a caption changes the loss unless it was dropped already.
    dropped = [loss(changed=i) == loss() for i in range(8)]
    assert 1 <= sum(dropped) <= 7
    assert loss(changed=np.array(dropped)) == loss()
