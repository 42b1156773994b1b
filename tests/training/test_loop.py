"""The loop's promises on a toy. Run as a script, this file is the process that the tests kill."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.training.agreement import end_if_asked
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.loop import Evaluation, Interrupted, Intervals, fit
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig

STEPS = 47
OPTIMIZER = make_optimizer(make_schedule(0.05, STEPS, 5), weight_decay=1e-6)


class Batches:
    """Batch k is a pure function of k; `before` is called with k before it is given."""

    def __init__(self, before=lambda k: None, end=None):
        self.k, self.before, self.end = 0, before, end

    def __next__(self):
        if self.k == self.end:
            raise StopIteration
        self.before(self.k)
        self.k += 1
        return np.random.default_rng(self.k).normal(size=(7, 5)).astype(np.float32)

    def get_state(self) -> bytes:
        return json.dumps({"k": self.k}).encode()

    def set_state(self, state: bytes):
        self.k = json.loads(state)["k"]


def initial_state(size=3):
    params = {"w": jnp.ones((5, size)), "unused": jnp.zeros(size)}
    key = jax.random.key_data(jax.random.key(11))
    return {"params": params, "opt": OPTIMIZER.init(params), "key": key, "step": jnp.int32(0)}


def make_step():
    traces = []

    def step(state, batch):
        traces.append(1)
        key = jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["step"])

        def loss_fn(params):
            noise = jax.random.normal(key, (batch.shape[0], params["w"].shape[1]))
            return jnp.mean((batch @ params["w"] + noise) ** 2)

        loss, grads = jax.value_and_grad(loss_fn)(state["params"])
        updates, opt = OPTIMIZER.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        state = state | {"params": params, "opt": opt, "step": state["step"] + 1}
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(grads)}

    return jax.jit(step, donate_argnums=0), traces


def evaluate(state, step):
    return {"validation/loss": float(jnp.sum((state["params"]["w"] - 0.8) ** 2))}


def run(workdir, batches=None, step_fn=None, state=None, config=None, **options):
    options = {
        "num_steps": STEPS,
        "intervals": Intervals(log=3, checkpoint=7, evaluate=14),
        "evaluation": Evaluation(evaluate),
        "progress": False,
    } | options
    return fit(
        make_step()[0] if step_fn is None else step_fn,
        initial_state() if state is None else state,
        Batches() if batches is None else batches,
        workdir=workdir,
        config=RunConfig({"model": {"p": 3}, "seed": 11} if config is None else config),
        **options,
    )


def assert_same_run(workdir, state, reference_workdir, reference):
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(reference), strict=True):
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes()
    metrics = [(Path(d) / "metrics.jsonl").read_bytes() for d in (workdir, reference_workdir)]
    assert metrics[0] == metrics[1]
    bests = []
    for directory in (workdir, reference_workdir):
        store = CheckpointStore(directory)
        step, best = store.restore_best(initial_state())
        bests.append((step, store.best_value(), np.asarray(best["params"]["w"]).tobytes()))
        store.close()
    assert bests[0] == bests[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir)


# ---- processes that are killed


def script():
    """`test_train_loop.py WORKDIR (whole | at | saving) STEP`: a run that may kill itself."""
    workdir, how, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    def before(k):
        if how == "at" and k == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_commit(event, arguments):
        # The background thread is about to give the written folder its name.
        if event == "os.rename" and Path(arguments[1]) == workdir / "checkpoints" / str(at):
            os.kill(os.getpid(), signal.SIGKILL)

    if how == "saving":
        sys.addaudithook(before_commit)
    state = run(workdir, Batches(before))
    np.savez(workdir / "final.npz", *[np.asarray(x) for x in jax.tree.leaves(state)])


def start(workdir, how="whole", at=0):
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    command = [sys.executable, __file__, str(workdir), how, str(at)]
    return subprocess.Popen(command, env=environment, cwd=root, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(tmp_path):
    reference, killed = tmp_path / "reference", tmp_path / "killed"
    at = int(np.random.default_rng().integers(8, 27))
    print("killed before step", at + 1)  # shown if the test fails
    whole, first = start(reference), start(killed, "at", at)
    assert (whole.wait(), first.wait()) == (0, -signal.SIGKILL)

    root = killed / "checkpoints"
    assert start(killed, "saving", 28).wait() == -signal.SIGKILL
    assert (root / "21").exists() and not (root / "28").exists()
    assert list(root.glob("28.orbax-checkpoint-tmp*"))

    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "kind": "tra')
    assert start(killed).wait() == 0

    assert (killed / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    assert not list(root.glob("*tmp*"))
    got, want = np.load(killed / "final.npz"), np.load(reference / "final.npz")
    assert len(want.files) == len(jax.tree.leaves(initial_state()))
    for name in want.files:
        assert got[name].tobytes() == want[name].tobytes()


# ---- one process


class Killed(Exception):
    pass


def die_at(step):
    def before(k):
        if k == step:
            raise Killed

    return before


def test_numbers_and_files_of_a_whole_run(whole):
    workdir, state = whole
    assert int(state["step"]) == STEPS
    lines = read_metrics(workdir / "metrics.jsonl")
    train = [line["step"] for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert train == [*range(3, STEPS, 3), STEPS]
    assert [line["step"] for line in evaluations] == [14, 28, 42, STEPS]
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["42", "47", "best"]
    best = min(evaluations, key=lambda line: line["validation/loss"])
    assert [p.name for p in (workdir / "checkpoints/best").iterdir()] == [str(best["step"])]
    assert json.loads((workdir / "config.json").read_text()) == {"model": {"p": 3}, "seed": 11}

    step_fn, batches, plain = make_step()[0], Batches(), initial_state()
    for number in range(1, STEPS + 1):
        plain, metrics = step_fn(plain, next(batches))
        for line in lines:
            if line["step"] == number and line["kind"] == "train":
                assert line["loss"] == float(metrics["loss"])
    assert plain["params"]["w"].tobytes() == state["params"]["w"].tobytes()


def test_the_best_checkpoint_is_not_the_last(tmp_path):
    values = {14: 0.5, 28: 0.25, 42: 0.75, STEPS: 0.25}
    run(tmp_path, evaluation=Evaluation(lambda state, step: {"score": values[step]}, "score"))
    store = CheckpointStore(tmp_path)
    assert (store.best_step(), store.best_value()) == (28, 0.25)
    assert int(store.restore_best(initial_state())[1]["step"]) == 28
    store.close()


@pytest.mark.parametrize("at", [2, 31])
def test_an_error_in_the_data_loses_nothing(tmp_path, whole, at):
    with pytest.raises(Killed):
        run(tmp_path, Batches(die_at(at)))
    assert_same_run(tmp_path, run(tmp_path), *whole)


def test_an_evaluation_that_failed_is_made_up_for(tmp_path, whole):
    def fails(state, step):
        if step == 28:
            raise Killed
        return evaluate(state, step)

    with pytest.raises(Killed):
        run(tmp_path, evaluation=Evaluation(fails))
    assert_same_run(tmp_path, run(tmp_path), *whole)


# Step 20 is nothing special, 28 asks for a checkpoint and an evaluation, the last for both.
@pytest.mark.parametrize(
    ("number", "at"),
    [(signal.SIGINT, 19), (signal.SIGTERM, 19), (signal.SIGTERM, 27), (signal.SIGTERM, STEPS - 1)],
)
def test_a_signal_saves_and_leaves(tmp_path, whole, number, at):
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]

    def before(k):
        if k == at:
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match=rf"{number.name} at step {at + 1}") as caught:
        run(tmp_path, Batches(before))
    assert caught.value.exit_code == 128 + number
    assert (tmp_path / "checkpoints" / str(at + 1)).exists()
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert_same_run(tmp_path, run(tmp_path), *whole)


# Step 14 asks for a checkpoint as well, step 12 for an evaluation alone.
@pytest.mark.parametrize(("every", "at"), [(14, 14), (4, 12)])
def test_a_signal_in_an_evaluation_saves_and_leaves(tmp_path, every, at):
    def asked(state, step):
        if step == at:
            signal.raise_signal(signal.SIGTERM)
            end_if_asked(step)
        return evaluate(state, step)

    options = {"intervals": Intervals(log=3, checkpoint=7, evaluate=every)}
    with pytest.raises(Interrupted, match=f"SIGTERM at step {at}"):
        run(tmp_path / "run", evaluation=Evaluation(asked), **options)
    assert (tmp_path / "run" / "checkpoints" / str(at)).exists()
    reference = run(tmp_path / "whole", **options)
    assert_same_run(
        tmp_path / "run", run(tmp_path / "run", **options), tmp_path / "whole", reference
    )


def test_a_finished_run_is_only_read(tmp_path):
    run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    state = run(tmp_path, Batches(die_at(0)))
    assert int(state["step"]) == STEPS
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    with pytest.raises(ValueError, match=f"at step {STEPS} already"):
        run(tmp_path, num_steps=9)


def test_the_step_is_compiled_once(tmp_path):
    step_fn, traces = make_step()
    with pytest.raises(Killed):
        run(tmp_path, Batches(die_at(20)), step_fn)
    run(tmp_path, step_fn=step_fn)
    assert len(traces) == 1


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    run(tmp_path, num_steps=2, evaluation=None)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    changed = {"model": {"p": 5}, "seed": 11, "new": None}
    with pytest.raises(ValueError, match=r"model\.p is 3 there, 5 here; new is 'absent' there"):
        run(tmp_path, config=changed)
    (tmp_path / "config.json").rename(tmp_path / "renamed")
    with pytest.raises(ValueError, match=r"checkpoints but no config\.json"):
        run(tmp_path)
    (tmp_path / "renamed").rename(tmp_path / "config.json")
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_call_that_ended_before_its_first_result_binds_nobody(tmp_path, whole):
    with pytest.raises(Killed):
        run(tmp_path, Batches(die_at(0)), config={"model": {"p": 5}, "seed": 11})
    assert_same_run(tmp_path, run(tmp_path), *whole)
    assert json.loads((tmp_path / "config.json").read_text())["model"] == {"p": 3}


def test_a_config_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["CLIPTextModel"]}')
    with pytest.raises(InputError, match=r"architectures is .* there, 'absent' here"):
        run(tmp_path)
    (tmp_path / "config.json").write_text("<html>")
    with pytest.raises(InputError, match=r"config\.json: is a web page"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_second_training_in_the_folder_is_refused(tmp_path):
    raised = []

    def before(k):
        if k == 2:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    def second():
        with pytest.raises(InputError, match="is in use: a training by process") as caught:
            run(tmp_path)
        raised.append(caught.value)

    run(tmp_path, Batches(before), num_steps=4, evaluation=None)
    assert len(raised) == 1
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [3, 4]


def test_a_folder_of_an_older_version_lacks_keys_at_their_defaults(tmp_path):
    RunConfig({"p": 3}, {"q": 5}).require_same(tmp_path)
    (tmp_path / "config.json").write_text('{"p": 3}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "train"}\n')
    RunConfig({"p": 3, "q": 5}, {"q": 5}).require_same(tmp_path)
    with pytest.raises(ValueError, match="q is 5 there, 7 here"):
        RunConfig({"p": 3, "q": 7}, {"q": 5}).require_same(tmp_path)
    with pytest.raises(ValueError, match="q is 'absent' there, 5 here"):
        RunConfig({"p": 3, "q": 5}).require_same(tmp_path)


def test_numbers_that_are_not_finite_stop_the_run(tmp_path):
    step_fn, _ = make_step()

    def diverges(state, batch):
        state, metrics = step_fn(state, batch)
        return state, metrics | {"loss": jnp.where(state["step"] >= 16, jnp.nan, metrics["loss"])}

    with pytest.raises(FloatingPointError, match="Step 18: loss is nan"):
        run(tmp_path, step_fn=diverges)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == 15
    store = CheckpointStore(tmp_path)
    assert store.latest_step() == 14
    store.close()


def test_an_evaluation_without_its_best_metric_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no 'other', .* gave \['validation/loss'\]"):
        run(tmp_path / "a", evaluation=Evaluation(evaluate, "other"))
    with pytest.raises(FloatingPointError, match="Step 14: validation/loss is nan"):
        run(tmp_path / "b", evaluation=Evaluation(lambda *_: {"validation/loss": float("nan")}))


def test_an_interval_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluate_every is 0"):
        Intervals(log=3, checkpoint=7, evaluate=0)
    with pytest.raises(ValueError, match="log_every is 0"):
        Intervals(log=0, checkpoint=7)


def test_batches_that_end_early_are_named(tmp_path):
    with pytest.raises(ValueError, match="ended after step 9"):
        run(tmp_path, Batches(end=9))


def test_a_grain_iterator_goes_on_where_it_was(tmp_path):
    import grain

    class Source:
        def __len__(self):
            return 13

        def __getitem__(self, i):
            return np.random.default_rng(i).normal(size=5).astype(np.float32)

    def batches():
        data = grain.MapDataset.source(Source()).shuffle(seed=3).repeat().batch(4)
        return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)))

    whole = run(tmp_path / "whole", batches())
    run(tmp_path / "parts", batches(), num_steps=14)
    parts = run(tmp_path / "parts", batches())
    assert whole["params"]["w"].tobytes() == parts["params"]["w"].tobytes()


def test_a_tracker_that_cannot_work_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'neuroadapter-jax\[tensorboard\]'"):
        run(tmp_path / "run", log_to=("tensorboard",))
    with pytest.raises(InputError, match="'mlflow'; expected some of tensorboard, wandb"):
        run(tmp_path / "run", log_to=("mlflow",))
    assert not (tmp_path / "run").exists()


def test_a_run_is_the_same_with_a_tracker(tmp_path, whole):
    pytest.importorskip("tensorboardX")
    assert_same_run(tmp_path, run(tmp_path, log_to=("tensorboard",)), *whole)
    assert list((tmp_path / "tensorboard").glob("events*"))


if __name__ == "__main__":
    script()
