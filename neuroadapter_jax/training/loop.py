"""The training loop: steps, numbers, evaluation, checkpoints, and going on after any end."""

import contextlib
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from neuroadapter_jax.files import write_text
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.metrics_log import MetricsLog


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A signal ended the run after its state was saved; `exit_code` is 128 + the signal."""

    def __init__(self, signal_number: int, step: int):
        name = signal.Signals(signal_number).name
        super().__init__(f"{name} at step {step}: the run is saved; start it again to go on.")
        self.exit_code = 128 + signal_number
        self.step = step


def fit(
    step_fn: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    state: Any,
    batches: Any,
    *,
    workdir: str | Path,
    num_steps: int,
    log_every: int,
    checkpoint_every: int,
    evaluate: Callable[[Any, int], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
    best_metric: str = "validation/loss",
    best_is_highest: bool = False,
    config_fingerprint: Mapping[str, Any],
    config_defaults: Mapping[str, Any] | None = None,
    progress: bool = True,
    tensorboard: bool = False,
) -> Any:
    """Trains until step num_steps, from the start or from where an earlier call ended.

    A run that is killed at any moment and started again gives the same state and the same
    metrics.jsonl as one that was not, bit for bit, provided that step_fn is a pure function of
    (state, batch), that its random numbers come from a key in the state and the step, and that
    `batches` returns to a position exactly.

    Order at a step: numbers to metrics.jsonl, then the checkpoint that relies on them, then the
    evaluation. metrics.jsonl says whether the evaluation of the restored step is still due.

    Args:
      step_fn: jitted (state, batch) -> (state, scalars by name); may donate the state.
      state: pytree of arrays with an int32 scalar `step` (item or attribute), 0 at the start.
        Random keys as `jax.random.key_data`. On several devices every leaf is placed on the
        mesh; a restored state is placed the same way.
      batches: iterator with `get_state()` (bytes or JSON values) and `set_state(value)`.
      workdir: gets config.json, metrics.jsonl, timing.jsonl, checkpoints/.
      num_steps: the step at which training ends.
      log_every: steps between lines of metrics.jsonl; a line holds that step's own numbers.
      checkpoint_every: steps between checkpoints; one more is written at the end.
      evaluate: (state, step) -> numbers by name; must not change the state.
      evaluate_every: steps between evaluations; one more runs at the end. None: only at the end.
      best_metric: the number of `evaluate` whose lowest value marks the best checkpoint.
      best_is_highest: its highest value does.
      config_fingerprint: JSON values that define the run; kept in config.json and compared.
      config_defaults: values of keys that a config.json written by an older version may lack.
      progress: show a bar with rate, time left and loss on standard error.
      tensorboard: also write TensorBoard events.

    Returns:
      The state after num_steps steps.

    Raises:
      ValueError: workdir belongs to a run with another configuration, or is beyond num_steps.
      FloatingPointError: a number of the step or the best metric is not finite.
      Interrupted: SIGTERM or SIGINT came, to any of the run's processes; the step (with several
        processes, the next one that is logged) was finished and saved. A second signal acts at
        once.
    """
    intervals = {"log_every": log_every, "checkpoint_every": checkpoint_every}
    if evaluate_every is not None:
        intervals["evaluate_every"] = evaluate_every
    for name, value in intervals.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it has to be at least 1.")
    workdir = Path(workdir)
    check_config(workdir, config_fingerprint, config_defaults)
    workdir.mkdir(parents=True, exist_ok=True)
    primary = jax.process_index() == 0
    if primary and not (workdir / "config.json").exists():
        write_text(workdir / "config.json", _dump(config_fingerprint))

    with contextlib.ExitStack() as stack:
        store = CheckpointStore(workdir)
        stack.callback(store.close)
        step = _step_of(state)
        if store.latest_step() is not None:
            step, state, data_state = store.restore(like=state)
            batches.set_state(data_state)
        if step > num_steps:
            raise ValueError(f"{workdir} is at step {step} already, beyond num_steps {num_steps}.")
        log = MetricsLog(workdir, step, tensorboard, writes=primary)
        stack.callback(log.close)
        bar = _bar(step, num_steps, progress and primary)
        stack.callback(bar.close)
        signals = _Signals()
        stack.callback(signals.restore)
        best = store.best_value()
        # Numbers wait here until the next log step, so that the device never waits for the log.
        pending: list[tuple[int, dict[str, jax.Array]]] = []

        def write_pending() -> None:
            while pending:
                at, metrics = pending.pop()
                values = _finite(at, metrics)
                log.write(at, "train", values)
                loss = next((v for k, v in values.items() if k.endswith("loss")), None)
                bar.set_postfix_str("" if loss is None else f"loss {loss:.4g}", refresh=False)

        def save() -> None:
            _finite(step, metrics)
            write_pending()
            log.sync()
            store.save(step, state, batches.get_state())

        def evaluation_due() -> bool:
            if evaluate is None or step == 0:
                return False
            return step == num_steps or (evaluate_every is not None and step % evaluate_every == 0)

        def run_evaluation() -> None:
            nonlocal best
            write_pending()
            values = {name: float(value) for name, value in evaluate(state, step).items()}
            value = _best_value(values, best_metric, step)
            if best is None or (value > best if best_is_highest else value < best):
                # The best checkpoint is complete before the line that says it is.
                store.save_best(step, state, value)
                best = value
            log.write(step, "evaluation", values)

        if evaluation_due() and not log.has_evaluation(step):
            run_evaluation()
        stop = None
        while step < num_steps:
            state, metrics = step_fn(state, _next(batches, step))
            step += 1
            bar.update()
            if step % log_every == 0 or step == num_steps:
                write_pending()
                pending.append((step, metrics))
            due = step % checkpoint_every == 0 or step == num_steps
            stop = signals.agreed(step % log_every == 0)
            if due or stop is not None:
                save()
                if stop is not None:
                    break
            if evaluation_due():
                run_evaluation()
        store.wait()
        if stop is not None:
            raise Interrupted(stop, step)
        return state


class _Signals:
    """Notes the first SIGTERM or SIGINT and then gives way to the earlier handlers."""

    def __init__(self):
        self.received: int | None = None
        self._earlier = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._earlier[number] = signal.signal(number, self._receive)

    def _receive(self, number, frame):
        self.received = number
        self.restore()

    def agreed(self, now: bool) -> int | None:
        """The signal that ends the run: any process's, asked of all where `now` is true."""
        if jax.process_count() == 1:
            return self.received
        if not now:
            return None
        stimuli = multihost_utils.process_allgather(np.int32(self.received or 0))
        return int(stimuli.max()) or None

    def restore(self):
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}


def _step_of(state: Any) -> int:
    return int(state["step"] if isinstance(state, Mapping) else state.step)


def _bar(step: int, num_steps: int, progress: bool) -> tqdm:
    return tqdm(
        total=num_steps,
        initial=step,
        unit="step",
        disable=not progress,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        smoothing=0.05,
    )


def _next(batches: Any, step: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(
            f"The batches ended after step {step}, before the last step; give an iterator that "
            "repeats."
        ) from None


def _finite(step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        found = ", ".join(f"{name} is {value}" for name, value in bad.items())
        raise FloatingPointError(
            f"Step {step}: {found}. Training stopped; the checkpoint before it is kept. Lower the "
            "learning rate or look at the data."
        )
    return values


def _best_value(values: dict[str, float], best_metric: str, step: int) -> float:
    if best_metric not in values:
        raise ValueError(
            f"evaluate gave no {best_metric!r}, the number that chooses the best checkpoint; it "
            f"gave {sorted(values)}."
        )
    if not math.isfinite(values[best_metric]):
        raise FloatingPointError(
            f"Step {step}: {best_metric} is {values[best_metric]}. Training stopped."
        )
    return values[best_metric]


def check_config(
    workdir: str | Path, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Refuses a work folder of another configuration; writes nothing.

    Args:
      workdir: the folder.
      config: JSON values that define the run.
      defaults: values of keys that a config.json written by an older version may lack.

    Raises:
      ValueError: the folder's config.json differs, or it holds checkpoints without one.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    if path.exists():
        there = {**(defaults or {}), **json.loads(path.read_text())}
        found, wanted = _flat(json.loads(_dump(there))), _flat(json.loads(_dump(config)))
        keys = sorted(found.keys() | wanted.keys())
        differ = [k for k in keys if found.get(k, "absent") != wanted.get(k, "absent")]
        if differ:
            pairs = "; ".join(
                f"{k} is {found.get(k, 'absent')!r} there, {wanted.get(k, 'absent')!r} here"
                for k in differ
            )
            raise ValueError(
                f"{path} belongs to a run with another configuration: {pairs}. Choose another "
                "work folder, or the same configuration to go on."
            )
    elif (workdir / "checkpoints").exists():
        raise ValueError(
            f"{workdir} holds checkpoints but no config.json, so they may belong to another run; "
            "choose another work folder."
        )


def _dump(config: Mapping[str, Any]) -> str:
    return json.dumps(dict(config), indent=2, sort_keys=True) + "\n"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        items = [_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items()]
        return {key: value for item in items for key, value in item.items()}
    return {prefix: tree}
