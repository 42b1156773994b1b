"""Train NeuroAdapter; prepares the data if they are not there, and goes on where a run ended.

python launch/train.py --config configs/demo.py [--config.key=value] [--workdir DIR]
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from prepare import prepare

from neuroadapter_jax.figures.grids import image_grid, save_picture
from neuroadapter_jax.training.neuroadapter import Settings, train
from neuroadapter_jax.training.train_loop import Interrupted


def settings_of(config: ConfigDict) -> Settings:
    """The training settings that a config file spreads over its sections."""
    return Settings.from_dict(
        {
            "prepared": config.data.prepared,
            "parcellation": config.data.parcellation,
            "backbone": config.backbone,
            **config.train.to_dict(),
        }
    )


def run(config: ConfigDict, workdir: str | Path) -> None:
    """Prepare, then train in `workdir`."""
    settings = settings_of(config)
    prepare(config)

    def save_grid(step, seen, drawn):
        path = Path(workdir) / "validation" / f"{step:06d}.png"
        save_picture(path, image_grid({"seen": seen, "drawn": drawn}))

    train(
        settings,
        workdir,
        save_grid=save_grid,
        progress=config.progress,
        tensorboard=config.tensorboard,
    )


def main(_) -> None:
    workdir = flags.FLAGS.workdir or _CONFIG.value.workdir
    try:
        run(_CONFIG.value, workdir)
    except Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(end.exit_code)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"train: {error}")
    print(f"Trained: {workdir}. Next: python launch/reconstruct.py --run {workdir}")


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
    flags.DEFINE_string("workdir", None, "Where the run lives; config.workdir when not given.")
    flags.mark_flag_as_required("config")
    app.run(main)
