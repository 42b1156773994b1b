"""image-adapter-tiny: an IP-Adapter "plus" for tiny-sd, trained on scenes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from flax import nnx
from jaxtyping import Array, Float, Int

from neuroadapter_jax.adapter.image_adapter import ImageAdapter, ResamplerConfig
from neuroadapter_jax.adapter.image_adapter_files import CONFIG, WEIGHTS, save_image_adapter
from neuroadapter_jax.diffusion.identity import FINGERPRINT, backbone_identity
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.prompt import empty_ids
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import Backbone, load_pretrained
from neuroadapter_jax.encoder.image_embedding import ImageEmbedder
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.ranges import (
    Count,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    Share,
    ShareBelowOne,
    check,
    check_values,
    named,
)
from neuroadapter_jax.sharding import ShardedBatches, make_mesh, replicate
from neuroadapter_jax.simulation.scenes import sample_scenes
from neuroadapter_jax.training.backbone import ArrayBatches, initial_state, make_step
from neuroadapter_jax.training.loop import Evaluation, Intervals, fit
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, claim_export
from neuroadapter_jax.training.scene_arrays import in_pieces, kept_in_file, scaled_latents

NUM_VALIDATION = 256
WARMUP = 100
EXPORTED = (CONFIG, WEIGHTS, "README.md")


class ResamplerSettings(TypedDict):
    """Widths of the resampler; fields of `ResamplerConfig`."""

    width: Count
    depth: Count
    heads: Count
    head_width: Count
    queries: Count


class TrainingValues(TypedDict):
    """How the adapter is trained.

    `caption_rate` is the share of samples that see their caption, the others see the empty prompt,
    so that the image alone suffices; `drop_rate` the share that see the embedding of no image.
    """

    batch_size: Count
    num_steps: Annotated[int, Gt(WARMUP)]
    learning_rate: Positive
    weight_decay: NonNegative
    ema_decay: ShareBelowOne
    gamma: Positive | Annotated[None, "for no weighting"]
    caption_rate: Share
    drop_rate: Share


@dataclasses.dataclass(frozen=True)
class ImageAdapterRun:
    """Everything that defines a training of an image adapter.

    Attributes:
        backbone: folder, shipped or Hub name of the text-to-image model.
        embedder: folder or shipped name of the image encoder.
        num_scenes: scenes to train on; 256 more are held out.
        scene_seed: of the scenes; the simulated subject looks at others.
        seed: of weights, noise and batches.
        resampler: its widths.
        training: how it is trained.

    Raises:
        SettingError: a setting out of its range.
    """

    backbone: str
    embedder: str
    num_scenes: int
    scene_seed: int
    seed: int
    resampler: ResamplerSettings
    training: TrainingValues

    def __post_init__(self) -> None:
        for name, hint in {"seed": Seed, "scene_seed": Seed, "num_scenes": Count}.items():
            check(name, getattr(self, name), hint)
        for name in ("backbone", "embedder"):
            check(name, getattr(self, name), str)
        with named("resampler."):
            check_values(self.resampler, ResamplerSettings, "a setting of the resampler")
        with named("training."):
            check_values(self.training, TrainingValues, "a setting of the training")
            if (size := self.training["batch_size"]) > self.num_scenes:
                raise SettingError("batch_size", size, f"at most num_scenes, {self.num_scenes}")

    def run_config(self) -> RunConfig:
        """What the work folder keeps and compares."""
        values = {"resampler": self.resampler, "training": self.training, "seed": self.seed}
        values |= {"num_scenes": self.num_scenes, "scene_seed": self.scene_seed}
        inputs = {"backbone": backbone_identity(self.backbone)[FINGERPRINT]}
        inputs["embedder"] = ImageEmbedder.load(self.embedder).fingerprint
        return RunConfig(values, inputs=inputs)


@runs_alone("workdir", "a training")
def train_image_adapter(
    run: ImageAdapterRun, export: str | Path, workdir: str | Path, *, command: str = ""
) -> dict[str, float]:
    """Train an image adapter on a frozen text-to-image model, or go on, and export it (fp16).

    ::

        loss = w_t |eps - U-Net(x_t, t, text, image adapter(z))|^2

    with Min-SNR weights w_t; the U-Net, its text encoder and the image encoder stay as they are.

    Args:
        run: what defines it.
        export: where config.json and image_adapter.safetensors go.
        workdir: checkpoints, metrics.jsonl and the scenes' latents and embeddings.
        command: what was typed, for config.json.

    Returns:
        The losses on the held-out scenes.

    Raises:
        InputError: the work folder is another run's, or the export's holds other files.
    """
    run_config, workdir = run.run_config(), Path(workdir)
    run_config.require_same(workdir)
    claim_export(export, workdir, EXPORTED)
    backbone, embedder = load_pretrained(run.backbone), ImageEmbedder.load(run.embedder)
    arrays = _scene_arrays(run, backbone, embedder, workdir)
    unet = backbone.unet
    config = ResamplerConfig(
        embedding_width=embedder.shape[1],
        token_width=unet.config.cross_attention_dim,
        **run.resampler,
    )
    adapter = ImageAdapter.for_unet(unet, config, rngs=nnx.Rngs(run.seed))
    objective = ImageAdapterObjective.of(adapter, backbone, embedder, run.training)
    optimizer = make_optimizer(
        make_schedule(run.training["learning_rate"], run.training["num_steps"], WARMUP),
        weight_decay=run.training["weight_decay"],
        clip_norm=1.0,
    )
    # The key and value matrices begin as the U-Net's own arrays, which a step must not give away.
    params = jax.tree.map(jnp.copy, nnx.state(adapter, nnx.Param))
    mesh = make_mesh()
    frozen = replicate(objective.frozen(backbone), mesh)
    step = make_step(objective.loss, optimizer, run.seed, run.training["ema_decay"])
    train = {name: array[:-NUM_VALIDATION] for name, array in arrays.items()}
    held_out = {name: array[-NUM_VALIDATION:] for name, array in arrays.items()}
    measure = _validation(objective, frozen, held_out)
    state = fit(
        lambda state, batch: step(state, {**batch, "frozen": frozen}),
        replicate(initial_state(params, optimizer), mesh),
        ShardedBatches(ArrayBatches(train, run.training["batch_size"], run.seed), mesh),
        workdir=workdir,
        num_steps=run.training["num_steps"],
        intervals=Intervals(log=20, checkpoint=100, evaluate=250),
        config=run_config,
        evaluation=Evaluation(measure),
    )
    losses = measure(state, 0)
    save_image_adapter(
        export,
        nnx.merge(objective.adapter, state["ema"]),
        unet,
        embedder=run.embedder,
        kind=embedder.kind,
        embedder_fingerprint=embedder.fingerprint,
        backbone=run.backbone,
        backbone_fingerprint=run_config.inputs["backbone"],
        training={**run_config.values, "command": command},
    )
    return losses


@dataclasses.dataclass(frozen=True)
class ImageAdapterObjective:
    """The loss of an image adapter, as a function of its parameters and a batch.

    Attributes:
        adapter: NNX graph of the adapter.
        unet: NNX graph of the U-Net.
        text_encoder: NNX graph of the text encoder.
        schedule: noise schedule and prediction type.
        empty: ids of the empty prompt.
        no_image: embedding of no image.
        training: shares and weights.
    """

    adapter: Any
    unet: Any
    text_encoder: Any
    schedule: NoiseSchedule
    empty: Int[np.ndarray, "1 k"]
    no_image: Float[np.ndarray, "1 k2 c"]
    training: TrainingValues

    @classmethod
    def of(
        cls,
        adapter: ImageAdapter,
        backbone: Backbone,
        embedder: ImageEmbedder,
        training: TrainingValues,
    ) -> "ImageAdapterObjective":
        """The objective of an adapter, a frozen backbone and a frozen image encoder."""
        return cls(
            nnx.graphdef(adapter),
            nnx.graphdef(backbone.unet),
            nnx.graphdef(backbone.text_encoder),
            backbone.schedule,
            empty_ids(backbone),
            embedder.of_no_image(),
            training,
        )

    def frozen(self, backbone: Backbone) -> dict[str, Any]:
        """The parameters that do not train; batches carry them as "frozen"."""
        modules = {"unet": backbone.unet, "text_encoder": backbone.text_encoder}
        return {name: nnx.state(module, nnx.Param) for name, module in modules.items()}

    def predict(
        self,
        params: Any,
        frozen: dict[str, Any],
        noisy: Float[Array, "b y x c"],
        timesteps: Int[Array, " b"],
        ids: Int[Array, "b k"],
        embedding: Float[Array, "b k2 c2"],
    ) -> Float[Array, "b y x c"]:
        """What the U-Net predicts with the text and the image."""
        unet = nnx.merge(self.unet, frozen["unet"])
        states = nnx.merge(self.text_encoder, frozen["text_encoder"])(ids)
        image = nnx.merge(self.adapter, params)(embedding)
        return unet(noisy, timesteps, [unet.text_context(states), image])

    def loss(self, params: Any, batch: dict[str, Any], key: Array) -> tuple[Array, dict]:
        """(params, batch, key) -> the mean loss, and the one without weights.

        Args:
            params: of the adapter.
            batch: "latent", "embedding", "ids" and "frozen".
            key: of noise, timesteps and what is dropped.
        """
        noise_key, text_key, image_key = jax.random.split(key, 3)
        latents = batch["latent"].astype(jnp.float32)
        noise, timesteps = sample_noise(noise_key, latents, self.schedule)
        shown = jax.random.bernoulli(text_key, self.training["caption_rate"], (len(latents), 1))
        ids = jnp.where(shown, batch["ids"], self.empty)
        dropped = jax.random.bernoulli(image_key, self.training["drop_rate"], (len(latents), 1, 1))
        embedding = jnp.where(dropped, self.no_image, batch["embedding"].astype(jnp.float32))
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        predicted = self.predict(params, batch["frozen"], noisy, timesteps, ids, embedding)
        target = self.schedule.target(latents, noise, timesteps)
        weights = min_snr_weights(self.schedule, timesteps, self.training["gamma"])
        plain = jnp.mean((predicted - target) ** 2)
        return denoising_losses(predicted, target, weights).mean(), {"unweighted": plain}


def _scene_arrays(
    run: ImageAdapterRun, backbone: Backbone, embedder: ImageEmbedder, workdir: Path
) -> dict[str, np.ndarray]:
    """Latents, embeddings and caption ids of all scenes; the first two are kept on disk."""
    scenes = sample_scenes(run.num_scenes + NUM_VALIDATION, run.scene_seed)
    what = "what is computed of the scenes once"
    made = {
        "latent": kept_in_file(
            workdir / "latents.npy", what, lambda: scaled_latents(backbone.vae, scenes.images)
        ),
        "embedding": kept_in_file(
            workdir / "embedding.npy",
            what,
            lambda: in_pieces(embedder, scenes.images).astype(np.float16),
        ),
    }
    return made | {"ids": CLIPTokenizer(backbone.folder / "tokenizer")(scenes.captions)}


def _validation(
    objective: ImageAdapterObjective, frozen: dict[str, Any], held_out: dict[str, np.ndarray]
) -> Callable[[Any, int], dict[str, float]]:
    """Noise-prediction error on held-out scenes, with the image and without, and empty text."""
    rng, schedule = np.random.default_rng(0), objective.schedule
    latents = held_out["latent"].astype(np.float32)
    noise = rng.standard_normal(latents.shape).astype(np.float32)
    timesteps = rng.integers(0, schedule.num_train_timesteps, len(latents)).astype(np.int32)
    images = held_out["embedding"].astype(np.float32)

    @jax.jit
    def error(params, frozen, latents, noise, timesteps, embedding):
        noisy = schedule.add_noise(latents, noise, timesteps)
        ids = jnp.broadcast_to(objective.empty, (len(latents), objective.empty.shape[1]))
        predicted = objective.predict(params, frozen, noisy, timesteps, ids, embedding)
        return jnp.mean((predicted - schedule.target(latents, noise, timesteps)) ** 2)

    def measure(state: Any, _: int) -> dict[str, float]:
        found = {}
        for name, embedding in (
            ("loss", images),
            ("without_image", np.broadcast_to(objective.no_image, images.shape)),
        ):
            parts = [
                error(state["ema"], frozen, latents[s], noise[s], timesteps[s], embedding[s])
                for s in (slice(i, i + 64) for i in range(0, len(latents), 64))
            ]
            found[f"validation/{name}"] = float(np.mean(parts))
        return found

    return measure
