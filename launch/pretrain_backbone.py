"""Train a small Stable Diffusion on captioned scenes: the autoencoder, then text to image.

    python launch/pretrain_backbone.py --config configs/tiny_sd.py [--config.key=value]

Both stages resume. The result is a folder in the diffusers layout, named by config.export.
"""

import math
import sys
from pathlib import Path

import command_line

from neuroadapter_jax.figures.grids import caption_grid, save_picture
from neuroadapter_jax.simulation.scenes import sample_scenes
from neuroadapter_jax.training.tiny_sd import card, pretrain, sample_captions


def main(_) -> None:
    config = _CONFIG.value
    command_line.use_cpu_cores(math.gcd(config.vae.batch_size, config.unet.batch_size))
    pretrain(
        export=config.export,
        workdir=config.workdir,
        seed=config.seed,
        num_scenes=config.num_scenes,
        scene_seed=config.scene_seed,
        vae=config.vae.to_dict(),
        text_encoder=config.text_encoder.to_dict(),
        unet=config.unet.to_dict(),
        command=" ".join(["python", *sys.argv]),
    )
    export = Path(config.export)
    captions = sample_scenes(8, config.scene_seed, start=config.num_scenes).captions
    picture = caption_grid(sample_captions(export, captions), captions)
    save_picture(export / "samples.png", picture)
    (export / "README.md").write_text(card(config.workdir, "samples.png"))
    print(f"Trained: {export}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    command_line.run(main)
