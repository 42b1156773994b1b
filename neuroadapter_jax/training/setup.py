"""Training NeuroAdapter on prepared records: what `launch/train.py` calls."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from neuroadapter_jax.adapter.guidance import clean_start, sample_latents
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.adapter.region_projection import Initial
from neuroadapter_jax.adapter.token_dropout import check_rates
from neuroadapter_jax.cortex.label_files import read_parcellation
from neuroadapter_jax.cortex.packing import Packing, make_packing, pack, stack_packings
from neuroadapter_jax.cortex.parcellation import Parcellation, Parcels, match_regions
from neuroadapter_jax.cortex.selection import (
    select_group_regions,
    select_regions,
    shuffle_regions,
)
from neuroadapter_jax.datasets.input_pipeline import eval_batches, make_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.datasets.subjects import SubjectsDataset, open_prepared
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.prompt import empty_prompt
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import SAMPLERS, Start
from neuroadapter_jax.diffusion.unet import with_sample_size
from neuroadapter_jax.diffusion.weights import Backbone, load_pretrained
from neuroadapter_jax.sharding import ShardedBatches, local, make_mesh, shard
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.loop import check_config, fit
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise
from neuroadapter_jax.training.optimizers import make_optimizer
from neuroadapter_jax.training.step import (
    Frozen,
    bank_indices,
    latents_from_moments,
    make_train_step,
)

SaveGrid = Callable[[int, UInt8[np.ndarray, "b y x c"], UInt8[np.ndarray, "b y x c"]], None]


_PRECISIONS = {"fp32": jnp.float32, "bf16": jnp.bfloat16}


@dataclass(frozen=True)
class Settings:
    """What defines a training run.

    Attributes:
        prepared: folder of prepared records, or one folder per subject for a model of several.
        parcellation: label files of the left and the right hemisphere; none where the records
            bring their own regions.
        parcels: "own", or "released" for the left's vertex sets in both hemispheres; see
            `read_parcellation`.
        backbone: folder in the diffusers layout, a shipped name, a Hub id, or "random".
        precision: of the frozen U-Net's parameters and arithmetic in training, "fp32" or "bf16";
            what trains, the loss and reconstruction are float32.
        num_regions: p.
        per_hemisphere: take p / 2 regions of each hemisphere.
        banks: with several subjects, one projection bank for all ("shared", as in the released
            code) or one for each ("per_subject"); token norm, keys and values are always shared.
        groupwise: with several subjects, the same regions for all, by their mean rank (see
            `select_group_regions`; the released code); False for each subject's own of the
            highest SNR, which needs a bank for each.
        region_structure: whether a token stands for a region; if not, the regions' vertices are
            shuffled among them, see `shuffle_regions`.
        token_queries: learned queries that read the regions, see `NeuroAdapterConfig`; None for
            one token per region.
        max_vertices: v; None takes the largest chosen region's size.
        initial: the projection bank's random start.
        seed: of parameters, data order, noise and dropout.
        batch_size: b, over all devices.
        num_steps: training steps (batches); None for num_epochs.
        num_epochs: passes over the training images, used where num_steps is None.
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up.
        schedule: "cosine" or "constant" after the warm-up.
        weight_decay: of AdamW.
        b2: decay of AdamW's second moment.
        clip_norm: of the gradient's global norm; None for none.
        accumulate: parts of a batch computed one after the other, to save memory.
        remat: compute each U-Net block anew for the derivative, to save memory.
        fsdp: devices that share one copy of the parameters; 1 for data parallelism.
        gamma: cap of the Min-SNR weights; None for none.
        drop_rate: of tokens, "uniform" or a number.
        drop_all: share of samples that lose every token; 0 in the paper.
        ema_decay: of the moving average that is evaluated and exported; None for none.
        repeats: "average" over an image's repeats, or a "random" subset of them per visit.
        guidance_scale: of the validation images, and the exported model's own.
        sampler: likewise; see `samplers.plan`.
        start: likewise; what drawing starts from, see `clean_start`.
        num_candidates: images per response that the exported model draws unless told otherwise.
        sample_steps: denoising steps of the validation images.
        log_every, evaluate_every, checkpoint_every: in steps.
    """

    prepared: str | tuple[str, ...]
    parcellation: tuple[str, ...]
    parcels: Parcels = "own"
    backbone: str = "tiny-sd"
    precision: Literal["fp32", "bf16"] = "fp32"
    num_regions: int = 200
    per_hemisphere: bool = True
    banks: Literal["shared", "per_subject"] = "shared"
    groupwise: bool = True
    region_structure: bool = True
    token_queries: int | None = None
    max_vertices: int | None = None
    initial: Initial = "per_region"
    seed: int = 0
    batch_size: int = 16
    num_steps: int | None = 1000
    num_epochs: float | None = None
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 1e-6
    b2: float = 0.999
    clip_norm: float | None = 1.0
    accumulate: int = 1
    remat: bool = False
    fsdp: int = 1
    gamma: float | None = 5.0
    drop_rate: float | Literal["uniform"] = "uniform"
    drop_all: float = 0.0
    ema_decay: float | None = None
    repeats: Literal["average", "random"] = "average"
    guidance_scale: float = 2.0
    sampler: str = "ddim"
    start: Start = "noise"
    num_candidates: int = 1
    sample_steps: int = 20
    log_every: int = 20
    evaluate_every: int = 500
    checkpoint_every: int = 500

    def __post_init__(self):
        for name, allowed in {
            "precision": tuple(_PRECISIONS),
            "sampler": SAMPLERS,
            "start": ("noise", "grey"),
            "parcels": get_args(Parcels),
            "banks": ("shared", "per_subject"),
        }.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {value!r}; expected one of {list(allowed)}.")
        if self.num_steps is None and self.num_epochs is None:
            raise ValueError("num_steps and num_epochs are both None; give one of them.")
        if self.banks == "shared" and not self.groupwise and not isinstance(self.prepared, str):
            raise ValueError(
                "groupwise is False, so a token stands for another region in each subject, but "
                "banks is 'shared'; use banks='per_subject', or groupwise=True."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        """Settings from JSON values; an unknown key is refused by name.

        Raises:
            ValueError: a key that is no setting.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(
                f"Unknown training setting(s) {unknown}; the settings are {sorted(known)}."
            )
        prepared = values["prepared"]
        return cls(
            **{
                **values,
                "prepared": prepared if isinstance(prepared, str) else tuple(prepared),
                "parcellation": tuple(values["parcellation"]),
            }
        )

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The settings that have a default, which an older config.json may lack."""
        fields = dataclasses.fields(cls)
        return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, as a work folder's config.json holds them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


class TrainingSetup:
    """Everything a run is made of before its first step: data, regions, networks, optimizer.

    The U-Net draws images of the records' size, whatever size its own config.json names. `regions`
    holds each subject's regions, in token order, and `subjects` their numbers.

    Args:
        settings: of the run.
        precision: of the frozen U-Net; the settings' own when None.
        workdir: of a run that has begun, whose regions are taken; chosen anew when None.

    Raises:
        ValueError: a parcellation of another mesh than the records', or of other vertex sets than
            the work folder's regions, or p or v that do not fit.
    """

    def __init__(
        self,
        settings: Settings,
        precision: str | None = None,
        workdir: str | Path | None = None,
    ):
        self.settings = settings
        self.train = open_prepared(settings.prepared, "train")
        self.validation = open_prepared(settings.prepared, "validation")
        parts = _parts(self.train)
        for part in (*parts, *_parts(self.validation)):
            part.require_images()
        self.subjects = tuple(part.provenance["request"].get("subject") for part in parts)
        parcellation = parts[0].parcellation(settings.parcellation, settings.parcels)
        # As the work folder keeps them: before their vertices are shuffled.
        self.chosen = _kept_regions(workdir, settings, self.subjects, parcellation)
        if not self.chosen:
            self.chosen = choose_regions(parcellation, [part.ncsnr for part in parts], settings)
        self.regions: tuple[Parcellation, ...] = self.chosen
        if not settings.region_structure:
            self.regions = tuple(shuffle_regions(each, settings.seed) for each in self.chosen)
        several = settings.banks == "per_subject" and len(parts) > 1
        largest = max(len(v) for each in self.regions for v in each.vertices)
        packings = [
            make_packing(each, settings.max_vertices or largest)
            for each in (self.regions if several else self.regions[:1])
        ]
        self.packing: Packing = stack_packings(packings) if several else packings[0]
        backbone = load_pretrained(settings.backbone)
        self.adapter = NeuroAdapter.for_unet(
            backbone.unet,
            *self.packing.index.shape[-2:],
            settings.initial,
            settings.token_queries,
            len(packings),
            rngs=nnx.Rngs(settings.seed),
        )
        dtype = _PRECISIONS[precision or settings.precision]
        self.backbone: Backbone = backbone._replace(
            unet=with_sample_size(backbone.unet, self.train[0]["latent_mean"].shape[0], dtype)
        )
        del backbone  # with it the float32 copy of a U-Net that computes in bfloat16
        self.num_steps = settings.num_steps or round(
            settings.num_epochs * len(self.train) / settings.batch_size
        )
        self.adapter_graph = nnx.graphdef(self.adapter)
        self.unet_graph, unet_params = nnx.split(self.backbone.unet)
        self.frozen = Frozen(
            unet_params,
            empty_prompt(self.backbone),
            self.packing,
            self.backbone.vae.config.scaling_factor,
        )
        self.optimizer = make_optimizer(
            settings.learning_rate,
            self.num_steps,
            settings.warmup_steps,
            settings.schedule,
            settings.weight_decay,
            settings.clip_norm,
            b2=settings.b2,
        )

    def initial_state(self) -> dict[str, Any]:
        """The state at step 0."""
        # A copy: the step donates its state, and the adapter here must outlive it.
        params = jax.tree.map(jnp.copy, nnx.state(self.adapter, nnx.Param))
        state = {
            "params": params,
            "opt_state": self.optimizer.init(params),
            "step": jnp.zeros((), jnp.int32),
        }
        if self.settings.ema_decay is not None:
            state["ema"] = jax.tree.map(jnp.copy, params)
        return state

    def trained(self, state: dict[str, Any]) -> NeuroAdapter:
        """The adapter of a state: the moving average if there is one."""
        return nnx.merge(self.adapter_graph, state.get("ema", state["params"]))


def _parts(dataset: PreparedDataset | SubjectsDataset) -> tuple[PreparedDataset, ...]:
    """The records of each subject."""
    return (dataset,) if isinstance(dataset, PreparedDataset) else dataset.parts


def choose_regions(
    parcellation: Parcellation, ncsnr: Sequence[Float[np.ndarray, " n"]], settings: Settings
) -> tuple[Parcellation, ...]:
    """Each subject's regions by the subjects' SNR maps, as the settings say."""
    p, per_hemisphere = settings.num_regions, settings.per_hemisphere
    if len(ncsnr) > 1 and settings.groupwise:
        return (select_group_regions(parcellation, ncsnr, p, per_hemisphere),) * len(ncsnr)
    return tuple(select_regions(parcellation, each, p, per_hemisphere) for each in ncsnr)


def _regions_file(workdir: Path, subject: int | str | None, several: bool) -> Path:
    return workdir / (f"regions-subj{subject:0>2}.npz" if several else "regions.npz")


def _keep_regions(workdir: Path, setup: TrainingSetup) -> None:
    """Writes the chosen regions beside the checkpoints, which hold no word of them."""
    for subject, regions in zip(setup.subjects, setup.chosen, strict=True):
        path = _regions_file(workdir, subject, len(setup.subjects) > 1)
        if not path.exists():
            regions.save(path)


def _kept_regions(
    workdir: str | Path | None,
    settings: Settings,
    subjects: tuple[int | str | None, ...],
    parcellation: Parcellation,
) -> tuple[Parcellation, ...]:
    """The regions that a run's checkpoints are of, if the parcellation still has them.

    The same vertex sets under other names or in another order are the same regions: the kept ones
    are taken, in their order. A new run, and one of an older version, keeps none: ().
    """
    if workdir is None:
        return ()
    files = [_regions_file(Path(workdir), subject, len(subjects) > 1) for subject in subjects]
    if not all(file.is_file() for file in files):
        return ()
    kept = tuple(Parcellation.load(file) for file in files)
    for file, regions in zip(files, kept, strict=True):
        if len(regions) != settings.num_regions:
            raise ValueError(
                f"{file} holds {len(regions)} regions, but num_regions is {settings.num_regions}; "
                f"it belongs to another run, so choose another work folder."
            )
        try:
            match_regions(regions, parcellation, " and ".join(settings.parcellation))
        except ValueError as error:
            raise ValueError(f"The checkpoints of {workdir} do not fit: {error}") from None
    return kept


def check(
    settings: Settings, workdir: str | Path, num_vertices: tuple[int, int] | None = None
) -> None:
    """Refuses what can be refused before any data are prepared.

    Args:
        settings: of the run to come.
        workdir: its folder.
        num_vertices: of the subject's hemispheres; None where the subject, and with it the
            parcellation, is still to be simulated.

    Raises:
        FileNotFoundError: a label file is not there.
        ValueError: a work folder of another configuration, a drop rate that is none, or a
            parcellation of another mesh.
    """
    check_config(workdir, settings.to_dict(), Settings.defaults())
    check_rates(settings.drop_rate, settings.drop_all)
    if num_vertices is not None:
        read_parcellation(*settings.parcellation, num_vertices, settings.parcels)


def train(
    settings: Settings,
    workdir: str | Path,
    *,
    save_grid: SaveGrid | None = None,
    progress: bool = True,
    tensorboard: bool = False,
) -> NeuroAdapter:
    """Train, or go on training, in a work folder.

    Args:
        settings: of the run; a work folder of other settings is refused.
        workdir: gets config.json, regions.npz (with several subjects regions-subjNN.npz each),
            metrics.jsonl, timing.jsonl, checkpoints/.
        save_grid: called at each evaluation with (step, validation images, reconstructions).
        progress: show a bar.
        tensorboard: also write TensorBoard events.

    Returns:
        The adapter after the last step; `load_run` gives the one of the best validation loss.
    """
    check_config(workdir, settings.to_dict(), Settings.defaults())
    setup = TrainingSetup(settings, workdir=workdir)
    mesh = make_mesh(settings.fsdp)
    if settings.batch_size % (mesh.size * settings.accumulate):
        raise ValueError(
            f"batch_size is {settings.batch_size}, which {mesh.size} devices in "
            f"{settings.accumulate} parts cannot share evenly; choose a multiple of "
            f"{mesh.size * settings.accumulate}."
        )
    frozen = shard(setup.frozen, mesh)
    jitted = make_train_step(
        setup.adapter_graph,
        setup.unet_graph,
        setup.backbone.schedule,
        setup.optimizer,
        seed=settings.seed,
        gamma=settings.gamma,
        drop_rate=settings.drop_rate,
        drop_all=settings.drop_all,
        ema_decay=settings.ema_decay,
        accumulate=settings.accumulate,
        remat=settings.remat,
        mesh=mesh,
    )
    batches = make_batches(
        setup.train,
        settings.batch_size,
        settings.seed,
        repeats=settings.repeats,
        process=(jax.process_index(), jax.process_count()),
    )
    if jax.process_index() == 0:
        Path(workdir).mkdir(parents=True, exist_ok=True)
        _keep_regions(Path(workdir), setup)
    state = fit(
        lambda state, batch: jitted(state, frozen, batch),
        shard(setup.initial_state(), mesh),
        ShardedBatches(batches, mesh),
        workdir=workdir,
        num_steps=setup.num_steps,
        log_every=settings.log_every,
        checkpoint_every=settings.checkpoint_every,
        evaluate=make_evaluation(setup, save_grid),
        evaluate_every=settings.evaluate_every,
        config_fingerprint=settings.to_dict(),
        config_defaults=Settings.defaults(),
        progress=progress,
        tensorboard=tensorboard,
    )
    return setup.trained(local(state))


def load_run(workdir: str | Path, *, last: bool = False) -> tuple[TrainingSetup, NeuroAdapter, int]:
    """The task of a finished or running work folder, its best adapter and that one's step.

    With `last` the adapter of the last checkpoint instead: the best is the one of the lowest
    validation loss, and images may go on getting sharper after that.

    Images are drawn in float32 whatever the training's precision, as in the released code.

    Raises:
        FileNotFoundError: the folder holds no run, or no complete checkpoint.
        ValueError: the checkpoint holds arrays of another shape, such as another p or v, or the
            parcellation's files are no longer those it was trained with.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not found, so {workdir} is no training run; name the folder given to "
            "launch/train.py as --workdir."
        )
    settings = Settings.from_dict(json.loads(path.read_text()))
    setup = TrainingSetup(settings, precision="fp32", workdir=workdir)
    store = CheckpointStore(workdir)
    try:
        like = setup.initial_state()
        step, state = store.restore(like)[:2] if last else store.restore_best(like)
    finally:
        store.close()
    return setup, setup.trained(state), step


def make_evaluation(
    setup: TrainingSetup, save_grid: SaveGrid | None, num_reconstructed: int = 10
) -> Callable[[dict[str, Any], int], dict[str, float]]:
    """Validation: the Min-SNR loss with all tokens kept, at fixed noise, and a few drawn images.

    The same latents, noises and timesteps serve every evaluation, four timesteps per image, so
    that losses of different steps differ by the parameters alone. With several subjects each one's
    loss is given as well.
    """
    settings, schedule = setup.settings, setup.backbone.schedule
    batches = list(eval_batches(setup.validation, min(settings.batch_size, len(setup.validation))))
    steps = plan(schedule, settings.sampler, settings.sample_steps)
    vae_graph, vae_params = nnx.split(setup.backbone.vae)
    visits = 4
    read = ("betas", "latent_mean", "latent_std", "subject_index")

    @jax.jit
    def losses(params, frozen: Frozen, batch, key) -> Float[Array, " b"]:
        latent_key, noise_key = jax.random.split(key)
        latents = latents_from_moments(latent_key, batch, frozen.scaling_factor)
        noise, timesteps = sample_noise(noise_key, latents, schedule)
        subject = bank_indices(batch, frozen.packing)
        brain = nnx.merge(setup.adapter_graph, params)(
            pack(batch["betas"].astype(jnp.float32), frozen.packing, subject), subject=subject
        )
        prediction = nnx.merge(setup.unet_graph, frozen.unet)(
            schedule.add_noise(latents, noise, timesteps), timesteps, [frozen.text, brain]
        )
        return denoising_losses(
            prediction,
            schedule.target(latents, noise, timesteps),
            min_snr_weights(schedule, timesteps, settings.gamma),
        )

    @jax.jit
    def reconstructions(params, frozen: Frozen, vae_params, batch, keys) -> UInt8[Array, "b y x c"]:
        subject = bank_indices(batch, frozen.packing)
        adapter = nnx.merge(setup.adapter_graph, params)
        unet, vae = nnx.merge(setup.unet_graph, frozen.unet), nnx.merge(vae_graph, vae_params)
        latents, _ = sample_latents(
            unet,
            frozen.text,
            adapter(
                pack(batch["betas"].astype(jnp.float32), frozen.packing, subject), subject=subject
            ),
            adapter.unconditional(),
            keys,
            steps,
            settings.guidance_scale,
            schedule.prediction_type,
            clean=clean_start(vae, settings.start, unet.config.sample_size),
        )
        return to_uint8(vae.decode(latents / frozen.scaling_factor))

    def evaluate(state: dict[str, Any], step: int) -> dict[str, float]:
        # Every process evaluates on its first device, so that all agree on what is best.
        params = local(state.get("ema", state["params"]))
        key = jax.random.key(settings.seed)
        values = []
        for i, batch in enumerate(batches):
            arrays = {name: batch[name] for name in read if name in batch}
            for visit in range(visits):
                each = losses(
                    params, setup.frozen, arrays, jax.random.fold_in(key, i * visits + visit)
                )
                values.append(np.asarray(each)[: batch["num_valid"]])
        if save_grid is not None and jax.process_index() == 0:
            first = batches[0]
            count = min(num_reconstructed, first["num_valid"])
            keys = jax.random.split(key, count)
            some = {name: first[name][:count] for name in read if name in first}
            images = reconstructions(params, setup.frozen, vae_params, some, keys)
            save_grid(step, first["image"][:count], np.asarray(images))
        found = np.concatenate(values)
        result = {"validation/loss": float(found.mean())}
        if len(setup.subjects) > 1:
            place = [b["subject_index"][: b["num_valid"]] for b in batches for _ in range(visits)]
            for index, subject in enumerate(setup.subjects):
                own = found[np.concatenate(place) == index]
                result[f"validation/loss_subj{subject:0>2}"] = float(own.mean())
        return result

    return evaluate
