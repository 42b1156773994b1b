"""Training of the brain encoder on prepared records: from settings to a folder of encoders."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import MinLen
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.cortex.parcellation import Parcellation, Parcels
from neuroadapter_jax.datasets.input_pipeline import make_batches, split_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.config_files import read_config
from neuroadapter_jax.diffusion.identity import COMMIT, FINGERPRINT
from neuroadapter_jax.encoder.accuracy import vertex_correlation
from neuroadapter_jax.encoder.brain_encoder import refuse_other_encoder, save_brain_encoder
from neuroadapter_jax.encoder.features import Features
from neuroadapter_jax.encoder.region_encoder import (
    ROW_LENGTH,
    RegionEncoder,
    RegionEncoderConfig,
    Rows,
    make_rows,
)
from neuroadapter_jax.encoder.vit import Dinov2Config
from neuroadapter_jax.encoder.weights import dinov2_folder, dinov2_identity
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import json_values, refuse_other_kind
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.ranges import (
    Count,
    CountFromZero,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    ShareBelowOne,
    check_fields,
)
from neuroadapter_jax.sharding import ShardedBatches, gather_to_host, make_mesh, shard
from neuroadapter_jax.training.backbone import initial_state, make_step
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.image_features import FeatureDataset, compute_features
from neuroadapter_jax.training.inputs import record_inputs, require_images_for_batch
from neuroadapter_jax.training.loop import Evaluation, Intervals, fit
from neuroadapter_jax.training.optimizers import Schedule, make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, require_checkpoints
from neuroadapter_jax.training.trackers import require_trackers

MODEL = "model"


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """Everything that defines a training run of brain encoders.

    Attributes:
        prepared: folder of prepared records.
        parcellation: label file of the left and of the right hemisphere, none where the records
            bring their own regions; all regions are used.
        parcels: "own" or "released", see `read_parcellation`; as the adapter has them.
        backbone: DINOv2 model, see `dinov2_folder`.
        image_size, padded_size: images are resized to image_size rows and columns, then zeros are
            added up to padded_size.
        blocks: which features to train on, an encoder each: 0 the patch tokens, k the queries of
            the k-th block from the end.
        num_runs: encoders per block, of different seeds.
        num_heads, mlp_width, dropout, row_length: of `RegionEncoder` and `make_rows`.
        seed: of parameters, order and dropout.
        batch_size: over all devices.
        num_steps: optimizer steps; None counts them from num_epochs.
        num_epochs: visits of each training image; used when num_steps is None.
        learning_rate, warmup_steps, schedule: of the rate, see `make_schedule`.
        weight_decay, clip_norm: of AdamW, see `make_optimizer`.
        decay_epochs: epochs after which schedule "step" halves the rate.
        ema_decay: of the moving average that is evaluated and saved; None for none.
        repeats: "single" trials, as in the released code, or see `batch_dataset`.
        sharpness: of the ensemble, see `ensemble_weights`.
        log_every, evaluate_every, checkpoint_every: in steps.

    Raises:
        SettingError: a setting that is none of its choices or out of its range.
        InputError: settings that exclude each other.
    """

    prepared: str
    parcellation: tuple[str, ...]
    parcels: Parcels = "own"
    backbone: str = "facebook/dinov2-base"
    image_size: Count = 425
    padded_size: Count = 434
    blocks: Annotated[tuple[CountFromZero, ...], MinLen(1)] = (1, 3, 5, 7)
    num_runs: Count = 1
    num_heads: Count = 16
    mlp_width: Count = 1024
    dropout: ShareBelowOne = 0.1
    row_length: Count = ROW_LENGTH
    seed: Seed = 0
    batch_size: Count = 16
    num_steps: Count | Annotated[None, "for num_epochs"] = None
    num_epochs: Positive | Annotated[None, "for num_steps"] = 10
    learning_rate: Positive = 5e-4
    warmup_steps: CountFromZero = 0
    schedule: Schedule = "step"
    decay_epochs: Positive = 4.0
    weight_decay: NonNegative = 1e-4
    clip_norm: Positive | Annotated[None, "for no clipping"] = 0.1
    ema_decay: ShareBelowOne | Annotated[None, "for no average"] = None
    repeats: Literal["average", "random", "single"] = "single"
    sharpness: NonNegative = 20.0
    log_every: Count = 20
    evaluate_every: Count = 500
    checkpoint_every: Count = 500

    def __post_init__(self):
        check_fields(self)
        if len(self.parcellation) not in (0, 2):
            raise SettingError("parcellation", self.parcellation, "two label files, left and right")
        if self.num_steps is None and self.num_epochs is None:
            raise InputError("num_steps and num_epochs are both None; give one of them.")
        if self.num_steps is not None and self.warmup_steps >= self.num_steps:
            raise SettingError(
                "warmup_steps", self.warmup_steps, f"less than num_steps, {self.num_steps}"
            )
        if len(set(self.blocks)) < len(self.blocks):
            raise SettingError("blocks", self.blocks, "each block once; num_runs trains it again")
        if self.padded_size < self.image_size:
            raise SettingError(
                "padded_size", self.padded_size, f"at least image_size, {self.image_size}"
            )

    @property
    def features(self) -> Features:
        """What the encoders read."""
        return Features(self.backbone, self.image_size, self.padded_size)

    @property
    def intervals(self) -> Intervals:
        """When a run logs, evaluates and saves."""
        return Intervals(self.log_every, self.checkpoint_every, self.evaluate_every)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return json_values(dataclasses.asdict(self))


def make_encoder_loss(
    graph: Any, grid: tuple[int, int], rows: Rows
) -> Callable[[Any, dict[str, Array], Array], tuple[Array, dict[str, Array]]]:
    """(params, batch, key) -> mean over samples and vertices of (predicted - measured)^2.

    Vertices in no region are left out.
    """

    def loss_fn(params, batch, key):
        features = batch["features"].astype(jnp.float32)
        predicted = nnx.merge(graph, params)(features, grid, rows, key)
        measured = pack(batch["betas"].astype(jnp.float32), rows.packing)
        errors = jnp.where(rows.packing.mask, jnp.square(predicted - measured), 0.0)
        return errors.sum() / (len(features) * rows.packing.mask.sum()), {}

    return loss_fn


def read_backbone_config(settings: EncoderSettings) -> Dinov2Config:
    """The config of the encoders' backbone, which the settings fit; no weights are read.

    Raises:
        MissingFileError: no such backbone.
        SettingError: a block that the backbone lacks, or sizes that do not divide its own.
    """
    config = read_config(dinov2_folder(settings.backbone) / "config.json", Dinov2Config)
    depth = config.num_hidden_layers
    if any(block > depth for block in settings.blocks):
        raise SettingError(
            "blocks",
            settings.blocks,
            f"at most {depth}, the blocks of {settings.backbone} counted from the end from 1",
        )
    if settings.padded_size % config.patch_size:
        raise SettingError(
            "padded_size",
            settings.padded_size,
            f"a multiple of {config.patch_size}, the patch of {settings.backbone}",
        )
    if config.hidden_size % settings.num_heads:
        raise SettingError(
            "num_heads",
            settings.num_heads,
            f"a divisor of {config.hidden_size}, the width of {settings.backbone}",
        )
    return config


class EncoderTrainingSetup:
    """Data, regions and parcellation that all encoders of a run share.

    Training and validation images only: the test split is never opened.

    Raises:
        InputError: a parcellation of another mesh, or what `read_backbone_config` refuses.
    """

    def __init__(self, settings: EncoderSettings):
        self.settings = settings
        self.train = PreparedDataset(settings.prepared, "train")
        self.validation = PreparedDataset(settings.prepared, "validation")
        for split in (self.train, self.validation):
            split.require_images()
        require_images_for_batch(settings.batch_size, len(self.train), settings.prepared)
        self.regions: Parcellation = self.train.parcellation(
            settings.parcellation, settings.parcels
        )
        self.rows = make_rows(self.regions, settings.row_length)
        config = read_backbone_config(settings)
        side = settings.padded_size // config.patch_size
        self.grid = (side, side)
        self.config = RegionEncoderConfig(
            num_regions=len(self.regions),
            num_rows=len(self.rows.region),
            row_length=self.rows.packing.index.shape[1],
            width=config.hidden_size,
            num_heads=settings.num_heads,
            mlp_width=settings.mlp_width,
            dropout=settings.dropout,
        )
        self.graph = nnx.graphdef(
            abstract_network(lambda rngs: RegionEncoder(self.config, rngs=rngs))
        )
        steps_per_epoch = len(self.train) / settings.batch_size
        self.num_steps = settings.num_steps or round((settings.num_epochs or 0) * steps_per_epoch)
        self.optimizer = make_optimizer(
            make_schedule(
                settings.learning_rate,
                self.num_steps,
                settings.warmup_steps,
                settings.schedule,
                max(1, round(settings.decay_epochs * steps_per_epoch)),
            ),
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
        )

    def initial_state(self, seed: int) -> dict[str, Any]:
        """The state of one encoder at step 0."""
        params = nnx.state(RegionEncoder(self.config, rngs=nnx.Rngs(seed)), nnx.Param)
        return initial_state(params, self.optimizer, ema=self.settings.ema_decay is not None)

    def trained(self, state: dict[str, Any]) -> Any:
        """The parameters of a state: the moving average if there is one."""
        return gather_to_host(state.get("ema", state["params"]))


def _folder_of(workdir: Path, block: int, run: int) -> Path:
    return workdir / f"block{block}_run{run}"


def _run_config(
    settings: EncoderSettings,
    block: int,
    run: int,
    inputs: Mapping[str, Any],
    recorded: Mapping[str, Any] | None = None,
) -> RunConfig:
    return RunConfig(
        settings.to_dict() | {"block": block, "run": run},
        {"parcels": "own"},
        inputs=inputs,
        recorded=recorded or {},
    )


def check_encoders_before_preparing(settings: EncoderSettings, workdir: str | Path) -> None:
    """Refuse what can be refused before any data are prepared.

    Raises:
        InputError: what `read_backbone_config` refuses, or a work folder of other settings.
    """
    refuse_other_kind(workdir, "encoder run")
    read_backbone_config(settings)
    inputs = record_inputs(settings.prepared, settings.parcellation, settings.parcels)
    for block in settings.blocks:
        for run in range(settings.num_runs):
            folder = _folder_of(Path(workdir), block, run)
            _run_config(settings, block, run, inputs).require_same(folder)
            require_checkpoints(folder, settings.checkpoint_every)


@runs_alone("workdir", "a training of brain encoders")
def train_encoders(
    settings: EncoderSettings,
    workdir: str | Path,
    *,
    progress: bool = True,
    log_to: Sequence[str] = (),
) -> Path:
    """Train, or go on training, every encoder of an ensemble; returns the folder of the result.

    Each has its own folder in the work folder, with metrics.jsonl and checkpoints, as
    `fit` writes them. The best checkpoints, by the mean correlation on validation images, go to
    workdir/model; see `BrainEncoder`.

    Args:
        settings: of the run; a work folder of other settings is refused.
        workdir: gets a folder per encoder, and the result in `model`.
        progress: show bars.
        log_to: what keeps the numbers of each encoder beside metrics.jsonl: "tensorboard", "wandb".

    Raises:
        InputError: a parcellation of another mesh, a work folder of other settings, or records or a
            backbone that are no longer what they were.
        ExistingFileError: workdir/model holds another encoder.
    """
    workdir = Path(workdir)
    require_trackers(log_to)
    check_encoders_before_preparing(settings, workdir)
    setup = EncoderTrainingSetup(settings)
    provenance = {"training": settings.to_dict(), "data": dict(setup.train.origin.data)}
    refuse_other_encoder(workdir / MODEL, provenance)
    identity = dinov2_identity(settings.backbone)
    inputs = record_inputs(settings.prepared, settings.parcellation, settings.parcels)
    inputs |= {"backbone": identity[FINGERPRINT], "regions": setup.regions.fingerprint()}
    recorded = {COMMIT: identity[COMMIT]} if COMMIT in identity else {}
    members, blocks, correlations = [], [], []
    for block in settings.blocks:
        cached = {
            name: compute_features(
                split,
                settings.features,
                block,
                workdir / "features" / f"{name}_block{block}.npy",
                progress=progress,
            )
            for name, split in (("train", setup.train), ("validation", setup.validation))
        }
        for run in range(settings.num_runs):
            folder = _folder_of(workdir, block, run)
            config = _run_config(settings, block, run, inputs, recorded)
            member, correlation = _train_one(setup, cached, config, folder, progress, log_to)
            members.append(member)
            blocks.append(block)
            correlations.append(correlation)
    save_brain_encoder(
        workdir / MODEL,
        settings.features,
        members,
        blocks,
        setup.regions,
        np.stack(correlations),
        sharpness=settings.sharpness,
        provenance=provenance,
        backbone=identity,
    )
    return workdir / MODEL


def _train_one(
    setup: EncoderTrainingSetup,
    cached: dict[str, np.ndarray],
    config: RunConfig,
    folder: Path,
    progress: bool,
    log_to: Sequence[str],
) -> tuple[RegionEncoder, Float[np.ndarray, " n"]]:
    settings = setup.settings
    seed = settings.seed + int(config.values["run"])
    mesh = make_mesh()
    loss_fn = make_encoder_loss(setup.graph, setup.grid, setup.rows)
    batches = make_batches(
        FeatureDataset(setup.train, cached["train"]),
        settings.batch_size,
        seed,
        repeats=settings.repeats,
        process=(jax.process_index(), jax.process_count()),
    )
    predict = _make_predict(setup, cached["validation"])
    measured = np.concatenate(list(_measured(setup.validation)))

    def evaluate(state: dict[str, Any], step: int) -> dict[str, float]:
        correlation = vertex_correlation(predict(setup.trained(state)), measured)
        return {"validation/correlation": float(correlation[_in_region(setup)].mean())}

    state = setup.initial_state(seed)
    fit(
        make_step(loss_fn, setup.optimizer, seed, settings.ema_decay),
        shard(state, mesh),
        ShardedBatches(batches, mesh),
        workdir=folder,
        num_steps=setup.num_steps,
        intervals=settings.intervals,
        config=config,
        evaluation=Evaluation(evaluate, "validation/correlation", best_is_highest=True),
        progress=progress,
        log_to=log_to,
    )
    store = CheckpointStore(folder)
    try:
        _, best = store.restore_best(state)
    finally:
        store.close()
    params = setup.trained(best)
    return nnx.merge(setup.graph, params), vertex_correlation(predict(params), measured)


def _make_predict(
    setup: EncoderTrainingSetup, features: Float[np.ndarray, "i k f"], batch_size: int = 25
) -> Callable[[Any], Float[np.ndarray, "i n"]]:
    """Predicted responses of the whole cortex for given parameters."""
    num_vertices = sum(setup.regions.num_vertices)
    # On the host: NumPy scatters into the whole cortex without a copy per device.
    mask, vertices = np.asarray(setup.rows.packing.mask), _in_region(setup)

    @jax.jit
    def packed(params, features):
        return nnx.merge(setup.graph, params)(features.astype(jnp.float32), setup.grid, setup.rows)

    def predict(params: Any) -> Float[np.ndarray, "i n"]:
        result = np.zeros((len(features), num_vertices), np.float32)
        for first in range(0, len(features), batch_size):
            part = np.asarray(features[first : first + batch_size])
            values = np.asarray(packed(params, part))
            result[first : first + len(part), vertices] = values[:, mask]
        return result

    return predict


def _measured(dataset: PreparedDataset) -> Iterator[np.ndarray]:
    for batch in split_batches(dataset):
        yield batch["betas"].astype(np.float32)


def _in_region(setup: EncoderTrainingSetup) -> np.ndarray:
    return np.asarray(setup.rows.packing.index)[np.asarray(setup.rows.packing.mask)]
