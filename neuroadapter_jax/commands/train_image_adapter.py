"""Train an image adapter on scenes.

    neuroadapter train-image-adapter --config image_adapter_tiny \
        --config.export=runs/image_adapter/export

An IP-Adapter "plus" for a frozen text-to-image model: from an image's embedding alone it
reconstructs the image, so a decoder that predicts the embedding can show what it predicts. It goes
on where it was interrupted. The result is the folder that config.export names.
"""

from pathlib import Path

from neuroadapter_jax.commands.config_values import plain, require_keys
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.given import require_writable
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.ranges import check, named

_KEYS = ("backbone", "embedder", "num_scenes", "scene_seed", "seed", "resampler", "training")


def define(values: CommandFlags) -> None:
    define_config(values)


def main(values: CommandFlags, arguments: list[str]) -> None:
    config = values.config
    require_keys(config, (*_KEYS, "export", "workdir"), "image_adapter_tiny")
    for key in ("export", "workdir"):
        with named("config."):
            check(key, config[key], str)
        require_writable(f"config.{key}", Path(config[key]))

    from neuroadapter_jax.training.image_adapter import ImageAdapterRun, train_image_adapter

    sections = ("resampler", "training")
    settings = {key: plain(config[key]) if key in sections else config[key] for key in _KEYS}
    with named("config."):
        run = ImageAdapterRun(**settings)
    use_cpu_cores(config.training.batch_size)
    command = " ".join(["neuroadapter", "train-image-adapter", *values.arguments])
    losses = train_image_adapter(run, config.export, config.workdir, command=command)
    print(f"Trained: {config.export} ({losses})")
