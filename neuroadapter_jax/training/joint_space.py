"""Training the joint space of scenes and captions: two linear maps, a minute on two cores."""

from pathlib import Path
from typing import Annotated, Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from flax import nnx
from jaxtyping import Float

from neuroadapter_jax.diffusion.weights import num_parameters
from neuroadapter_jax.encoder.features import Features, prepare_images
from neuroadapter_jax.encoder.joint_space import (
    JointSpace,
    JointSpaceConfig,
    contrastive_loss,
    last_states,
    load_networks,
    save_joint_space,
)
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.metrics.retrieval import retrieval_top1
from neuroadapter_jax.ranges import (
    Count,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    check,
    check_values,
    named,
)
from neuroadapter_jax.sharding import ShardedBatches, make_mesh, replicate
from neuroadapter_jax.simulation.scenes import SceneBatch, sample_scenes
from neuroadapter_jax.training.backbone import ArrayBatches, initial_state, make_step
from neuroadapter_jax.training.loop import Evaluation, Intervals, fit
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, claim_export
from neuroadapter_jax.training.scene_arrays import in_pieces

_WARMUP = 50
_NUM_VALIDATION = 300
FILES = ("config.json", "model.safetensors", "README.md")


class JointSettings(TypedDict):
    """How it is trained."""

    batch_size: Count
    num_steps: Annotated[int, Gt(_WARMUP)]
    learning_rate: Positive
    weight_decay: NonNegative


def check_settings(training: Any, **others: Any) -> None:
    """Refuse settings of `train_joint_space` that are out of range, before anything is made.

    Raises:
        SettingError: a setting that is.
    """
    whole = {"seed": Seed, "scene_seed": Seed, "num_scenes": Count, "width": Count}
    for name, hint in whole.items():
        check(name, others[name], hint)
    for name in ("vit", "backbone"):
        check(name, others[name], str)
    with named("training."):
        check_values(training, JointSettings, "a setting of the training")
        if (size := training["batch_size"]) > others["num_scenes"]:
            raise SettingError("batch_size", size, f"at most num_scenes, {others['num_scenes']}")


@runs_alone("workdir", "a training")
def train_joint_space(
    *,
    export: str | Path,
    workdir: str | Path,
    vit: str,
    backbone: str,
    seed: int,
    num_scenes: int,
    scene_seed: int,
    width: int,
    training: JointSettings,
) -> dict[str, float]:
    """Train the two maps on pairs of scenes and captions, and export them (float16).

    Args:
        export: where config.json and the weights go; see `save_joint_space`.
        workdir: checkpoints and metrics.jsonl.
        vit: name or folder of the image model, frozen.
        backbone: name or folder of the backbone whose text encoder is used, frozen.
        seed: of weights and batches.
        num_scenes: scenes to train on; 300 more are held out.
        scene_seed: of the scenes; the simulated subject looks at others.
        width: of the space.
        training: how it is trained.

    Returns:
        On the held-out scenes: "caption_to_image" and "image_to_caption", top-1 retrieval among
        "pool"; and "parameters".

    Raises:
        SettingError: see `check_settings`.
        InputError: the work folder is another run's, or the export's holds other files.
    """
    settings = {
        "vit": vit, "backbone": backbone, "seed": seed, "num_scenes": num_scenes,
        "scene_seed": scene_seed, "width": width, "training": training,
    }  # fmt: skip
    check_settings(**settings)
    run_config = RunConfig(settings)
    run_config.require_same(workdir)
    claim_export(export, workdir, FILES)
    arrays = _states(vit, backbone, sample_scenes(num_scenes + _NUM_VALIDATION, scene_seed))
    config = JointSpaceConfig(arrays["image"].shape[1], arrays["text"].shape[1], width)
    graph, params = nnx.split(JointSpace(config, rngs=nnx.Rngs(seed)))

    def loss_fn(params, batch, key):
        del key  # nothing is random
        space = nnx.merge(graph, params)
        pair = space.images(batch["image"]), space.texts(batch["text"])
        return contrastive_loss(*pair, space.logit_scale[0]), {}

    optimizer = make_optimizer(
        make_schedule(training["learning_rate"], training["num_steps"], _WARMUP),
        weight_decay=training["weight_decay"],
        decay_filter=lambda path, leaf: jnp.ndim(leaf) > 1,
    )
    held_out = {name: array[-_NUM_VALIDATION:] for name, array in arrays.items()}

    @jax.jit
    def embed(params, batch):
        space = nnx.merge(graph, params)
        return space.images(batch["image"]), space.texts(batch["text"])

    def evaluate(state, _):
        images, texts = (np.asarray(x) for x in embed(state["ema"], held_out))
        found, _ = retrieval_top1(texts, images)
        return {
            "validation/caption_to_image": found["forward"]["value"],
            "validation/image_to_caption": found["backward"]["value"],
        }

    mesh = make_mesh()
    train = {name: array[:-_NUM_VALIDATION] for name, array in arrays.items()}
    state = fit(
        make_step(loss_fn, optimizer, seed, ema_decay=0.99),
        replicate(initial_state(params, optimizer), mesh),
        ShardedBatches(ArrayBatches(train, training["batch_size"], seed), mesh),
        workdir=workdir,
        num_steps=training["num_steps"],
        intervals=Intervals(log=100, checkpoint=1000, evaluate=1000),
        config=run_config,
        evaluation=Evaluation(
            evaluate, best_metric="validation/caption_to_image", best_is_highest=True
        ),
    )
    space = nnx.merge(graph, state["ema"])
    save_joint_space(export, space, vit, backbone)
    found = {name.partition("/")[2]: value for name, value in evaluate(state, 0).items()}
    return found | {"pool": float(_NUM_VALIDATION), "parameters": num_parameters(space)}


def _states(vit: str, backbone: str, scenes: SceneBatch) -> dict[str, Float[np.ndarray, "n c"]]:
    """Class tokens of the images and end states of the captions."""
    image_model, text_model, tokenizer = load_networks(vit, backbone)
    size = image_model.config.image_size
    graphs = [nnx.split(x) for x in (image_model, text_model)]

    @jax.jit
    def look(params, images):
        return nnx.merge(graphs[0][0], params)(prepare_images(images, Features("", size, size)))[
            :, 0
        ]

    @jax.jit
    def read(params, ids):
        return last_states(nnx.merge(graphs[1][0], params)(ids), ids, tokenizer.end)

    return {
        "image": in_pieces(lambda images: look(graphs[0][1], images), scenes.images),
        "text": in_pieces(lambda ids: read(graphs[1][1], ids), tokenizer(scenes.captions)),
    }
