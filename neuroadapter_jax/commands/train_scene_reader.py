"""Train the network that reads simulated scenes.

    neuroadapter train-scene-reader --config scene_reader --out runs/scene_reader

It reads the category in each slot of a scene, and scores of the simulated subject use it. Without
--out the one that ships with the package is replaced.
"""

import inspect

from neuroadapter_jax.commands.config_values import plain, require_keys
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.ranges import SettingError, check_values, named


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "out", helps={"out": "Folder to write; the package's own when not given."}
    )


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.evaluation.scene_reader import ASSET
    from neuroadapter_jax.evaluation.scene_reader_training import make_scene_reader

    keys = [key for key in inspect.signature(make_scene_reader).parameters if key != "out"]
    require_keys(values.config, keys, "scene_reader")
    out, settings = values.out or ASSET, plain(values.config)
    with named("config."):
        check_values(settings, make_scene_reader, "a setting of the scene reader")
    if settings["seed"] == settings["held_out_seed"]:
        raise SettingError(
            "config.held_out_seed", settings["seed"], "another seed than config.seed"
        )
    card = make_scene_reader(out, **settings)
    print(f"{card}\nScene reader: {out}")
