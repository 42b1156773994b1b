"""Train an adapter that steers by depth or by colours.

    neuroadapter pretrain-spatial-adapter --config spatial_depth --config.export=runs/depth/export

It is a T2I-Adapter for a backbone of small images; its conditions come from the scenes' truth. It
goes on where it was interrupted. The result is a folder of config.json and safetensors.
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
    from neuroadapter_jax.training.small_cards import spatial_adapter_card
    from neuroadapter_jax.training.spatial_adapter import check_settings, train_spatial_adapter

    config = values.config
    sections = ("adapter", "training")
    single = ("backbone", "seed", "num_scenes", "scene_seed")
    require_keys(config, (*sections, *single, "export", "workdir"), "spatial_depth")
    settings = {name: config[name] for name in single}
    settings |= {name: plain(config[name]) for name in sections}
    with named("config."):
        check("export", config.export, str)
        check("workdir", config.workdir, str)
        check_settings(**settings)
    for key in ("export", "workdir"):
        require_writable(f"config.{key}", Path(config[key]))
    use_cpu_cores(config.training.batch_size)
    found = train_spatial_adapter(export=config.export, workdir=config.workdir, **settings)
    command = " ".join(["neuroadapter", "pretrain-spatial-adapter", *values.arguments])
    text = spatial_adapter_card(config.workdir, command, settings, found)
    write_text(Path(config.export) / "README.md", text)
    print(f"Trained: {config.export} ({found})")
