"""Meshes of eight devices and of two processes give one device's run.

As a script, this file is the process that has the devices: `test_sharding.py TASK FOLDER ...`.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

STEPS, ROWS = 10, 16
UNET = {"block_out_channels": (28,), "attention_head_dim": 7, "norm_num_groups": 7}
MESHES = {"1x1": (1, 1), "8x1": (8, 1), "2x4": (8, 4)}


def make_tiny(mesh):
    import tiny_step
    from tiny_backbone import random_network

    from neuroadapter_jax import sharding
    from neuroadapter_jax.diffusion import attention
    from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
    from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule

    sharding.SMALL = 100  # so that these small networks are cut
    attention._LARGE = 100  # and take the way of large attention
    tiny_step.P, tiny_step.N = 20, 149
    config = UNetConfig(**tiny_step.UNET | UNET)
    unet = random_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs), 0)
    optimizer = make_optimizer(make_schedule(3e-3, 100), weight_decay=1e-3)
    return tiny_step.TinyStep(unet, optimizer, ema_decay=0.9, mesh=mesh)


class Batches:
    """This process's rows of each batch."""

    def __init__(self, tiny, process=(0, 1), start=0):
        self.tiny, self.k = tiny, start
        rows = ROWS // process[1]
        self.rows = slice(process[0] * rows, (process[0] + 1) * rows)
        self.get_state, self.set_state = (lambda: self.k), None

    def __next__(self):
        self.k += 1
        return {name: x[self.rows] for name, x in self.tiny.batch(self.k, ROWS).items()}


def iter_of(batch):
    class One:
        get_state = set_state = None

        def __next__(self):
            return batch

    return One()


def by_name(tree):
    import jax

    from neuroadapter_jax.sharding import path_name

    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): leaf for path, leaf in flat}


def run(mesh, steps=STEPS, process=(0, 1)):
    from neuroadapter_jax.sharding import ShardedBatches, shard

    tiny = make_tiny(mesh)
    state, frozen = shard(tiny.state(), mesh), shard(tiny.frozen, mesh)
    batches = ShardedBatches(Batches(tiny, process), mesh)
    for _ in range(steps):
        state, metrics = tiny.step(state, frozen, next(batches))
    return tiny, state, frozen, metrics


def save(path, state, metrics, **more):
    from neuroadapter_jax.sharding import gather_to_host

    leaves = by_name(gather_to_host({"params": state["params"], "ema": state["ema"]}))
    arrays = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    np.savez(path, loss=np.asarray(gather_to_host(metrics["loss"])), **arrays, **more)


def devices_task(folder):
    """Ten steps on each mesh; the 2 x 4 run's checkpoint restored on 8 x 1; the collectives."""
    import jax

    from neuroadapter_jax.sharding import ShardedBatches, make_mesh, shard
    from neuroadapter_jax.training.checkpoints import CheckpointStore

    for name, (count, fsdp) in MESHES.items():
        mesh = make_mesh(fsdp, jax.devices()[:count])
        tiny, state, frozen, metrics = run(mesh)
        batch = next(ShardedBatches(Batches(tiny), mesh))
        compiled = tiny.step.lower(state, frozen, batch).compile().as_text()
        (folder / f"{name}.hlo").write_text(compiled)
        assert tiny.step._cache_size() == 1
        weights = by_name(state["params"])["region_projection/weights"]
        assert weights.addressable_shards[0].data.shape[0] == 20 // fsdp
        leaves = by_name({"adapter": state["params"], "unet": frozen.unet})
        # The text's keys and values are computed before the run.
        used = [x for name, x in leaves.items() if not re.search("attn2/to_[kv]", name)]
        cut = [x for x in used if not x.sharding.is_fully_replicated]
        save(
            folder / f"{name}.npz",
            state,
            metrics,
            num_trained=sum(x.size for x in jax.tree.leaves(state["params"])),
            num_cut=sum(x.size for x in cut),
        )
    with pytest.raises(ValueError) as refused:
        next(ShardedBatches(iter_of({"betas": np.zeros((12, 3))}), mesh))
    (folder / "refused.txt").write_text(str(refused.value))
    # What 2 x 4 wrote after five steps goes on, on 8 x 1.
    mesh = make_mesh(4)
    _, state, *_ = run(mesh, 5)
    store = CheckpointStore(folder / "run")
    store.save(5, state, 5)
    store.wait()
    mesh = make_mesh(1)
    tiny = make_tiny(mesh)
    frozen = shard(tiny.frozen, mesh)
    _, state, position = store.restore(shard(tiny.state(), mesh))
    batches = ShardedBatches(Batches(tiny, start=position), mesh)
    for _ in range(5):
        state, metrics = tiny.step(state, frozen, next(batches))
    save(folder / "restored.npz", state, metrics)


def process_task(folder, index, port):
    """One of two processes of two devices each, on a mesh 2 x 2."""
    import jax

    from neuroadapter_jax.processes import start_processes
    from neuroadapter_jax.sharding import make_mesh

    start_processes(f"127.0.0.1:{port}", 2, index)
    assert jax.process_count() == 2 and jax.device_count() == 4
    _, state, _, metrics = run(make_mesh(2), process=(index, 2))
    save(folder / f"process{index}.npz", state, metrics)


def start(task, folder, count, *arguments):
    root = Path(__file__).resolve().parents[1]
    flags = os.environ.get("XLA_FLAGS", "")  # the caller's flags hold here too
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, __file__, task, str(folder), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    finish(start("devices", folder, 8))
    return folder


def assert_same_run(path, truth):
    ours, theirs = np.load(path), np.load(truth)
    names = [name for name in theirs.files if "/" in name]
    assert len(names) > 20 and "params/region_projection/weights" in names
    for name in [*names, "loss"]:
        scale = np.abs(theirs[name]).max()
        np.testing.assert_allclose(
            ours[name], theirs[name], rtol=0, atol=1e-5 * scale, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8x1", "2x4", "restored"])
def test_a_mesh_of_eight_devices_equals_one_device(devices, name):
    assert_same_run(devices / f"{name}.npz", devices / "1x1.npz")


@pytest.mark.slow
def test_two_processes_equal_one_device(devices, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start("process", tmp_path, 2, index, port) for index in range(2)]
    for process in both:
        finish(process)
    for index in range(2):
        assert_same_run(tmp_path / f"process{index}.npz", devices / "1x1.npz")


def collectives(path):
    """(kind, numbers that it moves) of every collective of a compiled program."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = []
    for line in path.read_text().splitlines():
        if match := re.search(rf"= (.*?) ({kinds})(-start)?\(", line):
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            found += [(match[2], np.prod([int(n) for n in s.split(",") if n])) for s in shapes]
    return found


@pytest.mark.slow
def test_pure_data_parallelism_reduces_each_gradient_once_and_nothing_else(devices):
    found = collectives(devices / "8x1.hlo")
    num_trained = int(np.load(devices / "8x1.npz")["num_trained"])
    assert {kind for kind, _ in found} == {"all-reduce"}
    scalars = [size for _, size in found if size == 1]
    assert len(scalars) <= 6
    assert sum(size for _, size in found) - len(scalars) == num_trained
    assert not collectives(devices / "1x1.hlo")


@pytest.mark.slow
def test_each_cut_parameter_is_gathered_once(devices):
    found = collectives(devices / "2x4.hlo")
    out = np.load(devices / "2x4.npz")
    assert out["num_cut"] > 5000
    gathered = sum(size for kind, size in found if kind == "all-gather")
    assert gathered == out["num_cut"]


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/region_projection/weights", (200, 626, 768), ("fsdp",)),
        ("opt_state/1/0/mu/region_projection/weights", (200, 626, 768), ("fsdp",)),
        ("unet/down_blocks/0/resnets/0/conv1/kernel", (3, 3, 320, 320), (None,) * 3 + ("fsdp",)),
        ("unet/time_embedding/linear_1/kernel", (320, 1280), (None, "fsdp")),
        ("unet/conv_out/kernel", (3, 3, 320, 4), ()),  # small
        ("unet/mid_block/attentions/0/norm/scale", (1280,), ()),  # small
        ("unet/odd/kernel", (1024, 1021), ()),  # 8 does not divide it
        ("params/region_projection/weights", (201, 626, 768), ()),
    ],
)
def test_where_a_parameter_is_cut(path, shape, spec):
    from jax.sharding import PartitionSpec

    from neuroadapter_jax.sharding import partition

    assert partition(path, shape, 8) == PartitionSpec(*spec)
    assert partition(path, shape, 1) == PartitionSpec()


def test_a_mesh_that_does_not_divide_is_refused():
    from neuroadapter_jax.sharding import make_mesh

    with pytest.raises(
        ValueError, match="fsdp is 3; expected a divisor of the number of devices, 1"
    ):
        make_mesh(3)


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(devices):
    message = (devices / "refused.txt").read_text()
    assert message.startswith("batch_size is 12, which 8 devices cannot share evenly")


if __name__ == "__main__":
    task, folder, *numbers = sys.argv[1:]
    tasks = {"devices": devices_task, "process": process_task}
    tasks[task](Path(folder), *map(int, numbers))
