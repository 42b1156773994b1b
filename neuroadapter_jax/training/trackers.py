"""Where the numbers of a training go beside metrics.jsonl: TensorBoard and Weights & Biases.

Nothing is read back from them: a run that is continued goes on in the same curves, from the step
that its checkpoint has, and metrics.jsonl is the same with and without them.
"""

import importlib.util
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_json
from neuroadapter_jax.readers import read_json

# Name -> the module that it needs, which the extra of the same name brings.
TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb"}
RUN_ID = "wandb.json"
PROJECT = "neuroadapter-jax"
_OFFLINE = ("offline", "dryrun", "disabled")


@runtime_checkable
class Tracker(Protocol):
    """What keeps the numbers of a training."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a step."""
        ...

    def picture(self, step: int, name: str, path: Path) -> None:
        """Add a picture of a step."""
        ...

    def close(self) -> None:
        """Write what is not yet written."""
        ...


def validation_picture(workdir: str | Path, step: int) -> Path:
    """Where the picture of a validation is, if the run makes any."""
    return Path(workdir) / "validation" / f"{step:06d}.png"


def require_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that there are not, or that cannot work here; writes nothing.

    Args:
        names: of the trackers, "tensorboard" and "wandb".

    Raises:
        InputError: an unknown name, a package that is not installed, or nobody is logged in.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"log_to names {name!r}; expected some of {', '.join(TRACKERS)}.")
        if importlib.util.find_spec(TRACKERS[name]) is None:
            raise InputError(
                f"log_to names {name}, and {TRACKERS[name]} is not installed; "
                f"pip install 'neuroadapter-jax[{name}]', or leave it out."
            )
    if "wandb" in names and os.environ.get("WANDB_MODE", "online") not in _OFFLINE:
        _require_login()


def _require_login() -> None:
    import wandb

    try:
        known = wandb.login(prompt=False)
    except TypeError:  # a version that only asks
        return
    except Exception as error:  # whatever it finds in its own files
        said = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"log_to names wandb, which refused ({said}); log in with `wandb login`, or set "
            "WANDB_MODE=offline."
        ) from error
    if not known:
        raise InputError(
            "log_to names wandb, and nobody is logged in; log in with `wandb login`, or set "
            "WANDB_MODE=offline and send the run later with `wandb sync`."
        )


def open_trackers(
    names: Sequence[str], workdir: str | Path, step: int, config: Mapping[str, Any]
) -> list[Tracker]:
    """The trackers of a run, which go on where it goes on.

    Args:
        names: of `TRACKERS`, each once or more.
        workdir: of the run.
        step: that it goes on from.
        config: the settings of the run, for those that show them.

    Raises:
        InputError: see `require_trackers`.
    """
    require_trackers(names)
    found: list[Tracker] = []
    for name in dict.fromkeys(names):
        if name == "tensorboard":
            found.append(_TensorBoard(Path(workdir), step))
        else:
            found.append(_WeightsAndBiases(Path(workdir), config))
    return found


class _TensorBoard:
    """Event files in workdir/tensorboard."""

    def __init__(self, workdir: Path, step: int):
        from tensorboardX import SummaryWriter

        # What a killed process wrote beyond its last checkpoint is hidden by what comes now.
        # The suffix keeps apart what begins within one second, which names of the files count.
        self._writer = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1, filename_suffix=f".from{step}"
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Id(TypedDict):
    id: str


class _WeightsAndBiases:
    """A run whose id workdir/wandb.json keeps.

    Its x-axis is our step: W&B's own counter only grows, and would drop what a continued run does
    once more.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        import wandb

        path = workdir / RUN_ID
        if not path.is_file():
            write_json(path, {"id": secrets.token_hex(4)})
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=read_json(path, "the id of a run of Weights & Biases", _Id)["id"],
                resume="allow",
                name=os.environ.get("WANDB_NAME", workdir.name),
                group=os.environ.get("WANDB_RUN_GROUP", workdir.resolve().parent.name),
                dir=str(workdir),
                config=dict(config),
                allow_val_change=True,
            )
        except (wandb.errors.Error, OSError) as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"Weights & Biases did not begin a run ({said}); mend that, or set "
                "WANDB_MODE=offline, or leave wandb out of log_to."
            ) from error
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def picture(self, step: int, name: str, path: Path) -> None:
        self._run.log({"step": step, name: self._wandb.Image(str(path))})

    def close(self) -> None:
        self._run.finish()
