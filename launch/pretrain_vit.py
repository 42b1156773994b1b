"""Train a small vision transformer of DINOv2's architecture on scenes.

    python launch/pretrain_vit.py --config configs/tiny_vit.py [--config.key=value]

It resumes. The result is a folder in transformers' layout, named by config.export.
"""

import sys
from pathlib import Path

import command_line

from neuroadapter_jax.training.tiny_vit import card, pretrain_vit


def main(_) -> None:
    config = _CONFIG.value
    command_line.use_cpu_cores(config.training.batch_size)
    command = " ".join(["python", *sys.argv])
    losses = pretrain_vit(
        export=config.export,
        workdir=config.workdir,
        seed=config.seed,
        num_scenes=config.num_scenes,
        scene_seed=config.scene_seed,
        model=config.model.to_dict(),
        training=config.training.to_dict(),
        command=command,
    )
    text = card(config.export, config.workdir, command, config.num_scenes)
    (Path(config.export) / "README.md").write_text(text)
    print(f"Trained: {config.export} ({losses})")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    command_line.run(main)
