"""Checkpoints of the released PyTorch code: the folder that its `accelerate` run saves."""

import pickle
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes, processor_indices
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.weights import from_tensors, load_pretrained, to_tensors
from neuroadapter_jax.errors import (
    ExistingFileError,
    InputError,
    MissingFileError,
    reading,
    stand_in,
)
from neuroadapter_jax.files import whole_folder
from neuroadapter_jax.interop.ip_adapter import refuse_queries
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

# The U-Net with its processors and the token norm; the projection bank.
_MODEL, _BANK = "pytorch_model.bin", "pytorch_model_1.bin"

# This package's names of what the released classes call otherwise.
_BANK_NAMES = {
    "region_projection.weights": "parcel_mapper.linear_weights",
    "region_projection.bias": "parcel_mapper.linear_bias",
}
_NORM_NAMES = {
    f"token_norm.{name}": f"image_proj_model.{name}"
    for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
}


def _processor_names(unet: UNet2DConditionModel) -> dict[str, tuple[str, str]]:
    """{our name: both released names} of every key and value matrix.

    The released model holds each processor twice, in the U-Net and in a list, as IP-Adapter does.
    """
    return {
        f"attention.{bank}.{layer}.weight": (
            f"adapter_modules.{place}.{bank}.weight",
            f"unet.{name}.processor.{bank}.weight",
        )
        for layer, (name, place) in enumerate(processor_indices(unet).items())
        for bank in ("to_k_ip", "to_v_ip")
    }


def slot_regions(num_regions: int, max_vertices: int) -> Parcellation:
    """Stand-ins for unknown regions: region i is the vertices i v ... (i + 1) v - 1.

    With them a pipeline takes packed responses [b, p, v], flattened to [b, p v], for a cortex. The
    first half of the regions counts as the left hemisphere, as in the released code's order.

    Args:
        num_regions: the number p of regions.
        max_vertices: slots v per region.

    Examples:
        >>> from neuroadapter_jax.interop import slot_regions
        >>> regions = slot_regions(num_regions=4, max_vertices=3)
        >>> regions.hemispheres, regions.num_vertices
        (('lh', 'lh', 'rh', 'rh'), (6, 6))
    """
    p, v = num_regions, max_vertices
    left = p // 2
    return Parcellation(
        tuple(f"region {i}" for i in range(p)),
        ("lh",) * left + ("rh",) * (p - left),
        tuple(
            np.arange(i * v, (i + 1) * v, dtype=np.int32) for i in [*range(left), *range(p - left)]
        ),
        (left * v, (p - left) * v),
    )


def load_released(
    checkpoint_dir: str | Path,
    backbone_dir: str | Path,
    regions: Parcellation | None = None,
    *,
    sampling: Sampling = Sampling(guidance_scale=4.0),
) -> NeuroAdapterPipeline:
    """The pipeline of a checkpoint of the released code, linear token mapper.

    Every tensor of the two files has a place, or stands for one of the frozen backbone and must
    equal it bit for bit. Nothing is unpickled but tensors.

    Args:
        checkpoint_dir: with pytorch_model.bin and pytorch_model_1.bin.
        backbone_dir: the Stable Diffusion it was trained on, in the diffusers layout, in the
            precision it was trained in; or a shipped name.
        regions: the p regions in the checkpoint's order: the left hemisphere's by descending SNR,
            then the right's (`select_regions` orders so). The checkpoint does not hold them. None
            takes `slot_regions`, so that `fmri` means packed responses, [b, p, v] or [b, p v].
        sampling: used unless a call gives another; the paper's guidance scale is 4.

    Raises:
        MissingFileError: a file of either folder is not there.
        ImportError: PyTorch is not installed.
        InputError: not the released layout, another U-Net, or another number of regions.
    """
    folder = Path(checkpoint_dir)
    for name in (_MODEL, _BANK):
        if not (folder / name).is_file():
            raise MissingFileError(
                f"{folder / name}: not found; expected a checkpoint folder of the released code "
                f"with {_MODEL} and {_BANK}."
            )
    bank = _read_bank(folder / _BANK)
    p, v, c = bank["region_projection.weights"].shape
    if regions is not None and len(regions) != p:
        raise InputError(
            f"{folder / _BANK}: holds {p} regions but {len(regions)} were given; give the regions "
            "it was trained with, in its order."
        )
    backbone = load_pretrained(backbone_dir)
    unet = backbone.unet
    tensors = bank | _read_model(folder / _MODEL, unet, str(backbone_dir))
    widths, heads = map(tuple, cross_attention_shapes(unet))
    f = unet.config.cross_attention_dim
    config = NeuroAdapterConfig(
        p, v, f, widths, heads, "released", condition_width=None if c == f else c
    )
    abstract = abstract_network(lambda rngs: NeuroAdapter(config, rngs=rngs))
    return NeuroAdapterPipeline(
        from_tensors(abstract, tensors, str(folder), jnp.float32),
        backbone,
        slot_regions(p, v) if regions is None else regions,
        backbone_name=str(backbone_dir),
        sampling=sampling,
        provenance={"released_checkpoint": str(checkpoint_dir)},
    )


def save_released(pipeline: NeuroAdapterPipeline, folder: str | Path) -> None:
    """Write the two files that the released classes load with strict=True.

    The regions are not part of them. The folder appears at once, when both files are whole.

    Args:
        pipeline: of any source.
        folder: to write; new, or empty.

    Raises:
        ExistingFileError: the folder holds something already.
        ImportError: PyTorch is not installed.
        InputError: the adapter's tokens are learned queries.
    """
    torch = _torch()
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExistingFileError(f"{folder}: is there already; name a new folder.")
    refuse_queries(pipeline)
    unet = pipeline.backbone.unet
    ours = {name: torch.from_numpy(x) for name, x in to_tensors(pipeline.adapter).items()}
    model = {f"unet.{name}": torch.from_numpy(x) for name, x in to_tensors(unet).items()}
    model |= {theirs: ours[name] for name, theirs in _NORM_NAMES.items()}
    # Both names get one tensor, which the file then holds once.
    model |= {name: ours[own] for own, both in _processor_names(unet).items() for name in both}
    with whole_folder(folder) as place:
        torch.save(model, place / _MODEL)
        torch.save({theirs: ours[name] for name, theirs in _BANK_NAMES.items()}, place / _BANK)


def _torch():
    try:
        import torch
    except ImportError:
        raise ImportError(
            "PyTorch is not installed, and checkpoints of the released code are its files; "
            "install it with: pip install 'neuroadapter-jax[pytorch]'."
        ) from None
    return torch


def _read(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a torch file as float32, without the "module." that parallel training adds."""
    torch = _torch()
    expected = "a file of PyTorch tensors by name"
    with reading(path, expected):
        try:
            # A file of torch < 1.6 is no zip archive and cannot be mapped into memory.
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
        except pickle.UnpicklingError as error:
            if stand_in(path) is not None:
                raise
            raise InputError(
                f"{path}: refused, because it holds other objects than tensors, which could run "
                f"code when read ({str(error).splitlines()[0]})."
            ) from None
        if not isinstance(content, dict) or not all(
            isinstance(name, str) and isinstance(x, torch.Tensor) for name, x in content.items()
        ):
            raise InputError(f"{path}: not {expected}; copy it again.")
        prefix = "module." if all(name.startswith("module.") for name in content) else ""
        arrays = {name: x.detach().float().numpy() for name, x in content.items()}
    return {name.removeprefix(prefix): x for name, x in arrays.items()}


def _check_names(path: Path, found: dict[str, np.ndarray], wanted: set[str], expected: str) -> None:
    problems = [f"missing {name}" for name in sorted(wanted - found.keys())]
    problems += [f"unknown {name}" for name in sorted(found.keys() - wanted)]
    if problems:
        raise InputError(
            f"{path}: {len(problems)} tensor(s) are not as expected of {expected}: "
            f"{_first(problems)}."
        )


def _first(names: list[str], count: int = 5) -> str:
    return "; ".join(names[:count]) + ("; ..." if len(names) > count else "")


def _read_bank(path: Path) -> dict[str, np.ndarray]:
    found = _read(path)
    if any(name.startswith("token_mapper.") for name in found):
        raise InputError(
            f"{path}: a checkpoint of the transformer token mapper (token_mapper.*), which this "
            "does not read; give one of the linear mapper (sub_approach linear_projection)."
        )
    _check_names(path, found, set(_BANK_NAMES.values()), "the released parcel mapper")
    if found["parcel_mapper.linear_weights"].ndim != 3:
        raise InputError(
            f"{path}: parcel_mapper.linear_weights has shape "
            f"{found['parcel_mapper.linear_weights'].shape}; expected [regions, slots, width]."
        )
    return {ours: found[theirs] for ours, theirs in _BANK_NAMES.items()}


def _read_model(path: Path, unet: UNet2DConditionModel, backbone: str) -> dict[str, np.ndarray]:
    """Token norm, keys and values; what is frozen must be the backbone's."""
    found = _read(path)
    frozen = {f"unet.{name}": x for name, x in to_tensors(unet).items()}
    processors = _processor_names(unet)
    copies = {name for both in processors.values() for name in both}
    wanted = frozen.keys() | copies | set(_NORM_NAMES.values())
    _check_names(path, found, wanted, f"the released model over the U-Net of {backbone}")
    apart = [
        f"{first} and {second}"
        for first, second in processors.values()
        if not np.array_equal(found[first], found[second])
    ]
    if apart:
        raise InputError(
            f"{path}: {len(apart)} matrices that the released code stores twice differ: "
            f"{_first(apart)}; the file is damaged or was edited, so take another checkpoint."
        )
    changed = [name for name, x in frozen.items() if not np.array_equal(found[name], x)]
    if changed:
        raise InputError(
            f"{path}: {len(changed)} of the {len(frozen)} frozen U-Net tensors are not those of "
            f"{backbone}: {_first(changed)}; give the backbone it was trained on, in the same "
            "precision."
        )
    return {name: found[both[0]] for name, both in processors.items()} | {
        ours: found[theirs] for ours, theirs in _NORM_NAMES.items()
    }
