"""Training a spatial adapter on scenes: the palette's or the depth's, on a frozen backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from flax import nnx
from jaxtyping import Array, Float, Int

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.spatial_adapter import SpatialAdapter, SpatialAdapterConfig
from neuroadapter_jax.diffusion.spatial_adapter_files import save_spatial_adapter
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import (
    Backbone,
    backbone_folder,
    load_pretrained,
    num_parameters,
)
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.ranges import (
    Count,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    Share,
    check,
    check_values,
    named,
)
from neuroadapter_jax.sharding import ShardedBatches, make_mesh, replicate
from neuroadapter_jax.simulation.conditions import condition_pictures
from neuroadapter_jax.simulation.scenes import IMAGE_SIZE, SceneBatch, sample_scenes
from neuroadapter_jax.training.backbone import ArrayBatches, initial_state, make_step
from neuroadapter_jax.training.loop import Evaluation, Intervals, fit
from neuroadapter_jax.training.loss import denoising_losses
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, claim_export
from neuroadapter_jax.training.scene_arrays import in_pieces, scaled_latents

_WARMUP = 50
_NUM_VALIDATION = 256
FILES = ("config.json", "diffusion_pytorch_model.safetensors", "README.md")
Timesteps = Literal["uniform", "cubic"]


class AdapterSettings(TypedDict):
    """Kind and sizes; the widths are the U-Net's own."""

    condition: Literal["palette", "depth"]
    kind: Literal["full", "light"]
    num_res_blocks: Count


class SpatialSettings(TypedDict):
    """How it is trained."""

    batch_size: Count
    num_steps: Annotated[int, Gt(_WARMUP)]
    learning_rate: Positive
    weight_decay: NonNegative
    drop_text: Share
    timesteps: Timesteps


def sample_timesteps(
    key: Array, size: int, num_timesteps: int, how: Timesteps = "cubic"
) -> Int[Array, " b"]:
    """Random timesteps: uniform, or floor((1 - u^3) T), which is mostly high noise.

    A picture's structure is decided at high noise: T2I-Adapter (Mou et al. 2023, arXiv 2302.08453,
    section 3.4).

    Args:
        key: random key.
        size: how many.
        num_timesteps: T.
        how: "uniform" or "cubic".

    Examples:
        >>> import jax
        >>> from neuroadapter_jax.training.spatial_adapter import sample_timesteps
        >>> t = sample_timesteps(jax.random.key(0), 1000, 1000)
        >>> bool((t >= 0).all()), bool((t < 1000).all()), bool(t.mean() > 700)
        (True, True, True)
    """
    u = jax.random.uniform(key, (size,))
    share = u if how == "uniform" else 1.0 - u**3
    return jnp.minimum((share * num_timesteps).astype(jnp.int32), num_timesteps - 1)


def make_spatial_loss(
    adapter_graph: Any,
    backbone: Backbone,
    empty: Float[np.ndarray, "1 k c"] | Float[Array, "1 k c"],
    *,
    timesteps: Timesteps = "cubic",
    drop_text: float = 0.5,
) -> Callable:
    """(params, batch, key) -> loss and its parts, for `backbone.make_step`.

    loss = mean (eps - unet(x_t, t, text, adapter(condition)))^2, the U-Net frozen

    Batches are {"latent": scaled [b, y, x, c], "states": the captions' [b, k, c], "condition":
    [b, Y, X, c] in 0..1}.

    Args:
        adapter_graph: NNX graph of the `SpatialAdapter` that trains.
        backbone: frozen.
        empty: the empty caption's states.
        timesteps: see `sample_timesteps`.
        drop_text: share of captions replaced by the empty one, so that the condition alone counts.
    """
    schedule: NoiseSchedule = backbone.schedule
    unet_graph, unet_params = nnx.split(backbone.unet)

    def loss_fn(params, batch, key):
        noise_key, time_key, drop_key = jax.random.split(key, 3)
        latents = batch["latent"].astype(jnp.float32)
        noise = jax.random.normal(noise_key, latents.shape)
        t = sample_timesteps(time_key, len(latents), schedule.num_train_timesteps, timesteps)
        dropped = jax.random.bernoulli(drop_key, drop_text, (len(latents), 1, 1))
        states = jnp.where(dropped, empty, batch["states"].astype(jnp.float32))
        maps = nnx.merge(adapter_graph, params)(batch["condition"].astype(jnp.float32))
        unet = nnx.merge(unet_graph, unet_params)
        noisy = schedule.add_noise(latents, noise, t)
        found = unet(noisy, t, [unet.text_context(states)], residuals=maps)
        target = schedule.target(latents, noise, t)
        losses = denoising_losses(found, target, jnp.ones(len(latents)))
        return losses.mean(), {}

    return loss_fn


def check_settings(adapter: Any, training: Any, **others: Any) -> None:
    """Refuse settings of `train_spatial_adapter` that are out of range, before anything is made.

    Raises:
        SettingError: a setting that is.
    """
    for name, hint in {"seed": Seed, "scene_seed": Seed, "num_scenes": Count}.items():
        check(name, others[name], hint)
    check("backbone", others["backbone"], str)
    with named("adapter."):
        check_values(adapter, AdapterSettings, "a setting of the adapter")
    with named("training."):
        check_values(training, SpatialSettings, "a setting of the training")
        if (size := training["batch_size"]) > others["num_scenes"]:
            raise SettingError("batch_size", size, f"at most num_scenes, {others['num_scenes']}")


@runs_alone("workdir", "a training")
def train_spatial_adapter(
    *,
    export: str | Path,
    workdir: str | Path,
    backbone: str,
    seed: int,
    num_scenes: int,
    scene_seed: int,
    adapter: AdapterSettings,
    training: SpatialSettings,
) -> dict[str, float]:
    """Train a spatial adapter on scenes and their truth, and export it (float16).

    Args:
        export: where config.json and the weights go; see `save_spatial_adapter`.
        workdir: checkpoints and metrics.jsonl.
        backbone: name or folder of a backbone of 64 x 64 images.
        seed: of weights, noise and batches.
        num_scenes: scenes to train on; 256 more are held out.
        scene_seed: of the scenes; the simulated subject looks at others.
        adapter: its kind and sizes.
        training: how it is trained.

    Returns:
        On the held-out scenes, at fixed noises and timesteps and empty captions: "loss" of the
        adapter, "without" of the backbone alone; and "parameters".

    Raises:
        SettingError: see `check_settings`; or a backbone of other images.
        InputError: the work folder is another run's, or the export's holds other files.
    """
    check_settings(
        adapter, training, seed=seed, num_scenes=num_scenes, scene_seed=scene_seed,
        backbone=backbone,
    )  # fmt: skip
    run_config = RunConfig(
        {
            "adapter": adapter, "training": training, "seed": seed, "backbone": backbone,
            "num_scenes": num_scenes, "scene_seed": scene_seed,
        }
    )  # fmt: skip
    run_config.require_same(workdir)
    claim_export(export, workdir, FILES)
    networks = load_pretrained(backbone)
    downscale = networks.vae.config.downscale
    if networks.unet.config.sample_size * downscale != IMAGE_SIZE:
        raise SettingError("backbone", backbone, f"one of {IMAGE_SIZE} x {IMAGE_SIZE} images")
    config = SpatialAdapterConfig(
        adapter["kind"],
        channels=tuple(networks.unet.config.block_out_channels),
        num_res_blocks=adapter["num_res_blocks"],
        downscale=downscale,
    )
    model = _start(SpatialAdapter(config, rngs=nnx.Rngs(seed)))
    scenes = sample_scenes(num_scenes + _NUM_VALIDATION, scene_seed)
    arrays, empty = _arrays(networks, scenes, adapter["condition"])
    graph, params = nnx.split(model, nnx.Param)[:2]
    loss_fn = make_spatial_loss(
        graph, networks, empty, timesteps=training["timesteps"], drop_text=training["drop_text"]
    )
    optimizer = make_optimizer(
        make_schedule(training["learning_rate"], training["num_steps"], _WARMUP),
        weight_decay=training["weight_decay"],
    )
    held_out = {name: array[-_NUM_VALIDATION:] for name, array in arrays.items()}
    validate = _validation(graph, networks, held_out, empty)
    mesh = make_mesh()
    train = {name: array[:-_NUM_VALIDATION] for name, array in arrays.items()}
    state = fit(
        make_step(loss_fn, optimizer, seed, ema_decay=0.99),
        replicate(initial_state(params, optimizer), mesh),
        ShardedBatches(ArrayBatches(train, training["batch_size"], seed), mesh),
        workdir=workdir,
        num_steps=training["num_steps"],
        intervals=Intervals(log=10, checkpoint=100, evaluate=250),
        config=run_config,
        evaluation=Evaluation(lambda state, _: validate(state["ema"])),
    )
    trained = nnx.merge(graph, state["ema"])
    save_spatial_adapter(export, trained, np.float16)
    found = validate(state["ema"])
    return {
        "loss": found["validation/loss"],
        "without": found["validation/without"],
        "parameters": num_parameters(trained),
    }


def _start(model: SpatialAdapter) -> SpatialAdapter:
    """Of the light kind the last convolution of each level at 0: it starts from the backbone alone.

    The full kind has no such layer, as its levels end in a residual sum, and starts as it is drawn.
    """
    for level in model.adapter.body:
        last = level.out_conv
        if last is not None:
            last.kernel[...] = jnp.zeros_like(last.kernel[...])
    return model


def _arrays(
    networks: Backbone, scenes: SceneBatch, condition: str
) -> tuple[dict[str, np.ndarray], Array]:
    """Scaled latents, caption states and conditions as float16, and the empty caption's states."""
    text_graph, text_params = nnx.split(networks.text_encoder)
    tokenizer = CLIPTokenizer(backbone_folder(networks.folder) / "tokenizer")
    read = jax.jit(lambda p, ids: nnx.merge(text_graph, p)(ids))
    states = in_pieces(lambda ids: read(text_params, ids), tokenizer(scenes.captions))
    arrays = {
        "latent": scaled_latents(networks.vae, scenes.images),
        "states": states.astype(np.float16),
        "condition": condition_pictures(condition, scenes).astype(np.float16),
    }
    return arrays, read(text_params, tokenizer([""]))


def _validation(
    graph: Any, networks: Backbone, held_out: dict[str, np.ndarray], empty: Array
) -> Callable[[Any], dict[str, float]]:
    rng = np.random.default_rng(0)
    latents = held_out["latent"].astype(np.float32)
    noise = rng.standard_normal(latents.shape).astype(np.float32)
    schedule = networks.schedule
    steps = rng.integers(0, schedule.num_train_timesteps, len(latents)).astype(np.int32)
    unet_graph, unet_params = nnx.split(networks.unet)

    @jax.jit
    def errors(params, unet_params, latents, noise, steps, condition):
        unet = nnx.merge(unet_graph, unet_params)
        streams = [unet.text_context(empty)]
        noisy = schedule.add_noise(latents, noise, steps)
        target = schedule.target(latents, noise, steps)
        maps = nnx.merge(graph, params)(condition)
        found = [unet(noisy, steps, streams, residuals=r) for r in (maps, None)]
        return [jnp.mean((x - target) ** 2) for x in found]

    def validate(params: Any) -> dict[str, float]:
        pieces = []
        for i in range(0, len(latents), 64):
            rows = slice(i, i + 64)
            condition = held_out["condition"][rows].astype(np.float32)
            pieces.append(
                errors(params, unet_params, latents[rows], noise[rows], steps[rows], condition)
            )
        loss, without = np.mean(np.array(pieces, np.float64), axis=0)
        return {"validation/loss": float(loss), "validation/without": float(without)}

    return validate
