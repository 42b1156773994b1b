"""Train a small Stable Diffusion on captioned scenes.

    neuroadapter pretrain-backbone --config tiny_sd --config.export=runs/tiny_sd/export

The autoencoder first, then text to image. Both stages go on where they were interrupted. The result
is a folder in the diffusers layout, named by config.export.
"""

import math
from pathlib import Path

from neuroadapter_jax.commands.config_values import plain, require_keys
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.given import require_writable
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.ranges import check, named


def define(values: CommandFlags) -> None:
    define_config(values)


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.training.tiny_sd import pretrain
    from neuroadapter_jax.training.tiny_sd_settings import check_settings

    config = values.config
    sections = ("vae", "text_encoder", "unet")
    keys = ("seed", "num_scenes", "scene_seed", *sections, "export", "workdir")
    require_keys(config, keys, "tiny_sd")
    settings = {
        "seed": config.seed,
        "num_scenes": config.num_scenes,
        "scene_seed": config.scene_seed,
        **{name: plain(config[name]) for name in sections},
    }
    with named("config."):
        check("export", config.export, str)
        check("workdir", config.workdir, str)
        check_settings(**settings)
    for key in ("export", "workdir"):
        require_writable(f"config.{key}", Path(config[key]))
    use_cpu_cores(math.gcd(config.vae.batch_size, config.unet.batch_size))

    from neuroadapter_jax.figures.grids import caption_grid, save_picture
    from neuroadapter_jax.files import write_text
    from neuroadapter_jax.simulation.scenes import sample_scenes
    from neuroadapter_jax.training.tiny_sd_card import card, sample_captions

    pretrain(
        export=config.export,
        workdir=config.workdir,
        **settings,
        command=" ".join(["neuroadapter", "pretrain-backbone", *values.arguments]),
    )
    export = Path(config.export)
    captions = sample_scenes(8, config.scene_seed, start=config.num_scenes).captions
    picture = caption_grid(sample_captions(export, captions), captions)
    save_picture(export / "samples.png", picture)
    write_text(export / "README.md", card(config.workdir, "samples.png"))
    print(f"Trained: {export}")
