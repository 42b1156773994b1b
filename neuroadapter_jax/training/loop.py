"""The training loop: steps, numbers, evaluation, checkpoints, and going on after any end."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from neuroadapter_jax.errors import InputError, NotFiniteError
from neuroadapter_jax.interrupts import Interrupted
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.ranges import Count, check
from neuroadapter_jax.training.agreement import AgreedSignal
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.metrics_log import MetricsLog
from neuroadapter_jax.training.run_config import RunConfig, require_checkpoints
from neuroadapter_jax.training.trackers import require_trackers


@dataclass(frozen=True)
class Intervals:
    """Steps between what a run does besides training.

    Attributes:
        log: steps between lines of metrics.jsonl; a line holds that step's own numbers.
        checkpoint: steps between checkpoints; one more is written at the end.
        evaluate: steps between evaluations; one more runs at the end. None: only at the end.

    Raises:
        SettingError: an interval below 1.
    """

    log: int
    checkpoint: int
    evaluate: int | None = None

    def __post_init__(self):
        for name in ("log", "checkpoint", "evaluate"):
            hint = Count | None if name == "evaluate" else Count
            check(f"{name}_every", getattr(self, name), hint)


@dataclass(frozen=True)
class Evaluation:
    """What a run measures, and which of its numbers marks the best checkpoint.

    Attributes:
        measure: (state, step) -> numbers by name; must not change the state. It may raise
            `Interrupted`, see `agreement.end_if_asked`.
        best_metric: the number that decides.
        best_is_highest: whether its highest value is the best, or its lowest.
    """

    measure: Callable[[Any, int], dict[str, float]]
    best_metric: str = "validation/loss"
    best_is_highest: bool = False

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value goes before the best so far, which is None at first."""
        return best is None or (value > best if self.best_is_highest else value < best)


@runs_alone("workdir", "a training")
def fit(
    step_fn: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    state: Any,
    batches: Any,
    *,
    workdir: str | Path,
    num_steps: int,
    intervals: Intervals,
    config: RunConfig,
    evaluation: Evaluation | None = None,
    progress: bool = True,
    log_to: Sequence[str] = (),
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
      intervals: steps between log lines, checkpoints and evaluations.
      config: what defines the run; written to config.json and compared.
      evaluation: what is measured on the way; None for nothing, and no best checkpoint.
      progress: show a bar with rate, time left and loss on standard error.
      log_to: what keeps the numbers beside metrics.jsonl, see `trackers.TRACKERS`.

    Returns:
      The state after num_steps steps.

    Raises:
      InputError: workdir belongs to a run of other settings, has lost its checkpoints, or is
        beyond num_steps; or see `require_trackers`.
      NotFiniteError: a number of the step or the best metric is not finite.
      Interrupted: SIGTERM or SIGINT came, to any of the run's processes; the step (with several
        processes, one within about two seconds) was finished and saved, an evaluation that was
        going on is done when the run goes on. A second signal acts at once.
    """
    workdir = Path(workdir)
    require_trackers(log_to)
    config.require_same(workdir)
    require_checkpoints(workdir, intervals.checkpoint)
    workdir.mkdir(parents=True, exist_ok=True)
    primary = jax.process_index() == 0
    if primary:
        config.write(workdir)

    with contextlib.ExitStack() as stack:
        store = CheckpointStore(workdir)
        stack.callback(store.close)
        step = _step_of(state)
        if store.latest_step() is not None:
            step, state, data_state = store.restore(like=state)
            batches.set_state(data_state)
        if step > num_steps:
            raise InputError(f"{workdir} is at step {step} already, beyond num_steps {num_steps}.")
        log = MetricsLog(workdir, step, log_to, config.values, writes=primary)
        stack.callback(log.close)
        bar = stack.enter_context(
            Bar(
                total=num_steps,
                initial=step,
                unit="step",
                disable=not (progress and primary),
                smoothing=0.05,
                ends_on_signal=False,  # but at the end of a step, once it is saved
            )
        )
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

        def due_evaluation() -> Evaluation | None:
            every = intervals.evaluate
            due = step == num_steps or (every is not None and step % every == 0)
            return evaluation if step and due else None

        def evaluate(evaluation: Evaluation) -> None:
            nonlocal best
            write_pending()
            measured = evaluation.measure(state, step)
            values = {name: float(value) for name, value in measured.items()}
            value = _best_value(values, evaluation.best_metric, step)
            if evaluation.is_better(value, best):
                # The best checkpoint is complete before the line that says it is.
                store.save_best(step, state, value)
                best = value
            log.write(step, "evaluation", values)

        if (pending_evaluation := due_evaluation()) and not log.has_evaluation(step):
            evaluate(pending_evaluation)
        stop, asked = None, AgreedSignal(step)
        while step < num_steps:
            state, metrics = step_fn(state, _next(batches, step))
            step += 1
            bar.update()
            if step % intervals.log == 0 or step == num_steps:
                write_pending()
                pending.append((step, metrics))
            due = step % intervals.checkpoint == 0 or step == num_steps
            stop = asked(step)
            if due or stop is not None:
                save()
                if stop is not None:
                    break
            if pending_evaluation := due_evaluation():
                try:
                    evaluate(pending_evaluation)
                except Interrupted:
                    if not due:
                        save()
                        store.wait()
                    raise
        store.wait()
        if stop is not None:
            raise Interrupted(stop, step)
        return state


def _step_of(state: Any) -> int:
    return int(state["step"] if isinstance(state, Mapping) else state.step)


def _next(batches: Any, step: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise InputError(
            f"The batches ended after step {step}, before the last step; give an iterator that "
            "repeats."
        ) from None


def _finite(step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        found = ", ".join(f"{name} is {value}" for name, value in bad.items())
        raise NotFiniteError(
            f"Step {step}: {found}. Training stopped; the checkpoint before it is kept. Lower the "
            "learning rate or look at the data."
        )
    return values


def _best_value(values: dict[str, float], best_metric: str, step: int) -> float:
    if best_metric not in values:
        raise InputError(
            f"The evaluation gave no {best_metric!r}, the number that chooses the best checkpoint; "
            f"it gave {sorted(values)}."
        )
    if not math.isfinite(values[best_metric]):
        raise NotFiniteError(
            f"Step {step}: {best_metric} is {values[best_metric]}. Training stopped."
        )
    return values[best_metric]
