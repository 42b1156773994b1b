"""Train the brain encoder that ranks candidate images.

    neuroadapter train-encoder --config encoder_demo
    neuroadapter train-encoder --config encoder_nsd --config.data.root=DIR --workdir runs/encoder

The data are prepared if they are not there. A run that was killed goes on where it stopped; the
encoder is in the folder model of the work folder at the end.
"""

from neuroadapter_jax.commands.config_values import check_data, encoder_settings
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import named


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(values, "workdir", "allow_pickle", "log_to")


def main(values: CommandFlags, arguments: list[str]) -> None:
    config = values.config
    if "encoder" not in config:
        raise InputError(
            "the config has no section `encoder`; name one that has, such as encoder_demo."
        )
    workdir = values.workdir or config.workdir
    settings = encoder_settings(config)
    check_data(config, values.allow_pickle)
    use_cpu_cores(settings.batch_size)

    from neuroadapter_jax.commands.prepare import prepare_records
    from neuroadapter_jax.training.brain_encoder import (
        check_encoders_before_preparing,
        train_encoders,
    )
    from neuroadapter_jax.training.trackers import require_trackers

    require_trackers(values.log_to)
    with named("config.encoder."):
        check_encoders_before_preparing(settings, workdir)
    prepare_records(config, allow_pickle=values.allow_pickle)
    with named("config.encoder."):
        folder = train_encoders(settings, workdir, progress=config.progress, log_to=values.log_to)
    print(f"Trained: {folder}")
