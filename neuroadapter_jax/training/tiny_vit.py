"""tiny-vit, the simulated data's image model: DINOv2's architecture, trained on scenes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Gt
from flax import nnx
from jaxtyping import Array, Float, Float16

from neuroadapter_jax.diffusion.weights import num_parameters
from neuroadapter_jax.encoder.features import Features, prepare_images
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
from neuroadapter_jax.encoder.weights import load_dinov2, save_dinov2
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.ranges import (
    Count,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    ShareBelowOne,
    check,
    check_values,
    named,
)
from neuroadapter_jax.readers import read_json_lines
from neuroadapter_jax.sharding import ShardedBatches, make_mesh, replicate
from neuroadapter_jax.simulation.scenes import (
    GROUNDS,
    IMAGE_SIZE,
    OBJECTS,
    PLACES,
    SKIES,
    SceneBatch,
    sample_scenes,
)
from neuroadapter_jax.training.backbone import ArrayBatches, initial_state, make_step
from neuroadapter_jax.training.loop import Evaluation, Intervals, fit
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, claim_export

_NUM_VALIDATION = 512
_WARMUP = 100
_SETTINGS = (("place", PLACES), ("ground", GROUNDS), ("sky", SKIES))


class ModelSettings(TypedDict):
    """Widths of the transformer; fields of `Dinov2Config`."""

    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    image_size: Count
    patch_size: Count


class ViTSettings(TypedDict):
    """How it is trained."""

    batch_size: Count
    num_steps: Annotated[int, Gt(_WARMUP)]
    learning_rate: Positive
    weight_decay: NonNegative
    ema_decay: ShareBelowOne
    pixel_weight: NonNegative


def check_settings(model: ModelSettings, training: ViTSettings, **others: Any) -> None:
    """Refuse settings of `pretrain_vit` that are out of range, before anything is made.

    Raises:
        SettingError: a setting that is.
    """
    for name, hint in {"seed": Seed, "scene_seed": Seed, "num_scenes": Count}.items():
        check(name, others[name], hint)
    with named("training."):
        check_values(training, ViTSettings, "a setting of the training")
        if (size := training["batch_size"]) > others["num_scenes"]:
            raise SettingError("batch_size", size, f"at most num_scenes, {others['num_scenes']}")
    with named("model."):
        check_values(model, ModelSettings, "a setting of the model")
        if model["image_size"] != IMAGE_SIZE:
            wanted = f"{IMAGE_SIZE}, the side of the scenes in pixels"
            raise SettingError("image_size", model["image_size"], wanted)
        if model["image_size"] % model["patch_size"]:
            raise SettingError("patch_size", model["patch_size"], "a divisor of image_size")
        if model["hidden_size"] % model["num_attention_heads"]:
            heads = model["num_attention_heads"]
            raise SettingError("num_attention_heads", heads, "a divisor of hidden_size")


class _Heads(nnx.Module):
    """What the model is asked about a scene while it trains."""

    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.objects = nnx.Linear(width, len(OBJECTS) + 1, rngs=rngs)
        self.pixels = nnx.Linear(width, 3 * config.patch_size**2, rngs=rngs)
        self.settings = nnx.Linear(width, sum(len(names) for _, names in _SETTINGS), rngs=rngs)


def object_shares(scenes: SceneBatch, patch: int) -> Float16[np.ndarray, "n k objects"]:
    """Share of each patch's pixels that show each object; the last entry is none of them."""
    n, _, rows, columns = scenes.masks.shape
    cut = scenes.masks.reshape(n, -1, rows // patch, patch, columns // patch, patch)
    shares = cut.mean(axis=(3, 5)).reshape(n, cut.shape[1], -1)
    result = np.zeros((n, shares.shape[2], len(OBJECTS) + 1), np.float32)
    for j in range(shares.shape[1]):
        shown = np.flatnonzero(scenes.mask_slots[:, j] >= 0)
        objects = scenes.objects[shown, scenes.mask_slots[shown, j]]
        result[shown, :, objects] += shares[shown, j]
    result[..., -1] = 1.0 - result[..., :-1].sum(axis=-1)
    return result.astype(np.float16)


def make_loss(graphs: dict[str, Any], features: Features, pixel_weight: float) -> Callable:
    """(params, batch, key) -> cross-entropies of objects and settings, and the patches' pixels.

    loss = mean_patches CE(shares of objects) + sum_{place, ground, sky} CE(class token)
           + pixel_weight mean (pixels - predicted)^2
    """

    def loss_fn(params, batch, key):
        del key  # nothing is random
        model = nnx.merge(graphs["model"], params["model"])
        heads = nnx.merge(graphs["heads"], params["heads"])
        images = prepare_images(batch["image"], features)
        states = model(images)
        patches = states[:, 1:]
        objects = optax.softmax_cross_entropy(
            heads.objects(patches), batch["shares"].astype(jnp.float32)
        ).mean()
        logits = jnp.split(
            heads.settings(states[:, 0]),
            np.cumsum([len(names) for _, names in _SETTINGS])[:-1],
            axis=-1,
        )
        entropies = [
            optax.softmax_cross_entropy_with_integer_labels(part, batch[name].astype(jnp.int32))
            for part, (name, _) in zip(logits, _SETTINGS, strict=True)
        ]
        settings = sum(entropy.mean() for entropy in entropies)
        pixels = jnp.mean((heads.pixels(patches) - _patches(images, model.config.patch_size)) ** 2)
        parts = {"objects": objects, "settings": settings, "pixels": pixels}
        return objects + settings + pixel_weight * pixels, parts

    return loss_fn


def _patches(images: Float[Array, "b y x c"], side: int) -> Float[Array, "b k f"]:
    b, y, x, c = images.shape
    cut = images.reshape(b, y // side, side, x // side, side, c).swapaxes(2, 3)
    return cut.reshape(b, (y // side) * (x // side), side * side * c)


@runs_alone("workdir", "a training")
def pretrain_vit(
    *,
    export: str | Path,
    workdir: str | Path,
    seed: int,
    num_scenes: int,
    scene_seed: int,
    model: ModelSettings,
    training: ViTSettings,
    command: str,
) -> dict[str, float]:
    """Train a small vision transformer to say what stands where in scenes, and export it (fp16).

    Args:
        export: where config.json, model.safetensors and README.md go.
        workdir: checkpoints and metrics.jsonl.
        seed: of weights and batches.
        num_scenes: scenes to train on; 512 more are held out.
        scene_seed: of the scenes; the simulated subject looks at others.
        model: the transformer's widths.
        training: how it is trained.
        command: what was typed, for the card.

    Returns:
        The losses on the held-out scenes.

    Raises:
        SettingError: see `check_settings`.
        InputError: the work folder is another run's, or the export's holds other files.
    """
    check_settings(model, training, seed=seed, scene_seed=scene_seed, num_scenes=num_scenes)
    run_config = RunConfig({"model": model, "training": training, "seed": seed})
    run_config.require_same(workdir)
    claim_export(export, workdir, ("config.json", "model.safetensors", "README.md"))
    config = Dinov2Config(**model)
    features = Features("", config.image_size, config.image_size)
    modules = {
        "model": Dinov2Model(config, rngs=nnx.Rngs(seed)),
        "heads": _Heads(config, rngs=nnx.Rngs(seed + 1)),
    }
    graphs = {name: nnx.graphdef(module) for name, module in modules.items()}
    params = {name: nnx.state(module, nnx.Param) for name, module in modules.items()}
    scenes = sample_scenes(num_scenes + _NUM_VALIDATION, scene_seed)
    arrays = {
        "image": scenes.images,
        "shares": object_shares(scenes, config.patch_size),
        **{name: getattr(scenes, name) for name, _ in _SETTINGS},
    }
    optimizer = make_optimizer(
        make_schedule(training["learning_rate"], training["num_steps"], _WARMUP),
        weight_decay=training["weight_decay"],
    )
    loss_fn = make_loss(graphs, features, training["pixel_weight"])
    held_out = {name: array[-_NUM_VALIDATION:] for name, array in arrays.items()}
    losses = jax.jit(lambda params, batch: loss_fn(params, batch, None))

    def evaluate(state, _):
        pieces = [
            losses(state["ema"], {name: array[i : i + 64] for name, array in held_out.items()})
            for i in range(0, _NUM_VALIDATION, 64)
        ]
        parts = {name: np.mean([part[name] for _, part in pieces]) for name in pieces[0][1]}
        values = {"loss": np.mean([loss for loss, _ in pieces]), **parts}
        return {f"validation/{name}": float(value) for name, value in values.items()}

    mesh = make_mesh()
    train = {name: array[:-_NUM_VALIDATION] for name, array in arrays.items()}
    state = fit(
        make_step(loss_fn, optimizer, seed, training["ema_decay"]),
        replicate(initial_state(params, optimizer), mesh),
        ShardedBatches(ArrayBatches(train, training["batch_size"], seed), mesh),
        workdir=workdir,
        num_steps=training["num_steps"],
        intervals=Intervals(log=20, checkpoint=250, evaluate=250),
        config=run_config,
        evaluation=Evaluation(evaluate),
    )
    save_dinov2(export, nnx.merge(graphs["model"], state["ema"]["model"]), np.float16)
    return evaluate(state, 0)


def card(export: str | Path, workdir: str | Path, command: str, num_scenes: int) -> str:
    """The model card of a finished run, from what it measured."""
    lines = read_metrics(Path(workdir) / "metrics.jsonl")
    last = [line for line in lines if line["kind"] == "evaluation"][-1]
    timing = read_json_lines(Path(workdir) / "timing.jsonl", "seconds of a training")
    minutes = sum(line["seconds"] for line in timing) / 60
    names = {
        "objects": "cross-entropy of the objects in a patch, nats",
        "settings": "cross-entropies of place, ground and sky, summed, nats",
        "pixels": "mean squared error of a patch's pixels, in ImageNet's units",
    }
    rows = "\n".join(
        f"| {text} | {last[f'validation/{name}']:.4f} |" for name, text in names.items()
    )
    return f"""# tiny-vit

A vision transformer of DINOv2's architecture for 64 x 64 scenes of OpenMoji artwork, in
transformers' layout (float16, {num_parameters(load_dinov2(export)):,} parameters). It was trained
from scratch by

    {command}

on {num_scenes:,} scenes, {last["step"]:,} steps, {minutes:.0f} minutes on two CPU cores that other
work shared. Unlike DINOv2 it was trained with labels of what the images show: the object in each
patch, and place, ground and sky; and it gave back each patch's pixels. On held-out scenes:

| | |
| --- | --- |
{rows}

No response of a brain went into it. The artwork is OpenMoji's (https://openmoji.org), CC BY-SA 4.0.
"""
