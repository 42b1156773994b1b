"""Train a small joint space of scenes and captions.

    neuroadapter pretrain-joint-space --config joint_space --config.export=runs/joint_space/export

Two linear maps over frozen networks; about a minute. The result is a folder of config.json and
safetensors, and gives a two-way score that tells apart what captions tell apart.
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
    from neuroadapter_jax.training.joint_space import check_settings, train_joint_space
    from neuroadapter_jax.training.small_cards import joint_space_card

    config = values.config
    single = ("vit", "backbone", "seed", "num_scenes", "scene_seed", "width")
    require_keys(config, (*single, "training", "export", "workdir"), "joint_space")
    settings = {name: config[name] for name in single} | {"training": plain(config.training)}
    with named("config."):
        check("export", config.export, str)
        check("workdir", config.workdir, str)
        check_settings(**settings)
    for key in ("export", "workdir"):
        require_writable(f"config.{key}", Path(config[key]))
    use_cpu_cores(config.training.batch_size)
    found = train_joint_space(export=config.export, workdir=config.workdir, **settings)
    command = " ".join(["neuroadapter", "pretrain-joint-space", *values.arguments])
    text = joint_space_card(config.workdir, command, settings, found)
    write_text(Path(config.export) / "README.md", text)
    print(f"Trained: {config.export} ({found})")
