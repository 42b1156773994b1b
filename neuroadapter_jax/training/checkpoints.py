"""Checkpoints of a training run: Orbax, written in the background, the last two and the best."""

import base64
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from neuroadapter_jax.errors import InputError, MissingFileError


class CheckpointStore:
    """The checkpoints of one work folder.

    `<workdir>/checkpoints/<step>` holds the last two, `<workdir>/checkpoints/best/<step>` the one
    with the lowest value. A folder appears under its name only once it is complete, so what a
    killed process leaves behind is never read; it is removed when the store opens.

    Args:
      workdir: the run's folder.
      max_to_keep: how many of the last checkpoints stay.
    """

    def __init__(self, workdir: str | Path, max_to_keep: int = 2):
        self.root = Path(workdir).absolute() / "checkpoints"
        self._last = _manager(self.root, max_to_keep)
        self._best = _manager(self.root / "best", None)

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._last.latest_step()

    def best_step(self) -> int | None:
        """Step of the best checkpoint, or None."""
        return self._best.latest_step()

    def best_value(self) -> float | None:
        """The value for which the best checkpoint was kept, or None."""
        step = self.best_step()
        if step is None:
            return None
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        try:
            return float(self._best.restore(step, args=args)["progress"]["value"])
        except Exception as error:
            raise _damaged(self._best, step, "delete it and go on") from error

    def save(self, step: int, state: Any, data_state: Any = None) -> None:
        """Starts to write the state and the data position; returns once the arrays are copied.

        Args:
          step: steps done.
          state: pytree of arrays (random keys as `jax.random.key_data`).
          data_state: the data iterator's `get_state()`: bytes, or what JSON can hold.
        """
        _save(self._last, step, state, {"data": _to_json(data_state)})

    def save_best(self, step: int, state: Any, value: float) -> None:
        """Replaces the best checkpoint; returns once it is complete."""
        if step in self._best.all_steps():
            self._best.delete(step)
        _save(self._best, step, state, {"value": value})
        self._best.wait_until_finished()
        for other in self._best.all_steps():
            if other != step:
                self._best.delete(other)

    def restore(self, like: Any, step: int | None = None) -> tuple[int, Any, Any]:
        """Reads (step, state, data_state) of the newest checkpoint, or of `step`.

        Args:
          like: pytree of arrays (or `jax.ShapeDtypeStruct`) with the wanted structure, shapes,
            dtypes and shardings.
          step: the checkpoint to read; None reads the newest.

        Raises:
          MissingFileError: no such checkpoint.
          InputError: the checkpoint's leaves, shapes or dtypes differ from `like`; or it is
            damaged, and the message names the newest older one that is whole.
        """
        step = self.latest_step() if step is None else step
        if step is None or step not in self._last.all_steps():
            raise MissingFileError(
                f"{self._last.directory} holds no complete checkpoint"
                + ("" if step is None else f" of step {step}")
                + "; go on with the training, or name another run."
            )
        try:
            return step, *self._read(step, like)
        except InputError:
            raise
        except Exception as error:
            older = sorted((s for s in self._last.all_steps() if s < step), reverse=True)
            whole = next((s for s in older if self._is_whole(s, like)), None)
            advice = (
                f"the one of step {whole} beside it is whole, so delete the damaged one and go on"
                if whole is not None
                else "no older one beside it is whole, so start again in another work folder"
            )
            raise _damaged(self._last, step, advice) from error

    def _read(self, step: int, like: Any) -> tuple[Any, Any]:
        state, progress = _restore(self._last, step, like)
        return state, _from_json(progress["data"])

    def _is_whole(self, step: int, like: Any) -> bool:
        try:
            self._read(step, like)
        except Exception:  # whatever it is damaged by
            return False
        return True

    def restore_best(self, like: Any) -> tuple[int, Any]:
        """Reads (step, state) of the best checkpoint.

        Args:
          like: pytree of arrays with the wanted structure, shapes, dtypes and shardings.

        Raises:
          MissingFileError: there is none.
          InputError: its leaves, shapes or dtypes differ from `like`, or it is damaged.
        """
        step = self.best_step()
        if step is None:
            raise MissingFileError(
                f"{self._best.directory} holds no complete checkpoint; go on with the training, or "
                "take the last one (--last)."
            )
        try:
            return step, _restore(self._best, step, like)[0]
        except InputError:
            raise
        except Exception as error:
            others = sorted(self._last.all_steps(), reverse=True)
            whole = next((s for s in others if self._is_whole(s, like)), None)
            advice = (
                f"that of step {whole} in {self._last.directory} is whole, so take the last "
                "checkpoint instead (--last), or train on from it"
                if whole is not None
                else "no other one is whole, so start again in another work folder"
            )
            raise _damaged(self._best, step, advice) from error

    def wait(self) -> None:
        """Returns once everything is on disk; raises what a background write raised."""
        self._last.wait_until_finished()
        self._best.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the background threads."""
        self._last.close()
        self._best.close()


def _manager(root: Path, max_to_keep: int | None) -> ocp.CheckpointManager:
    root.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(max_to_keep=max_to_keep, cleanup_tmp_directories=True)
    handlers = {"state": ocp.StandardCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(root, options=options, item_handlers=handlers)


def _save(manager: ocp.CheckpointManager, step: int, state: Any, progress: dict) -> None:
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
    )
    manager.save(step, args=args, force=True)


def _restore(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, dict]:
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore())
    with _without_late_errors():
        _check_same_leaves(manager, step, like)
        restored = manager.restore(step, args=args)
    return restored["state"], restored["progress"]


@contextlib.contextmanager
def _without_late_errors() -> Iterator[None]:
    """Drops what TensorStore's threads print about reads that nobody waits for any more.

    Orbax reads all arrays at once and gives up at the first that fails; each of the others then
    prints a traceback about the loop that it would report to, after the failure, so the hook stays.
    """
    shown = sys.unraisablehook

    def hook(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            shown(found)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = shown


def _damaged(manager: ocp.CheckpointManager, step: int, advice: str) -> InputError:
    # Not what Orbax says, which are C++'s words about its own files; --traceback shows it.
    return InputError(
        f"{manager.directory / str(step)}: the checkpoint is damaged, as a file in it is missing, "
        f"empty or cut short; {advice}."
    )


def _check_same_leaves(manager: ocp.CheckpointManager, step: int, like: Any) -> None:
    metadata = manager.item_metadata(step)["state"].tree
    found = {_path(p): (tuple(m.shape), np.dtype(m.dtype)) for p, m in _leaves(metadata)}
    wanted = {_path(p): (tuple(m.shape), np.dtype(m.dtype)) for p, m in _leaves(like)}
    for path in sorted(found.keys() | wanted.keys()):
        if found.get(path) != wanted.get(path):
            raise InputError(
                f"Checkpoint {manager.directory / str(step)}, leaf {path}: found "
                f"{_describe(found.get(path))}, expected {_describe(wanted.get(path))}; use the "
                "configuration that wrote it, or another work folder."
            )


def _leaves(tree: Any) -> list:
    return jax.tree_util.tree_leaves_with_path(tree)


def _path(path: tuple) -> str:
    return "/".join(str(ocp.utils.tuple_path_from_keypath((key,))[0]) for key in path)


def _describe(leaf: tuple | None) -> str:
    return "nothing" if leaf is None else f"{leaf[1]}{list(leaf[0])}"


def _to_json(data_state: Any) -> dict:
    if isinstance(data_state, bytes):
        return {"base64": base64.b64encode(data_state).decode("ascii")}
    return {"json": data_state}


def _from_json(data: dict) -> Any:
    return base64.b64decode(data["base64"]) if "base64" in data else data["json"]
