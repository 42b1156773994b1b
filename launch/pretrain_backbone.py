"""Train a small Stable Diffusion on captioned scenes: the autoencoder, then text to image.

    python launch/pretrain_backbone.py --config configs/tiny_sd.py [--config.key=value]

Both stages resume. The result is a folder in the diffusers layout, named by config.export.
"""

import sys

from absl import app
from ml_collections import config_flags

from neuroadapter_jax.simulation.tiny_sd import pretrain

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)


def main(_) -> None:
    config = _CONFIG.value
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


if __name__ == "__main__":
    app.run(main)
