"""Train the scene reader; writes its weights and card where scores look for them.

python launch/train_scene_reader.py --config configs/scene_reader.py [--out DIR]
"""

import time

import command_line
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from neuroadapter_jax.evaluation import scene_reader
from neuroadapter_jax.simulation import scenes


def main(_) -> None:
    config = _CONFIG.value

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
    changed = scene_reader.augment(jnp.asarray(test.images) / 127.5 - 1, jax.random.key(0))
    changed = np.asarray(jnp.rint((changed + 1) * 127.5).astype(jnp.uint8))
    card = scene_reader.model_card(
        "python launch/train_scene_reader.py --config configs/scene_reader.py",
        minutes,
        losses,
        scene_reader.reader_accuracy(reader, test.images, test.categories),
        scene_reader.reader_accuracy(reader, changed, test.categories),
    )
    scene_reader.save_scene_reader(flags.FLAGS.out, reader, card)
    print(f"{card}\nScene reader: {flags.FLAGS.out}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    flags.DEFINE_string("out", str(scene_reader.ASSET), "Folder to write.")
    command_line.run(main)
