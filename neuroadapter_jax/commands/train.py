"""Train NeuroAdapter, or go on where a training ended.

    neuroadapter train --config demo
    neuroadapter train --config nsd --config.data.root=DIR --config.train.learning_rate=5e-4
    neuroadapter train --config nsd:simulated --config.backbone=random --workdir runs/trial
    neuroadapter train --config demo --log_to tensorboard,wandb

Data that are not there are prepared first. The same command goes on after an interruption. On
several hosts give each the same command; under SLURM they find one another, elsewhere
--coordinator, --num_processes and --process_id say how.
"""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from neuroadapter_jax.commands.config_values import (
    check_data,
    per_subject,
    surface_vertices,
    training_settings,
)
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.machine import join_processes, use_cpu_cores
from neuroadapter_jax.commands.shared_flags import PROCESSES, CommandFlags, define_shared
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import named


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(values, "workdir", "allow_pickle", "log_to", *PROCESSES)


def prepare_and_train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    allow_pickle: bool = False,
    log_to: Sequence[str] = (),
) -> None:
    """Prepare what is not prepared yet, then train in `workdir`."""
    settings, subjects = training_settings(config), per_subject(config)
    if config.get("tensorboard"):  # the key of configs before there was --log_to
        log_to = [*log_to, "tensorboard"]
    check_data(config, allow_pickle)
    use_cpu_cores(settings.batch_size)

    from neuroadapter_jax.commands.prepare import prepare_records
    from neuroadapter_jax.figures.grids import image_grid, save_picture
    from neuroadapter_jax.processes import on_first_process
    from neuroadapter_jax.training.trackers import require_trackers, validation_picture
    from neuroadapter_jax.training.train import (
        check_before_preparing,
        require_even_batches,
        train,
    )

    require_trackers(log_to)
    with named("config.train."):
        require_even_batches(settings)
    for one in subjects:
        with named("config.train."):
            check_before_preparing(settings, workdir, surface_vertices(one.data, allow_pickle))

    def prepare() -> None:
        for one in subjects:
            prepare_records(one, allow_pickle=allow_pickle)

    on_first_process(prepare, "prepare the records")

    def save_grid(step, stimuli, reconstructions):
        path = validation_picture(workdir, step)
        save_picture(path, image_grid({"Stimulus": stimuli, "Reconstruction": reconstructions}))

    with named("config.train."):
        train(
            settings,
            workdir,
            save_grid=save_grid,
            progress=config.progress,
            log_to=log_to,
        )


def main(values: CommandFlags, arguments: list[str]) -> None:
    if "train" not in values.config:
        raise InputError(
            "the config has no section `train`; with this config use `neuroadapter prepare`, or "
            "`neuroadapter train-encoder` where it has a section `encoder`."
        )
    workdir = values.workdir or values.config.workdir
    join_processes(values)
    prepare_and_train(
        values.config, workdir, allow_pickle=values.allow_pickle, log_to=values.log_to
    )
    print(f"Trained: {workdir}. Next: neuroadapter reconstruct --run {workdir}")
