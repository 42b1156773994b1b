"""The numbers of a training run: metrics.jsonl, timing.jsonl, and trackers beside them."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.files import write_text
from neuroadapter_jax.readers import read_json_lines
from neuroadapter_jax.training.trackers import open_trackers, validation_picture


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics.jsonl; a line that a killed process tore is left out.

    Args:
        path: the file.
    """
    path = Path(path)
    if not path.exists():
        return []
    if not path.stat().st_size:
        return []
    return read_json_lines(path, "numbers of a training", _Line)


class _Line(TypedDict):
    step: int
    kind: str


class MetricsLog:
    """Appends one JSON object a line to metrics.jsonl; holds nothing that depends on the clock.

    A line is {"step", "kind": "train" or "evaluation", numbers...}. So the file of a run that was
    interrupted and continued equals, byte for byte, that of a run that was not. Seconds go to
    timing.jsonl.

    Args:
      workdir: the run's folder.
      step: the step to continue from; lines of later steps, written by a process that was killed
        before its next checkpoint, are dropped.
      log_to: what keeps the numbers as well, see `trackers.TRACKERS`.
      config: the settings of the run, for trackers that show them.
      writes: False in all processes of a run but the first, which keep the lines in memory.

    Raises:
      InputError: see `require_trackers`.
    """

    def __init__(
        self,
        workdir: str | Path,
        step: int = 0,
        log_to: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        writes: bool = True,
    ):
        workdir = Path(workdir)
        path = workdir / "metrics.jsonl"
        self._writes = writes
        self._workdir = workdir
        self._trackers = open_trackers(log_to, workdir, step, config or {}) if writes else []
        self.lines = [line for line in read_metrics(path) if line["step"] <= step]
        if writes:
            write_text(path, "".join(_dump(line) for line in self.lines))
            self._metrics = open(path, "a", encoding="utf-8")  # noqa: SIM115
            self._timing = open(workdir / "timing.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self._last = (step, time.monotonic())

    def has_evaluation(self, step: int) -> bool:
        """Whether the evaluation of this step is in the file."""
        return any(line["step"] == step and line["kind"] == "evaluation" for line in self.lines)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Appends a line; a number that is not finite becomes null, as JSON has none."""
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        line = {"step": step, "kind": kind, **finite}
        self.lines.append(line)
        if not self._writes:
            return
        self._metrics.write(_dump(line))
        self._metrics.flush()
        then, self._last = self._last, (step, time.monotonic())
        seconds = self._last[1] - then[1]
        timing = {"step": step, "kind": kind, "utc": time.time(), "seconds": seconds}
        self._timing.write(_dump(timing | {"steps": step - then[0]}))
        self._timing.flush()
        for tracker in self._trackers:
            numbers = {name: value for name, value in finite.items() if value is not None}
            if kind == "train" and seconds > 0:
                numbers["steps_per_second"] = (step - then[0]) / seconds
            tracker.scalars(step, numbers)
            picture = validation_picture(self._workdir, step)
            if kind == "evaluation" and picture.is_file():
                tracker.picture(step, "validation/images", picture)

    def sync(self) -> None:
        """Puts every line on disk; called before the checkpoint that relies on them."""
        if self._writes:
            os.fsync(self._metrics.fileno())

    def close(self) -> None:
        """Closes the files."""
        if self._writes:
            self._metrics.close()
            self._timing.close()
        for tracker in self._trackers:
            tracker.close()


def _dump(line: dict[str, Any]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
