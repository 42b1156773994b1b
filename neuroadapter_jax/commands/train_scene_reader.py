"""Train the network that reads simulated scenes.

    neuroadapter train-scene-reader --config scene_reader --out runs/scene_reader

It reads the category in each slot of a scene, and scores of the simulated subject use it. Without
--out the one that ships with the package is replaced.
"""

from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "out", helps={"out": "Folder to write; the package's own when not given."}
    )


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.evaluation.scene_reader import ASSET
    from neuroadapter_jax.evaluation.scene_reader_training import make_scene_reader

    out = values.out or ASSET
    card = make_scene_reader(out, **values.config.to_dict())
    print(f"{card}\nScene reader: {out}")
