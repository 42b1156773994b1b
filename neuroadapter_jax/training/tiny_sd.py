"""tiny-sd, the simulated data's backbone: Stable Diffusion's architecture, trained on scenes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from neuroadapter_jax.diffusion.images import to_model_range
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer, write_tokenizer
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig, AutoencoderKL
from neuroadapter_jax.diffusion.weights import (
    load_component,
    num_parameters,
    save_component,
    save_schedule,
)
from neuroadapter_jax.files import refuse_foreign, write_json
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.sharding import ShardedBatches, make_mesh, replicate
from neuroadapter_jax.simulation.scenes import sample_scenes, vocabulary
from neuroadapter_jax.training.backbone import (
    ArrayBatches,
    initial_state,
    make_autoencoder_step,
    make_text_to_image_step,
)
from neuroadapter_jax.training.loop import Evaluation, Intervals, fit
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, claim_export
from neuroadapter_jax.training.scene_arrays import kept_in_file, scaled_latents
from neuroadapter_jax.training.tiny_sd_settings import (
    WARMUP,
    TextSettings,
    UNetSettings,
    VAESettings,
    check_settings,
)

_NUM_VALIDATION = 512
_EXPORTED = ("model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae")


@runs_alone("workdir", "a training")
def pretrain(
    *,
    export: str | Path,
    workdir: str | Path,
    seed: int,
    num_scenes: int,
    scene_seed: int,
    vae: VAESettings,
    text_encoder: TextSettings,
    unet: UNetSettings,
    command: str,
) -> None:
    """Train the autoencoder, then U-Net and text encoder, and export a diffusers folder.

    Args:
        export: where the folder goes (fp16 safetensors).
        workdir: checkpoints, metrics.jsonl and the cached latents of both stages.
        seed: of weights, noise and batches.
        num_scenes: scenes to train on; 512 more are held out.
        scene_seed: of the scenes; the simulated subject looks at others.
        vae: widths and training settings of the autoencoder.
        text_encoder: widths of the text encoder and length of a caption in tokens.
        unet: widths and training settings of the U-Net.
        command: what was typed, for the card.

    Raises:
        SettingError: see `check_settings`.
        InputError: the work folder is another run's, or the export's holds other files.
    """
    check_settings(vae, text_encoder, unet, seed=seed, scene_seed=scene_seed, num_scenes=num_scenes)
    export, workdir = Path(export), Path(workdir)
    # Each stage has a folder of its own in the work folder, so these are another run's.
    refuse_foreign(workdir, ("config.json", "checkpoints", "metrics.jsonl"))
    _vae_config(vae, seed, num_scenes).require_same(workdir / "vae")
    _unet_config(unet, text_encoder, seed).require_same(workdir / "unet")
    claim_export(export, workdir, (*_EXPORTED, "README.md", "samples.png"))
    scenes = sample_scenes(num_scenes + _NUM_VALIDATION, scene_seed)
    export.mkdir(parents=True, exist_ok=True)
    write_json(
        export / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": "0.40.0",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    if not (export / "tokenizer" / "tokenizer_config.json").is_file():
        write_tokenizer(export / "tokenizer", vocabulary(), text_encoder["length"])

    vae_error = _train_autoencoder(vae, scenes.images, seed, workdir / "vae", export)
    latents = kept_in_file(
        workdir / "latents.npy",
        "latents of the training images",
        # By the exported autoencoder, which is of float16.
        lambda: scaled_latents(cast(AutoencoderKL, load_component(export, "vae")), scenes.images),
    )
    tokenizer = CLIPTokenizer(export / "tokenizer")
    losses = _train_text_to_image(
        unet,
        text_encoder,
        tokenizer,
        latents,
        tokenizer(scenes.captions),
        seed,
        workdir / "unet",
        export,
    )
    write_json(
        workdir / "summary.json",
        {"command": command, "num_scenes": num_scenes, "vae": vae_error, "unet": losses},
    )


def _train_autoencoder(
    settings: VAESettings,
    images: UInt8[np.ndarray, "n y x 3"],
    seed: int,
    workdir: Path,
    export: Path,
) -> dict[str, float]:
    config = AutoencoderConfig(
        block_out_channels=tuple(settings["block_out_channels"]),
        layers_per_block=settings["layers_per_block"],
        norm_num_groups=settings["norm_num_groups"],
        sample_size=images.shape[1],
    )
    model = AutoencoderKL(config, rngs=nnx.Rngs(seed))
    optimizer = _optimizer(settings)
    step = make_autoencoder_step(
        model,
        optimizer,
        seed=seed,
        kl_weight=settings["kl_weight"],
        absolute_weight=settings["absolute_weight"],
    )
    train, held_out = images[:-_NUM_VALIDATION], images[-_NUM_VALIDATION:]
    graph = nnx.graphdef(model)

    @jax.jit
    def reconstruct(params, batch):
        vae = nnx.merge(graph, params)
        images = to_model_range(batch)
        mean, _ = vae.encode(images)
        return mean, jnp.mean((vae.decode(mean) - images) ** 2)

    def evaluate(state, _):
        pieces = [
            reconstruct(state["ema"], held_out[i : i + 64]) for i in range(0, len(held_out), 64)
        ]
        return {
            "validation/loss": float(np.mean([error for _, error in pieces])),
            "validation/latent_std": float(np.std(np.concatenate([mean for mean, _ in pieces]))),
        }

    mesh = make_mesh()
    state = fit(
        step,
        replicate(initial_state(nnx.state(model, nnx.Param), optimizer), mesh),
        ShardedBatches(ArrayBatches({"image": train}, settings["batch_size"], seed), mesh),
        workdir=workdir,
        num_steps=settings["num_steps"],
        intervals=Intervals(log=50, checkpoint=500, evaluate=500),
        config=_vae_config(settings, seed, len(train)),
        evaluation=Evaluation(evaluate),
    )
    errors = evaluate(state, 0)
    config = dataclasses.replace(
        config, scaling_factor=round(1.0 / errors["validation/latent_std"], 5)
    )
    trained = nnx.merge(graph, state["ema"])
    trained.config = config
    save_component(trained, export, "vae", np.float16)
    return {"parameters": num_parameters(trained), "squared_error": errors["validation/loss"]}


def _train_text_to_image(
    settings: UNetSettings,
    text_settings: TextSettings,
    tokenizer: CLIPTokenizer,
    latents: Float[np.ndarray, "n y x c"],
    ids: np.ndarray,
    seed: int,
    workdir: Path,
    export: Path,
) -> dict[str, float]:
    levels = len(settings["block_out_channels"])
    unet = UNet2DConditionModel(
        UNetConfig(
            sample_size=latents.shape[1],
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            block_out_channels=tuple(settings["block_out_channels"]),
            layers_per_block=settings["layers_per_block"],
            cross_attention_dim=text_settings["hidden_size"],
            attention_head_dim=settings["num_heads"],
            norm_num_groups=settings["norm_num_groups"],
        ),
        rngs=nnx.Rngs(seed),
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=text_settings["hidden_size"],
            intermediate_size=text_settings["intermediate_size"],
            num_hidden_layers=text_settings["num_hidden_layers"],
            num_attention_heads=text_settings["num_attention_heads"],
            max_position_embeddings=text_settings["length"],
        ),
        rngs=nnx.Rngs(seed + 1),
    )
    schedule = NoiseSchedule(timestep_spacing="leading")
    optimizer = _optimizer(settings, settings.get("b2", 0.999))

    step = make_text_to_image_step(
        unet,
        text_encoder,
        schedule,
        optimizer,
        tokenizer([""])[0],
        seed=seed,
        gamma=settings["gamma"],
        drop_rate=settings["drop_rate"],
    )

    graphs = {"unet": nnx.graphdef(unet), "text_encoder": nnx.graphdef(text_encoder)}
    validate = _validation(graphs, schedule, latents[-_NUM_VALIDATION:], ids[-_NUM_VALIDATION:])
    params = {
        "unet": nnx.state(unet, nnx.Param),
        "text_encoder": nnx.state(text_encoder, nnx.Param),
    }
    mesh = make_mesh()
    state = fit(
        step,
        replicate(initial_state(params, optimizer), mesh),
        ShardedBatches(
            ArrayBatches(
                {"latent": latents[:-_NUM_VALIDATION], "ids": ids[:-_NUM_VALIDATION]},
                settings["batch_size"],
                seed,
            ),
            mesh,
        ),
        workdir=workdir,
        num_steps=settings["num_steps"],
        intervals=Intervals(log=50, checkpoint=250, evaluate=500),
        config=_unet_config(settings, text_settings, seed),
        evaluation=Evaluation(validate),
    )
    trained = {name: nnx.merge(graphs[name], state["ema"][name]) for name in graphs}
    save_component(trained["unet"], export, "unet", np.float16)
    save_component(
        trained["text_encoder"],
        export,
        "text_encoder",
        np.float16,
        bos_token_id=tokenizer.start,
        eos_token_id=tokenizer.end,
        pad_token_id=tokenizer.pad,
    )
    save_schedule(export, schedule)
    sizes = {f"{name}_parameters": num_parameters(module) for name, module in trained.items()}
    return sizes | validate(state, 0)


def _validation(
    graphs: dict[str, Any],
    schedule: NoiseSchedule,
    latents: np.ndarray,
    ids: np.ndarray,
) -> Callable[[Any, int], dict[str, float]]:
    """Noise-prediction error on held-out scenes at fixed noises and timesteps."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(latents.shape).astype(np.float32)
    timesteps = rng.integers(0, schedule.num_train_timesteps, len(latents)).astype(np.int32)
    latents = latents.astype(np.float32)

    @jax.jit
    def error(params, latents, noise, timesteps, ids):
        unet = nnx.merge(graphs["unet"], params["unet"])
        states = nnx.merge(graphs["text_encoder"], params["text_encoder"])(ids)
        noisy = schedule.add_noise(latents, noise, timesteps)
        predicted = unet(noisy, timesteps, [unet.text_context(states)])
        return jnp.mean((predicted - schedule.target(latents, noise, timesteps)) ** 2)

    def evaluate(state, _):
        errors = [
            error(state["ema"], latents[s], noise[s], timesteps[s], ids[s])
            for s in (slice(i, i + 64) for i in range(0, len(latents), 64))
        ]
        return {"validation/loss": float(np.mean(errors))}

    return evaluate


def _vae_config(settings: VAESettings, seed: int, num_images: int) -> RunConfig:
    return RunConfig({"vae": settings, "seed": seed, "num_images": num_images})


def _unet_config(settings: UNetSettings, text_settings: TextSettings, seed: int) -> RunConfig:
    return RunConfig({"unet": settings, "text_encoder": text_settings, "seed": seed})


def _optimizer(settings: VAESettings | UNetSettings, b2: float = 0.999):
    return make_optimizer(
        make_schedule(settings["learning_rate"], settings["num_steps"], WARMUP),
        weight_decay=1e-4,
        clip_norm=1.0,
        b2=b2,
    )
