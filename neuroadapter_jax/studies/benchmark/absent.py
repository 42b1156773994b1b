"""Accelerators that are not here: what JAX is told in the place of a device, all of it.

XLA compiles for a GPU or TPU from a description of it. The result is the schedule that the device
would run; nothing is run.
"""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jax
from jax.experimental import topologies

from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.errors import InputError

_SPECS = Path(__file__).resolve().parents[2] / "assets" / "devices"
_PLUGINS = ("xla_cuda13", "xla_cuda12")


@dataclass(frozen=True)
class Accelerator:
    """What is known of an accelerator beside its description for XLA.

    Attributes:
        label: as its vendor calls it.
        platform: "cuda" or "tpu".
        peak: dense FLOP/s of products of two operands of a type, from the vendor's data sheet;
            float32 as JAX computes it by default: TF32 on NVIDIA, bfloat16 passes on TPUs.
        bandwidth: of its memory, in bytes per second, from the data sheet.
        kind: as JAX calls the device.
        topologies: for TPUs, the name of a slice of so many devices.
    """

    label: str
    platform: str
    peak: Mapping[str, float]
    bandwidth: float
    kind: str
    topologies: Mapping[int, str] | None = None

    def compute_seconds(self, flops: Mapping[str, float]) -> float:
        """FLOPs over the peaks of their types.

        Args:
            flops: type of the operands -> floating-point operations.
        """
        return sum((n / self.peak.get(kind, self.peak["f32"]) for kind, n in flops.items()), 0.0)

    def memory_seconds(self, bytes_moved: float) -> float:
        """Bytes moved over the memory's bandwidth."""
        return bytes_moved / self.bandwidth

    def bound(self, flops: Mapping[str, float], bytes_moved: float) -> float:
        """The roofline's time, the greater of the two: no run can be faster."""
        return max(self.compute_seconds(flops), self.memory_seconds(bytes_moved))


def _nvidia(label: str, kind: str, bfloat16: float, tf32: float, bandwidth: float) -> Accelerator:
    peak = {"bf16": bfloat16, "f16": bfloat16, "f32": tf32}
    return Accelerator(label, "cuda", peak, bandwidth, kind)


ACCELERATORS = {
    "h100": _nvidia("H100 SXM 80 GB", "NVIDIA H100 80GB HBM3", 989.4e12, 494.7e12, 3.35e12),
    "l40": _nvidia("L40 48 GB", "NVIDIA L40", 181.05e12, 90.5e12, 0.864e12),
    "a100": _nvidia("A100 SXM 80 GB", "NVIDIA A100-SXM4-80GB", 312e12, 156e12, 2.039e12),
    "v5p": Accelerator(
        "TPU v5p 95 GB",
        "tpu",
        {"bf16": 459e12, "f16": 459e12, "f32": 459e12},
        2.765e12,
        "TPU v5",
        {1: "v5p:1x1x1", 8: "v5p:2x2x2"},
    ),
}


def accelerator_of(kind: str) -> Accelerator | None:
    """What is known of a device by JAX's name of it; None where nothing is.

    Args:
        kind: a device's `device_kind`.
    """
    return next((one for one in ACCELERATORS.values() if one.kind == kind), None)


def installed_plugin(platform: str) -> str:
    """What compiles for the platform: a JAX plugin for CUDA 13 or 12, or libtpu.

    Raises:
        InputError: none is installed.
    """
    if platform == "tpu":
        if importlib.util.find_spec("libtpu"):
            return "libtpu"
        raise InputError(
            "libtpu, which compiles for TPUs, is not installed; "
            f'`pip install "jax[tpu]=={jax.__version__}"` in an environment of its own, beside '
            "this package."
        )
    for name in _PLUGINS:
        if importlib.util.find_spec("jax_plugins") and importlib.util.find_spec(
            f"jax_plugins.{name}"
        ):
            return name
    raise InputError(
        "No CUDA plugin of JAX, which compiles for NVIDIA GPUs, is installed; "
        f'`pip install "jax[cuda13]=={jax.__version__}"` (or cuda12) in an environment of its own, '
        "beside this package."
    )


def environment(platform: str, found: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process that compiles for an absent device; they act before JAX starts.

    Args:
        platform: "cuda" or "tpu".
        found: the variables of this process.
    """
    flags = found.get("XLA_FLAGS", "")
    if platform == "cuda":
        # Without a device nothing can be tried out: neither tilings of Triton nor algorithms.
        flags += " --xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"
    new = {
        "JAX_PLATFORMS": "" if platform == "cuda" else "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "XLA_FLAGS": flags.strip(),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    # What is compiled for a device that is not here cannot be read back from a cache.
    kept = {name: value for name, value in found.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | new


def _version(text: str, name: str) -> tuple[int, ...]:
    """The numbers of a message of a description, such as major and minor."""
    found = re.search(name + r" \{([^}]*)\}", text)
    return tuple(int(x) for x in re.findall(r": (\d+)", found.group(1))) if found else ()


@contextmanager
def absent_devices(name: str, count: int) -> Iterator[list[jax.Device]]:
    """Devices to lower and compile for; attention is traced as for them in the meantime.

    Args:
        name: of `ACCELERATORS`.
        count: how many devices, of one host.
    """
    accelerator = ACCELERATORS[name]
    with ExitStack() as told:
        if accelerator.platform == "tpu":
            topology = (accelerator.topologies or {})[count]
            options = {"chips_per_host_bounds": [1, 1, 1]} if count == 1 else {}
            devices = topologies.get_topology_desc(topology, platform="tpu", **options).devices
            hardware = attention_fused.Hardware(num_tpus=count)
        else:
            text = (_SPECS / f"{name}.txtpb").read_text()
            shape = f"1x1x{count}"
            devices = topologies.get_topology_desc(
                shape, platform="cuda", topology=shape, target_config=text
            ).devices
            major, minor = _version(text, "cuda_compute_capability")
            told.enter_context(_cudnn((major, minor), _version(text, "dnn_version_info")))
            hardware = attention_fused.Hardware(nvidia=(major, minor), cudnn=True)
        told.enter_context(mock.patch.object(attention_fused, "hardware", lambda: hardware))
        yield list(devices)[:count]


@contextmanager
def _cudnn(capability: tuple[int, int], version: tuple[int, ...]) -> Iterator[None]:
    """JAX's questions to the GPU and its cuDNN, answered from the description.

    JAX asks them while it traces attention, of the first device of the process; there is none.
    """
    from jax._src.cudnn import fused_attention_stablehlo as asking

    def at_least(asked: str) -> bool:
        return capability >= tuple(map(int, asked.split(".")))

    def equals(asked: str) -> bool:
        return capability == tuple(map(int, asked.split(".")))

    major, minor, patch = (*version, 0, 0, 0)[:3]
    answers = {
        "check_cudnn_version": lambda: 10_000 * major + 100 * minor + patch,
        "check_compute_capability": at_least,
        "is_cuda_compute_capability_equal": equals,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(asking, name, answer))
        yield
