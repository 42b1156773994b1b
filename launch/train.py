"""Train NeuroAdapter; prepares the data if they are not there, and goes on where a run ended.

python launch/train.py --config configs/demo.py [--config.key=value] [--workdir DIR]
"""

import contextlib
import sys
from pathlib import Path

import command_line
import jax
from absl import flags
from ml_collections import ConfigDict
from prepare import define_allow_pickle, open_source, prepare

from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.figures.grids import image_grid, save_picture
from neuroadapter_jax.sharding import wait_for_all
from neuroadapter_jax.training.loop import Interrupted
from neuroadapter_jax.training.setup import Settings, check, train


def settings_of(config: ConfigDict) -> Settings:
    """The training settings that a config file spreads over its sections."""
    values = config.train.to_dict()
    with contextlib.suppress(ValueError):  # "uniform", or a number that the command line gave
        values["drop_rate"] = float(values["drop_rate"])
    folders = [each.data.prepared for each in command_line.per_subject(config)]
    return Settings.from_dict(
        {
            "prepared": folders if len(folders) > 1 else folders[0],
            "parcellation": config.data.parcellation,
            "parcels": config.data.get("parcels", "own"),
            "backbone": config.backbone,
            **values,
        }
    )


def _num_vertices(data: ConfigDict) -> tuple[int, int] | None:
    """Of the surface that the parcellation must fit; None where nothing can be said yet."""
    if "dataset" in data:
        source = open_source(data)
        return source.num_vertices if source.regions is None else None
    if data.simulation is not None:
        return None
    return NSDSubject(
        data.root, data.subject, data.space, data.beta_version, data.get("sessions")
    ).num_vertices


def run(config: ConfigDict, workdir: str | Path) -> None:
    """Prepare, then train in `workdir`."""
    settings, each = settings_of(config), command_line.per_subject(config)
    command_line.use_cpu_cores(settings.batch_size)
    for one in each:
        check(settings, workdir, _num_vertices(one.data))
    if jax.process_index() == 0:
        for one in each:
            prepare(one)
    wait_for_all("prepared")

    def save_grid(step, stimuli, reconstructions):
        path = Path(workdir) / "validation" / f"{step:06d}.png"
        save_picture(path, image_grid({"seen": stimuli, "drawn": reconstructions}))

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
        command_line.join_processes()
        run(_CONFIG.value, workdir)
    except Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(end.exit_code)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"train: {error}")
    print(f"Trained: {workdir}. Next: python launch/reconstruct.py --run {workdir}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    define_allow_pickle()
    command_line.define_processes()
    flags.DEFINE_string("workdir", None, "Where the run lives; config.workdir when not given.")
    command_line.run(main)
