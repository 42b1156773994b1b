"""Training NeuroAdapter on prepared records: what `neuroadapter train` calls."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.adapter.token_dropout import check_rates
from neuroadapter_jax.cortex import read_parcellation
from neuroadapter_jax.datasets.input_pipeline import make_batches
from neuroadapter_jax.diffusion.identity import COMMIT, FINGERPRINT, backbone_identity
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.weights import backbone_folder, load_schedule
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import refuse_foreign, refuse_other_kind
from neuroadapter_jax.hub.snapshots import is_hub_id
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.ranges import SettingError, named
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.sharding import ShardedBatches, gather_to_host, make_mesh, shard
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.inputs import record_inputs
from neuroadapter_jax.training.loop import Evaluation, fit
from neuroadapter_jax.training.run_config import RunConfig, require_checkpoints
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.setup import TrainingSetup, write_chosen_regions
from neuroadapter_jax.training.step import make_train_step
from neuroadapter_jax.training.trackers import require_trackers
from neuroadapter_jax.training.validation import SaveGrid, make_evaluation


def run_config(settings: Settings) -> RunConfig:
    """The settings as a work folder keeps and compares them, those of older versions included.

    With them go fingerprints of what the run reads, as far as it is on this machine.
    """
    inputs = record_inputs(settings.prepared, settings.parcellation, settings.parcels)
    if not is_hub_id(settings.backbone):
        inputs["backbone"] = backbone_identity(settings.backbone)[FINGERPRINT]
    return RunConfig(settings.to_dict(), Settings.defaults(), Settings.upgrade, inputs)


def check_before_preparing(
    settings: Settings, workdir: str | Path, num_vertices: tuple[int, int] | None = None
) -> None:
    """Refuse what can be refused before any data are prepared.

    Args:
        settings: of the run to come.
        workdir: its folder.
        num_vertices: of the subject's hemispheres; None where the subject, and with it the
            parcellation, is still to be simulated.

    Raises:
        MissingFileError: a label file is not there.
        SettingError: more denoising steps than the backbone's schedule has.
        InputError: a work folder of another run, a drop rate out of its range, or a
            parcellation of another mesh.
    """
    refuse_other_kind(workdir, "run")
    run_config(settings).require_same(workdir)
    require_checkpoints(workdir, settings.checkpoint_every)
    schedule = load_schedule(backbone_folder(settings.backbone))
    for key, sampling in (
        ("sample_steps", settings.validation_sampling),
        ("sampling.num_steps", settings.sampling),
    ):
        if sampling.num_steps > (most := schedule.num_train_timesteps):
            raise SettingError(
                key, sampling.num_steps, f"at most {most}, the timesteps of {settings.backbone}"
            )
        plan(schedule, sampling)
    check_rates(settings.drop_rate, settings.drop_all)
    if num_vertices is not None:
        left, right = settings.parcellation
        read_parcellation(left, right, num_vertices, settings.parcels)


def require_even_batches(settings: Settings) -> None:
    """Refuse a batch that the devices of this run cannot share evenly.

    Raises:
        SettingError: so it is.
    """
    num_devices = make_mesh(settings.fsdp).size
    multiple = num_devices * settings.accumulate
    if settings.batch_size % multiple:
        raise SettingError(
            "batch_size",
            settings.batch_size,
            f"a multiple of {multiple}, for {num_devices} devices in {settings.accumulate} parts",
        )


@runs_alone("workdir", "a training")
def train(
    settings: Settings,
    workdir: str | Path,
    *,
    save_grid: SaveGrid | None = None,
    progress: bool = True,
    log_to: Sequence[str] = (),
) -> NeuroAdapter:
    """Train, or go on training, in a work folder.

    Args:
        settings: of the run; a work folder of other settings is refused.
        workdir: gets config.json, regions.npz (with several subjects regions-subjNN.npz each),
            metrics.jsonl, timing.jsonl, checkpoints/.
        save_grid: called at each evaluation with (step, validation images, reconstructions).
        progress: show a bar.
        log_to: what keeps the numbers beside metrics.jsonl: "tensorboard", "wandb".

    Returns:
        The adapter after the last step; `load_run` gives the one of the best validation loss.
    """
    require_trackers(log_to)
    refuse_other_kind(workdir, "run")
    config = run_config(settings)
    config.require_same(workdir)
    ours = (Path(workdir) / "config.json").exists()
    refuse_foreign(workdir, ["regions.npz", "metrics.jsonl", "timing.jsonl"], ours=ours)
    setup = TrainingSetup(settings, workdir=workdir)
    identity = backbone_identity(settings.backbone)  # the Hub's is on this machine by now
    config = dataclasses.replace(
        config,
        inputs={**config.inputs, "backbone": identity[FINGERPRINT]},
        recorded={COMMIT: identity[COMMIT]} if COMMIT in identity else {},
    )
    mesh = make_mesh(settings.fsdp)
    require_even_batches(settings)
    frozen = shard(setup.frozen, mesh)
    jitted = make_train_step(
        setup.adapter_graph,
        setup.unet_graph,
        setup.backbone.schedule,
        setup.optimizer,
        settings.objective,
        seed=settings.seed,
        ema_decay=settings.ema_decay,
        accumulate=settings.accumulate,
        remat=settings.remat,
        mesh=mesh,
    )
    batches = make_batches(
        setup.needed(setup.train),
        settings.batch_size,
        settings.seed,
        repeats=settings.repeats,
        process=(jax.process_index(), jax.process_count()),
    )
    if jax.process_index() == 0:
        config.write(workdir)  # first, since it says whose the regions are
        write_chosen_regions(workdir, setup)
    state = fit(
        lambda state, batch: jitted(state, frozen, batch),
        shard(setup.initial_state(), mesh),
        ShardedBatches(batches, mesh),
        workdir=workdir,
        num_steps=setup.num_steps,
        intervals=settings.intervals,
        config=config,
        evaluation=Evaluation(make_evaluation(setup, save_grid)),
        progress=progress,
        log_to=log_to,
    )
    return setup.trained(gather_to_host(state))


def read_settings(workdir: str | Path) -> Settings:
    """The settings of a finished or running work folder.

    Args:
        workdir: of the run.

    Raises:
        MissingFileError: the folder holds no run.
        InputError: a setting that is unknown or out of its range.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise MissingFileError(
            f"{path}: not found, so {workdir} is no training run; name the folder given to "
            "`neuroadapter train` as --workdir."
        )
    values = read_json(path, "the settings of `neuroadapter train`")
    if {"regions_fingerprint", "encoder"} & values.keys():
        raise InputError(
            f"{workdir} is an export, no training run; expected the folder given to `neuroadapter "
            "train` as --workdir, so give a model as --model."
        )
    with named(f"{path}: "):
        return Settings.from_dict(values)


def load_run(workdir: str | Path, *, last: bool = False) -> tuple[TrainingSetup, NeuroAdapter, int]:
    """What a finished or running work folder trains, its best adapter and that one's step.

    With `last` the adapter of the last checkpoint instead: the best is the one of the lowest
    validation loss, and images may go on getting sharper after that.

    The U-Net is in float32 whatever the training's precision, as in the released code.

    Args:
        workdir: of the run.
        last: the last checkpoint instead of the best.

    Raises:
        MissingFileError: the folder holds no run, or no complete checkpoint.
        InputError: the checkpoint holds arrays of another shape, such as another p or v, or the
            records, the backbone or the parcellation are no longer those it was trained with.
    """
    settings = read_settings(workdir)
    run_config(settings).require_same(
        workdir, "put back the records and the backbone that it was trained with"
    )
    setup = TrainingSetup(settings, precision="fp32", workdir=workdir)
    store = CheckpointStore(workdir)
    try:
        like = setup.initial_state()
        step, state = store.restore(like)[:2] if last else store.restore_best(like)
    finally:
        store.close()
    return setup, setup.trained(state), step
