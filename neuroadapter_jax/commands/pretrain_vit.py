"""Train a small vision transformer on scenes.

    neuroadapter pretrain-vit --config tiny_vit --config.export=runs/tiny_vit/export

Its architecture is DINOv2's. It goes on where it was interrupted. The result is a folder in
transformers' layout, named by config.export.
"""

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
    from neuroadapter_jax.files import write_text
    from neuroadapter_jax.training.tiny_vit import card, check_settings, pretrain_vit

    config = values.config
    keys = ("seed", "num_scenes", "scene_seed", "model", "training", "export", "workdir")
    require_keys(config, keys, "tiny_vit")
    settings = {
        "seed": config.seed,
        "num_scenes": config.num_scenes,
        "scene_seed": config.scene_seed,
        "model": plain(config.model),
        "training": plain(config.training),
    }
    with named("config."):
        check("export", config.export, str)
        check("workdir", config.workdir, str)
        check_settings(**settings)
    for key in ("export", "workdir"):
        require_writable(f"config.{key}", Path(config[key]))
    use_cpu_cores(config.training.batch_size)
    command = " ".join(["neuroadapter", "pretrain-vit", *values.arguments])
    losses = pretrain_vit(export=config.export, workdir=config.workdir, command=command, **settings)
    text = card(config.export, config.workdir, command, config.num_scenes)
    write_text(Path(config.export) / "README.md", text)
    print(f"Trained: {config.export} ({losses})")
