"""Where arrays live: a mesh over all devices, batches cut along it, the rest replicated."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: list | None = None) -> Mesh:
    """A mesh with the one axis "data" over the given devices (default: all)."""
    return Mesh(np.array(devices or jax.devices()), ("data",))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array whole on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


class ShardedBatches:
    """An iterator whose batches are cut over the mesh's data axis; keeps the data position.

    Args:
        batches: iterator of dicts of arrays [b, ...] with get_state and set_state.
        mesh: from `make_mesh`.

    Raises:
        ValueError: when a batch does not divide by the number of devices.
    """

    def __init__(self, batches: Any, mesh: Mesh):
        self.batches, self.mesh = batches, mesh
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __next__(self) -> dict[str, jax.Array]:
        batch = next(self.batches)
        size = len(next(iter(batch.values())))
        if size % self.mesh.size:
            raise ValueError(
                f"batch_size is {size}, which {self.mesh.size} devices cannot share evenly; "
                "choose a multiple."
            )
        return jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec("data")))
