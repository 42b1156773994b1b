"""Where arrays live: a mesh with axes data and fsdp, and rules by parameter path."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import SettingError

DATA, FSDP = "data", "fsdp"
ROWS = PartitionSpec((DATA, FSDP))
WHOLE = PartitionSpec()
# Leaves below this many numbers are cheaper to keep than to gather.
SMALL = 2**16
# (pattern of the path, axis that is cut); the first match counts. Paths end in the parameter's
# name also inside an optimizer's state, so moments lie where their parameters lie.
RULES = (
    (r"region_projection/((first|second)/)?(weights|bias)$", 0),
    (r"(kernel|embedding)$", -1),
)


def make_mesh(fsdp: int = 1, devices: Sequence | None = None) -> Mesh:
    """A mesh [devices / fsdp, fsdp] with the axes "data" and "fsdp".

    A batch is cut over both axes; parameters are cut over "fsdp" and repeated over "data". With
    fsdp = 1 every device holds all parameters (data parallelism).

    Args:
        fsdp: devices that share one copy of the parameters; divides the number of devices.
        devices: those of the mesh; None takes all of every process.

    Raises:
        SettingError: fsdp does not divide the number of devices.

    Examples:
        >>> import jax
        >>> from neuroadapter_jax.sharding import make_mesh
        >>> mesh = make_mesh(devices=jax.devices()[:1])
        >>> dict(mesh.shape)
        {'data': 1, 'fsdp': 1}
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise SettingError("fsdp", fsdp, f"a divisor of the number of devices, {len(devices)}")
    return Mesh(np.array(devices).reshape(-1, fsdp), (DATA, FSDP))


def partition(path: str, shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """How one leaf is cut: by the first of `RULES` whose axis divides; small leaves stay whole.

    Args:
        path: the leaf's path, parts joined by "/".
        shape: of the leaf.
        fsdp: size of that axis of the mesh.

    Examples:
        >>> from neuroadapter_jax.sharding import partition
        >>> tuple(partition("region_projection/bias", (5, 16), fsdp=2))  # too small to be cut
        ()
    """
    if fsdp == 1 or int(np.prod(shape)) < SMALL:
        return WHOLE
    for pattern, axis in RULES:
        if re.search(pattern, path) and shape[axis] % fsdp == 0:
            # No None at the end: XLA returns none, and another spelling would compile again.
            return PartitionSpec(*[None] * (axis % len(shape)), FSDP)
    return WHOLE


def shardings(tree: Any, mesh: Mesh) -> Any:
    """A tree of `NamedSharding` by `partition`, for arrays or their shapes."""

    def one(path, leaf):
        spec = partition(path_name(path), np.shape(leaf), mesh.shape[FSDP])
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, tree)


def path_name(path: tuple) -> str:
    """The parts of a tree path joined by "/", without NNX's inner "value"."""
    parts = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
    return "/".join(part for part in parts if part != "value")


def shard(tree: Any, mesh: Mesh) -> Any:
    """Every array where `shardings` puts it; each process gives the same whole arrays.

    Args:
        tree: of whole arrays.
        mesh: from `make_mesh`.
    """
    return _put(tree, shardings(tree, mesh))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array whole on every device of the mesh.

    Args:
        tree: of whole arrays.
        mesh: from `make_mesh`.
    """
    return _put(tree, jax.tree.map(lambda _: NamedSharding(mesh, WHOLE), tree))


def _put(tree: Any, places: Any) -> Any:
    def one(leaf, place):
        if place.is_fully_addressable:
            return jax.device_put(leaf, place)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, place, lambda index: whole[index])

    return jax.tree.map(one, tree, places)


def gathered(tree: Any, mesh: Mesh) -> Any:
    """Inside jit: every array whole on every device, so that each is gathered once."""
    place = NamedSharding(mesh, WHOLE)
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, place), tree)


def constrained(tree: Any, mesh: Mesh) -> Any:
    """Inside jit: every array where `shardings` puts it, such as gradients beside parameters."""
    return jax.lax.with_sharding_constraint(tree, shardings(tree, mesh))


def map_in_turn(
    function: Callable[[Array], Array], array: Array, mesh: Mesh | None = None
) -> Array:
    """Inside jit: a function of samples [b, ...] taken one after the other, on each device its own.

    out[i] = function(array[i : i + 1])[0], with the memory of one sample per device.

    Args:
        function: of samples [d, ...], each alone.
        array: the samples; b divides by the number of devices.
        mesh: whose devices share the samples; one device when None.
    """
    count = 1 if mesh is None else mesh.size
    rows = array.reshape(count, -1, *array.shape[1:])
    if mesh is not None:
        rows = jax.lax.with_sharding_constraint(rows, NamedSharding(mesh, ROWS))
    out = jax.lax.map(function, rows.swapaxes(0, 1)).swapaxes(0, 1)
    return out.reshape(-1, *out.shape[2:])


def gather_to_host(tree: Any) -> Any:
    """Every array whole on this process's first device, gathered from the others where cut."""

    def one(leaf):
        if not isinstance(leaf, jax.Array):
            return leaf
        if not leaf.is_fully_addressable and not leaf.is_fully_replicated:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
            return jax.device_put(leaf, jax.local_devices()[0])
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        return jax.device_put(leaf, jax.local_devices()[0])

    return jax.tree.map(one, tree)


class ShardedBatches:
    """An iterator whose batches are cut over all devices of a mesh; keeps the data position.

    Args:
        batches: iterator of dicts of arrays with get_state and set_state: this process's rows of
            each batch, [b / processes, ...].
        mesh: from `make_mesh`.

    Raises:
        InputError: when a batch does not divide by the number of devices.
    """

    def __init__(self, batches: Any, mesh: Mesh):
        self.batches, self.mesh = batches, mesh
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __next__(self) -> dict[str, jax.Array]:
        batch = next(self.batches)
        size = len(next(iter(batch.values()))) * jax.process_count()
        if size % self.mesh.size:
            raise InputError(
                f"batch_size is {size}, which {self.mesh.size} devices cannot share evenly; "
                "choose a multiple."
            )
        place = NamedSharding(self.mesh, ROWS)
        if place.is_fully_addressable:
            return jax.device_put(batch, place)
        return {
            name: jax.make_array_from_process_local_data(place, np.asarray(array))
            for name, array in batch.items()
        }
