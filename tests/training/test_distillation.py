"""Latent consistency distillation against diffusers' schedulers, and going on after an end."""

import dataclasses
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiny_pipeline import LH, RH, make_pipeline
from tiny_prepared import write_prepared

from neuroadapter_jax import interrupts
from neuroadapter_jax.adapter.guidance import Guidance, guided_prediction
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.decoders.distilled import distill
from neuroadapter_jax.diffusion.lora import init_lora
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.prompt import empty_ids
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.interrupts import Interrupted
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.training.distillation import (
    DistillationSettings,
    Teacher,
    consistency,
    make_distillation_step,
)

SMALL = DistillationSettings(
    rank=2,
    num_grid=5,
    batch_size=3,
    num_steps=4,
    warmup_steps=1,
    learning_rate=0.1,
    num_validation=2,
    sample_steps=1,
    log_every=1,
    evaluate_every=4,
    checkpoint_every=3,
)


def lcm_scheduler(schedule):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.LCMScheduler(
        prediction_type=schedule.prediction_type, clip_sample=False, steps_offset=1
    )
    scheduler.set_timesteps(4)
    return scheduler


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_consistency_models_clean_latents_are_those_of_diffusers(rng, kind):
    torch = pytest.importorskip("torch")
    schedule = NoiseSchedule(prediction_type=kind)
    x, output = rng.standard_normal((2, 4, 3, 5, 2)).astype(np.float32)
    scheduler = lcm_scheduler(schedule)
    timesteps = scheduler.timesteps.numpy()
    ours = consistency(jnp.asarray(x), jnp.asarray(output), jnp.asarray(timesteps), schedule)
    for i, t in enumerate(timesteps):
        found = scheduler.step(torch.from_numpy(output[i]), int(t), torch.from_numpy(x[i]))
        truth = found.denoised.numpy()
        np.testing.assert_allclose(ours[i], truth, rtol=0, atol=1e-4 * np.abs(truth).max())


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distil")
    write_prepared(folder / "prepared", folder / "root")
    return folder / "prepared"


@pytest.mark.slow
def test_a_step_is_the_loss_between_neighbours_on_the_grid(pipeline, rng):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    networks, schedule = pipeline.networks, pipeline.backbone.schedule
    scale, g = 0.7, 2.5
    teacher = Teacher(
        networks.adapter,
        networks.unet,
        networks.text,
        pipeline.backbone.text_encoder(jnp.asarray(empty_ids(pipeline.backbone))),
        pipeline.packing,
        scale,
        jnp.float32(g),
    )
    lora = init_lora(pipeline.backbone.unet, jax.random.key(0), 2)
    optimizer = optax.sgd(0.5)
    params = {"down": lora.down, "up": lora.up}
    arrays = networks.architecture
    step = make_distillation_step(arrays.adapter, arrays.unet, schedule, optimizer, lora, SMALL)
    batch = {
        "betas": rng.standard_normal((3, LH + RH)).astype(np.float32),
        "latent_mean": rng.standard_normal((3, 16, 16, 4)).astype(np.float32),
        "latent_std": np.zeros((3, 16, 16, 4), np.float32),
    }
    state = {
        "params": jax.tree.map(jnp.copy, params),
        "ema": jax.tree.map(jnp.copy, params),
        "opt_state": optimizer.init(params),
        "step": jnp.int32(6),
    }
    state, metrics = step(state, teacher, batch)

    _, noise_key, time_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 6), 3)
    upper = np.array([199, 399, 599, 799, 999])[jax.random.randint(time_key, (3,), 0, 5)]
    lower = upper - 200 + (upper == 199)
    noise = np.asarray(jax.random.normal(noise_key, (3, 16, 16, 4)))
    abar = np.asarray(schedule.alphas_cumprod, np.float64)[upper].reshape(3, 1, 1, 1)
    noisy = np.sqrt(abar) * scale * batch["latent_mean"] + np.sqrt(1 - abar) * noise
    noisy = jnp.asarray(noisy, jnp.float32)
    unet, adapter = networks.merge_unet(), networks.merge_adapter()
    brain = adapter(pack(jnp.asarray(batch["betas"]), pipeline.packing))
    guidance = Guidance(networks.text, brain, adapter.unconditional(), jnp.float32(g))
    guided = nnx.jit(lambda x, t: guided_prediction(unet, guidance)(x, t)[0])(noisy, upper)
    plain = nnx.jit(lambda x, t: unet(x, t, [networks.text, brain]))  # the LoRA is none yet
    # DDIM from t to u by diffusers, whose step goes down by T / num_inference_steps.
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    scheduler.set_timesteps(5)
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    earlier = [
        scheduler.step(torch.tensor(np.asarray(o)), int(t), torch.tensor(np.asarray(x))).prev_sample
        for o, t, x in zip(guided, upper, noisy, strict=True)
    ]
    earlier = jnp.asarray(np.stack([x.numpy() for x in earlier]))

    def clean(x, t):
        x0 = schedule.predicted_clean(x, plain(x, jnp.asarray(t)), jnp.asarray(t))
        t = t.reshape(3, 1, 1, 1) * 10.0
        return 0.25 / (t**2 + 0.25) * x + t / np.sqrt(t**2 + 0.25) * x0

    difference = np.asarray(clean(noisy, upper) - clean(earlier, lower))
    expected = np.mean(np.sqrt(difference**2 + 1e-6) - 1e-3)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    assert int(state["step"]) == 7
    for ema, new, old in zip(
        *map(jax.tree.leaves, (state["ema"], state["params"], params)), strict=True
    ):
        np.testing.assert_allclose(ema, 0.95 * old + 0.05 * new, rtol=1e-5, atol=1e-7)
    assert any(np.any(x) for x in state["params"]["up"].values())


@pytest.mark.slow
def test_a_run_that_was_ended_goes_on_to_the_same_bits(pipeline, prepared, tmp_path, monkeypatch):
    whole = distill(pipeline, prepared, tmp_path / "whole", SMALL, progress=False)
    asked = iter([None, signal.SIGTERM])
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "received", lambda: next(asked))
        with pytest.raises(Interrupted, match="SIGTERM at step 2"):
            distill(pipeline, prepared, tmp_path / "parts", SMALL, progress=False)
    again = distill(pipeline, prepared, tmp_path / "parts", SMALL, progress=False)
    jax.tree.map(np.testing.assert_array_equal, again.backbone.lora, whole.backbone.lora)
    lines = [(tmp_path / x / "metrics.jsonl").read_text() for x in ("whole", "parts")]
    assert lines[0] == lines[1] and lines[0].count('"train"') == 4
    assert any(np.abs(x).max() > 0 for x in whole.backbone.lora.up.values())
    assert whole.sampling == Sampling("lcm", 1, 1.0)
    assert whole.provenance["distillation"]["guidance_scale"] == 2.5
    whole.save_pretrained(tmp_path / "model", np.float16)
    NeuroAdapterPipeline.from_pretrained(tmp_path / "model")
    other = dataclasses.replace(SMALL, learning_rate=0.2)
    with pytest.raises(InputError, match="learning_rate"):
        distill(pipeline, prepared, tmp_path / "parts", other, progress=False)
    with pytest.raises(InputError, match="has a LoRA already"):
        distill(whole, prepared, tmp_path / "new", SMALL, progress=False)
    assert not (tmp_path / "new").exists()


def test_settings_out_of_range_are_refused(pipeline, prepared, tmp_path):
    with pytest.raises(SettingError, match="rank"):
        DistillationSettings(rank=0)
    with pytest.raises(SettingError, match="targets"):
        DistillationSettings(targets="convolutions")
    many = dataclasses.replace(SMALL, batch_size=10)
    with pytest.raises(SettingError, match="batch_size is 10; expected at most 9"):
        distill(pipeline, prepared, tmp_path / "run", many, progress=False)
