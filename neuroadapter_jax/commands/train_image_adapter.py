r"""Train an image adapter on scenes.

    neuroadapter train-image-adapter --config image_adapter_tiny \
        --config.export=runs/image_adapter/export

An IP-Adapter "plus" for a frozen text-to-image model: from an image's embedding alone it
reconstructs the image, so a decoder that predicts the embedding can show what it predicts. It goes
on where it was interrupted. The result is the folder that config.export names.
"""

from pathlib import Path
from typing import Any

from neuroadapter_jax.commands.config_values import plain, require_keys
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.given import require_writable
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.ranges import check, named

NUM_SCORED = 200
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
    from neuroadapter_jax.training.image_adapter_card import card, reconstruct_scenes

    sections = ("resampler", "training")
    settings: dict[str, Any] = {
        key: plain(config[key]) if key in sections else config[key] for key in _KEYS
    }
    with named("config."):
        run = ImageAdapterRun(**settings)
    use_cpu_cores(config.training.batch_size)
    command = " ".join(["neuroadapter", "train-image-adapter", *values.arguments])
    losses = train_image_adapter(run, config.export, config.workdir, command=command)

    from neuroadapter_jax.evaluation.scene_reader import load_scene_reader, read_scenes
    from neuroadapter_jax.files import write_text
    from neuroadapter_jax.metrics.pixels import pixel_correlation
    from neuroadapter_jax.metrics.recall import semantic_counts
    from neuroadapter_jax.simulation.scenes import sample_scenes

    scenes = sample_scenes(NUM_SCORED, run.scene_seed, start=run.num_scenes)
    images = reconstruct_scenes(run, config.export, scenes.images)
    read, shown = semantic_counts(read_scenes(load_scene_reader(), images), scenes.categories)[:2]
    scores = {
        "semantic recall": f"{read.sum() / shown.sum():.1%}",
        "pixel correlation": f"{pixel_correlation(scenes.images, images).mean():.3f}",
    }
    text = card(run, config.export, config.workdir, scores, command)
    write_text(Path(config.export) / "README.md", text)
    print(f"Trained: {config.export} ({losses}, {scores})")
