"""Train the network that reads simulated scenes.

    neuroadapter train-scene-reader --config scene_reader --out runs/scene_reader

It reads the category in each slot of a scene, and scores of the simulated subject use it. Without
--out the one that ships with the package is replaced.
"""

import time

from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "out", helps={"out": "Folder to write; the package's own when not given."}
    )


def main(values: CommandFlags, arguments: list[str]) -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from neuroadapter_jax.evaluation import scene_reader
    from neuroadapter_jax.simulation import scenes

    config = values.config
    out = values.out or str(scene_reader.ASSET)

    def sample(num, start):
        batch = scenes.sample_scenes(num, config.seed, start)
        return batch.images, batch.categories

    start = time.process_time()
    reader, losses = scene_reader.train_scene_reader(
        sample,
        scene_reader.SceneReaderConfig(scenes.CATEGORIES, scenes.SLOT_CENTRES, scenes.IMAGE_SIZE),
        num_steps=config.num_steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        seed=config.seed,
    )
    minutes = (time.process_time() - start) / 60

    test = scenes.sample_scenes(config.num_held_out, config.held_out_seed)
    augmented = scene_reader.augment(jnp.asarray(test.images) / 127.5 - 1, jax.random.key(0))
    changed = np.asarray(jnp.rint((augmented + 1) * 127.5).astype(jnp.uint8))
    card = scene_reader.model_card(
        "neuroadapter train-scene-reader --config scene_reader",
        minutes,
        losses,
        scene_reader.reader_accuracy(reader, test.images, test.categories),
        scene_reader.reader_accuracy(reader, changed, test.categories),
    )
    scene_reader.save_scene_reader(out, reader, card)
    print(f"{card}\nScene reader: {out}")
