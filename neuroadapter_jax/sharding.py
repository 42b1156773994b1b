"""Where arrays live: a mesh with axes data and fsdp, and rules by parameter path."""

import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, SettingError, check

DATA, FSDP = "data", "fsdp"
ROWS = PartitionSpec((DATA, FSDP))
WHOLE = PartitionSpec()
# Leaves below this many numbers are cheaper to keep than to gather.
SMALL = 2**16
# (pattern of the path, axis that is cut); the first match counts. Paths end in the parameter's
# name also inside an optimizer's state, so moments lie where their parameters lie.
RULES = (
    (r"region_projection/(weights|bias)$", 0),
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


def wait_for_all(name: str) -> None:
    """Returns once every process of the run is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


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


def start_processes(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes of one run; call it before JAX computes anything.

    With an address the three arguments say who is who. Without one, SLURM's variables do, when
    there is more than one task; else this is a run of one process and nothing happens. With
    num_processes = 1 alone SLURM's variables are not looked at.

    Args:
        coordinator: "host:port" of process 0.
        num_processes: of the whole run.
        process_id: 0 ... num_processes - 1.

    Raises:
        SettingError: an address without a port, or a number that is out of its range.
        InputError: an address without the two numbers, or the reverse; SLURM's variables in a
            process that srun did not start; or the processes do not find one another.
    """
    given = [coordinator, num_processes, process_id]
    if given == [None, 1, None]:
        return
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise InputError(
                f"coordinator, num_processes and process_id are {given}; give all three, or none "
                "under SLURM or with one process."
            )
        _check_processes(coordinator, num_processes, process_id)
        _initialize(coordinator, num_processes, process_id)
    elif (tasks := int(os.environ.get("SLURM_NTASKS") or 1)) > 1:
        # sbatch and salloc set the number too, but start one process only.
        if not {"SLURM_PROCID", "SLURM_STEP_NODELIST"} <= os.environ.keys():
            raise InputError(
                f"SLURM_NTASKS is {tasks}, but srun did not start this process, so the others are "
                "not there; put srun before the command, or give --num_processes=1 to run it alone."
            )
        _initialize()


def _check_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Refuse by name what JAX would wait for in vain."""
    if re.fullmatch(r".+:\d+", coordinator or "") is None:
        raise SettingError(
            "coordinator", coordinator, 'the host and port of process 0, as in "node1:1234"'
        )
    check("num_processes", num_processes, Count)
    if process_id not in range(num_processes or 0):
        last = (num_processes or 0) - 1
        raise SettingError("process_id", process_id, f"a number from 0 to {last}, one per process")


def _initialize(*arguments: Any) -> None:
    try:
        jax.distributed.initialize(*arguments)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"The processes of this run did not find one another ({said[:200]}); check "
            "--coordinator, --num_processes and --process_id, or give --num_processes=1 to run "
            "this one alone."
        ) from error
