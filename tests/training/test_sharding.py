"""Several devices give the same run. As a script, this file is the process that has them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

STEPS = 10


def script():
    """`test_sharding.py FILE`: the final parameters after ten steps on 1, 2 and 4 devices."""
    import jax
    from tiny_backbone import random_network
    from tiny_step import UNET, TinyStep

    from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
    from neuroadapter_jax.training.optimizers import make_optimizer
    from neuroadapter_jax.training.sharding import ShardedBatches, make_mesh, replicate

    class Batches:
        def __init__(self, size):
            self.k, self.size = 0, size
            self.get_state, self.set_state = (lambda: self.k), None

        def __next__(self):
            self.k += 1
            return TinyStep.batch(self.k, self.size)

    unet = random_network(lambda rngs: UNet2DConditionModel(UNetConfig(**UNET), rngs=rngs), 0)
    tiny = TinyStep(unet, make_optimizer(3e-3, 100, weight_decay=1e-3), ema_decay=0.9)
    results = {}
    for count in (1, 2, 4):
        mesh = make_mesh(jax.devices()[:count])
        state, frozen = replicate(tiny.state(), mesh), replicate(tiny.frozen, mesh)
        batches = ShardedBatches(Batches(12), mesh)
        for _ in range(STEPS):
            batch = next(batches)
            parts = batch["betas"].addressable_shards
            assert len(parts) == count and parts[0].data.shape[0] == 12 // count
            state, metrics = tiny.step(state, frozen, batch)
        assert batches.get_state() == STEPS
        for i, leaf in enumerate(jax.tree.leaves((state["params"], state["ema"]))):
            assert leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == count
            results[f"{count}/{i}"] = np.asarray(leaf)
        results[f"{count}/loss"] = np.asarray(metrics["loss"])
    try:
        next(ShardedBatches(Batches(6), mesh))
    except ValueError as error:
        results["message"] = str(error)
    np.savez(sys.argv[1], start=jax.tree.leaves(tiny.params)[0], **results)


def test_two_and_four_devices_equal_one(tmp_path):
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    command = [sys.executable, __file__, str(tmp_path / "out.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    assert "batch_size is 6, which 4 devices cannot share evenly" in str(out["message"])
    names = [name.removeprefix("1/") for name in out.files if name.startswith("1/")]
    assert len(names) > 20
    for count in (2, 4):
        for name in names:
            np.testing.assert_allclose(out[f"{count}/{name}"], out[f"1/{name}"], atol=1e-5)


if __name__ == "__main__":
    script()
