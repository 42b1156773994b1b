"""Training of the scene reader that is shipped, from rendered scenes to its folder and card."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from neuroadapter_jax.evaluation.scene_reader import (
    ASSET,
    SceneReaderConfig,
    augment,
    model_card,
    reader_accuracy,
    save_scene_reader,
    train_scene_reader,
)
from neuroadapter_jax.files import refuse_foreign
from neuroadapter_jax.ranges import Count, NonNegative, Positive, Seed
from neuroadapter_jax.simulation import scenes

COMMAND = "neuroadapter train-scene-reader --config scene_reader"


def make_scene_reader(
    out: str | Path = ASSET,
    *,
    num_steps: Count,
    batch_size: Count,
    learning_rate: Positive,
    weight_decay: NonNegative,
    seed: Seed,
    num_held_out: Count,
    held_out_seed: Seed,
) -> str:
    """Trains a scene reader and writes it with its card; returns the card.

    Args:
        out: folder to write; by default where scores look for the reader.
        num_steps: optimizer steps.
        batch_size: scenes per step.
        learning_rate: peak, see `train_scene_reader`.
        weight_decay: AdamW's.
        seed: of the scenes, initialisation and augmentation.
        num_held_out: scenes that the accuracy on the card is measured on.
        held_out_seed: of those scenes; another than `seed`.

    Raises:
        ExistingFileError: another folder than the package's holds files of these names.
    """
    if Path(out) != ASSET:
        refuse_foreign(out, ["config.json", "model.safetensors", "README.md"])

    def sample(num: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        batch = scenes.sample_scenes(num, seed, start)
        return batch.images, batch.categories

    start = time.process_time()
    reader, losses = train_scene_reader(
        sample,
        SceneReaderConfig(scenes.CATEGORIES, scenes.SLOT_CENTRES, scenes.IMAGE_SIZE),
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
    )
    minutes = (time.process_time() - start) / 60
    test = scenes.sample_scenes(num_held_out, held_out_seed)
    changed = augment(jnp.asarray(test.images) / 127.5 - 1, jax.random.key(0))
    changed_images = np.asarray(jnp.rint((changed + 1) * 127.5).astype(jnp.uint8))
    card = model_card(
        COMMAND,
        minutes,
        losses,
        reader_accuracy(reader, test.images, test.categories),
        reader_accuracy(reader, changed_images, test.categories),
    )
    save_scene_reader(out, reader, card)
    return card
