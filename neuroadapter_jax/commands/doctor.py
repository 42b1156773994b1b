"""Say what is installed, and what is missing for what.

    neuroadapter doctor

Ends with 0 where the core works (JAX computes, and the shipped weights are whole), else with 1.
Nothing is fetched and nothing is written.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import neuroadapter_jax
from neuroadapter_jax.commands.configs import config_names, configs_folder
from neuroadapter_jax.commands.extras import EXTRAS
from neuroadapter_jax.commands.machine import CACHE
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.cores import available_cores

CORE = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "nilearn", "numpy")
OPTIONAL = (
    *("torch", "torchvision", "diffusers", "transformers", "tensorflow", "tensorboardX", "wandb"),
)
# What `assets` has to hold -> a file of each without which it is not whole.
SHIPPED = {
    "tiny-sd": "unet/diffusion_pytorch_model.safetensors",
    "tiny-vit": "model.safetensors",
    "neuroadapter-simulated": "adapter.safetensors",
    "brain-encoder-simulated": "config.json",
    "scene_reader": "model.safetensors",
}
# Repository of the Hub -> what it is for.
HUB = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "the paper's model (--config nsd)",
    "facebook/dinov2-base": "the brain encoder of NSD (--config encoder_nsd)",
    "openai/clip-vit-large-patch14": "the metric CLIP",
}
# File name of PyTorch's cache, or how it begins -> what it is for.
TORCH_FILES = {
    "alexnet-": "the metrics AlexNet(2) and AlexNet(5)",
    "inception_v3_": "the metric Inception",
    "efficientnet_b1_": "the metric EffNet-B",
    "swav_800ep_pretrain": "the metric SwAV",
}


def define(values: CommandFlags) -> None:
    """Define nothing: the command has no flags."""


def main(values: CommandFlags, arguments: list[str]) -> None:
    problems: list[str] = []
    sections = {
        "Versions": versions(problems),
        "Devices": devices(problems),
        "Machine": machine(),
        "Extras": extras(),
        "Configs": configs(problems),
        "Weights that ship with the package": shipped_weights(problems),
        "Weights in the caches": cached_weights(),
    }
    for heading, lines in sections.items():
        print(f"{heading}:")
        for line in lines:
            print(f"  {line}")
        print()
    if problems:
        for problem in problems:
            print(f"doctor: {problem}", file=sys.stderr)
        sys.exit(1)
    print("The core works. Next: neuroadapter demo --quick")


def version_of(distribution: str) -> str | None:
    """The installed version; None where it is not installed."""
    for name in (distribution, f"{distribution}-cpu"):  # tensorflow-cpu is TensorFlow
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def versions(problems: list[str]) -> Iterator[str]:
    """Python, this package, and what it stands on."""
    yield f"{'python':<18} {platform.python_version()} ({sys.executable})"
    folder = Path(neuroadapter_jax.__file__).parent
    yield f"{'neuroadapter-jax':<18} {neuroadapter_jax.__version__} ({folder})"
    for name in CORE:
        version = version_of(name)
        if version is None:
            problems.append(f"{name} is not installed; install neuroadapter-jax again with pip.")
        yield f"{name:<18} {version or 'not installed'}"
    for name in OPTIONAL:
        yield f"{name:<18} {version_of(name) or 'not installed (optional)'}"


def devices(problems: list[str]) -> Iterator[str]:
    """What JAX computes on, and that it does."""
    try:
        import jax
        import jax.numpy as jnp

        found = jax.devices()
        total = float(jnp.arange(5.0).sum())
    except Exception as error:  # whatever a driver or a plugin answers with
        problems.append(
            f"JAX does not compute ({type(error).__name__}: {error}); install jax again, or set "
            "JAX_PLATFORMS=cpu to go on without the accelerator."
        )
        return
    if total != 10.0:
        problems.append(f"JAX sums 0 to 4 to {total}; expected 10. Install jax again.")
    for device in found:
        yield f"{device.device_kind} ({device.platform}){_memory(device)}"
    if all(device.platform == "cpu" for device in found):
        yield "no accelerator: the demo runs in minutes, the paper's model needs a GPU or TPU"


def _memory(device) -> str:
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return ""
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return f", {stats['bytes_limit'] / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB free"


def machine() -> Iterator[str]:
    """Cores, memory and disk."""
    yield f"{platform.system()} {platform.machine()}, {available_cores()} CPU cores"
    memory = _available_memory()
    if memory is not None:
        total, free = memory
        yield f"memory {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB available"
    programs = Path(os.environ.get(CACHE, ""))
    if CACHE in os.environ:
        size = sum(file.stat().st_size for file in programs.glob("*") if file.is_file())
        yield f"compiled programs are kept in {programs}, {size / 1e6:.0f} MB ({CACHE})"
    disk = shutil.disk_usage(Path.cwd())
    yield f"disk at {Path.cwd()}: {disk.free / 1e9:.0f} of {disk.total / 1e9:.0f} GB free"


def _available_memory() -> tuple[int, int] | None:
    """Bytes of memory in all and available; None where the system does not say as Linux does."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = {name: int(rest.split()[0]) * 1024 for name, rest in (x.split(":") for x in lines)}
    return found["MemTotal"], found["MemAvailable"]


def extras() -> Iterator[str]:
    """Which extras are installed, what each is for, and how to get it."""
    for name, extra in EXTRAS.items():
        missing = [m for m in extra.modules if importlib.util.find_spec(m) is None]
        if not missing:
            yield f"{name:<12} installed ({extra.purpose})"
        else:
            yield (
                f"{name:<12} without {', '.join(missing)}; {extra.purpose}: "
                f"pip install 'neuroadapter-jax[{name}]'"
            )


def configs(problems: list[str]) -> Iterator[str]:
    """The configs that --config finds by name."""
    names = config_names()
    if not names:
        problems.append(f"no configs in {configs_folder()}; install neuroadapter-jax again.")
    yield f"{', '.join(names)} ({configs_folder()})"


def shipped_weights(problems: list[str]) -> Iterator[str]:
    """The small models of the simulated subject, without which neither demo nor tests run."""
    assets = Path(neuroadapter_jax.__file__).parent / "assets"
    for name, file in SHIPPED.items():
        path = assets / name / file
        if path.is_file():
            yield f"{name:<24} {path.stat().st_size / 1e6:.1f} MB"
        else:
            yield f"{name:<24} missing"
            problems.append(f"{path} is missing; install neuroadapter-jax again with pip.")


def cached_weights() -> Iterator[str]:
    """Published weights that earlier calls fetched, and what the missing ones would be for."""
    for name, purpose in HUB.items():
        folder = _hub_cache() / f"models--{name.replace('/', '--')}"
        here = any((folder / "snapshots").glob("*/*"))
        state = "here" if here else "not here; fetched from the Hub when first needed"
        yield f"{name:<44} {state} - {purpose}"
    files = [path.name for path in _torch_cache().glob("*")]
    for prefix, purpose in TORCH_FILES.items():
        here = any(file.startswith(prefix) for file in files)
        state = "here" if here else "not here; `neuroadapter evaluate --download` fetches it"
        yield f"{prefix.rstrip('-_'):<44} {state} - {purpose}"


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache}/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()


def _torch_cache() -> Path:
    """Where torch.hub keeps what it fetched."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{cache}/torch")
    return Path(home).expanduser() / "hub" / "checkpoints"
