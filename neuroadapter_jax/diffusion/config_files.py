"""Configurations of diffusers and transformers, read so that no key is passed over in silence.

Every key of a file is a field of the dataclass that is filled, or has a value under which this
package computes the same network, or changes nothing here; anything else is refused by its name.
Keys that a file lacks take the library's defaults.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig
from neuroadapter_jax.diffusion.unet import UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.readers import read_json

SCHEDULE_FILE = Path("scheduler", "scheduler_config.json")
_EXPECTED = "the settings of a network or scheduler"

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Rules:
    """How the keys of one kind of configuration are taken.

    Attributes:
        absent: what the library takes for a key that a file lacks, where our dataclass has another
            default.
        computed: of each key without a field, the values under which the same is computed here.
        uniform: keys that may be lists, one value per level, where all levels have to be alike.
        unread: keys that change nothing here; None for all that are not `computed`.
    """

    absent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    computed: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    uniform: tuple[str, ...] = ()
    unread: tuple[str, ...] | None = None


_OFF = (None, False)
UNET = Rules(
    absent={"cross_attention_dim": 1280},
    computed={
        "_class_name": ("UNet2DConditionModel",),
        "act_fn": ("silu", "swish"),
        "addition_embed_type": _OFF,
        "attention_type": ("default",),
        "center_input_sample": _OFF,
        "class_embed_type": _OFF,
        "class_embeddings_concat": _OFF,
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "cross_attention_norm": _OFF,
        "downsample_padding": (1,),
        "dropout": (0,),
        "dual_cross_attention": _OFF,
        "encoder_hid_dim": _OFF,
        "encoder_hid_dim_type": _OFF,
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "mid_block_only_cross_attention": _OFF,
        "mid_block_scale_factor": (1,),
        "mid_block_type": ("UNetMidBlock2DCrossAttn",),
        "num_attention_heads": _OFF,
        "num_class_embeds": _OFF,
        "only_cross_attention": _OFF,
        "resnet_out_scale_factor": (1,),
        "resnet_skip_time_act": _OFF,
        "resnet_time_scale_shift": ("default",),
        "reverse_transformer_layers_per_block": _OFF,
        "time_cond_proj_dim": _OFF,
        "time_embedding_act_fn": _OFF,
        "time_embedding_dim": _OFF,
        "time_embedding_type": ("positional",),
        "timestep_post_act": _OFF,
        "transformer_layers_per_block": (1,),
        "use_linear_projection": _OFF,
    },
    uniform=(
        "cross_attention_dim",
        "layers_per_block",
        "only_cross_attention",
        "sample_size",
        "transformer_layers_per_block",
    ),
    # Precision alone, and what acts only beside keys that are refused above.
    unread=(
        "addition_embed_type_num_heads",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
        "upcast_attention",
    ),
)
VAE = Rules(
    absent={"block_out_channels": (64,), "layers_per_block": 1, "sample_size": 32},
    computed={
        "_class_name": ("AutoencoderKL",),
        "act_fn": ("silu", "swish"),
        "down_block_types": ("DownEncoderBlock2D",),
        "latents_mean": _OFF,
        "latents_std": _OFF,
        "mid_block_add_attention": (True,),
        "shift_factor": (None, 0),
        "up_block_types": ("UpDecoderBlock2D",),
        "use_post_quant_conv": (True,),
        "use_quant_conv": (True,),
    },
    uniform=("down_block_types", "layers_per_block", "sample_size", "up_block_types"),
    unread=("force_upcast",),  # precision alone
)
TEXT_ENCODER = Rules(
    absent={"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    computed={"attention_dropout": (0,), "model_type": ("clip_text_model", "clip")},
)
VISION_ENCODER = Rules(
    computed={
        "attention_dropout": (0,),
        "model_type": ("clip_vision_model", "clip"),
        "num_channels": (3,),
    },
)
SCHEDULE = Rules(
    absent={
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "steps_offset": 0,
        "set_alpha_to_one": True,
        "clip_sample": True,
    },
    # Other schedulers, such as those of flow matching, mean something else by the same names.
    computed={
        "_class_name": tuple(
            f"{name}Scheduler"
            for name in (
                *("DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep"),
                *("DPMSolverMultistep", "DPMSolverSDE", "DPMSolverSinglestep", "EulerDiscrete"),
                *("EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete"),
                *("KDPM2AncestralDiscrete", "PNDM", "TCD", "UniPCMultistep"),
            )
        )
    },
)
# What a scheduler_config.json says for one sampler alone, and under which values its steps are
# those of `samplers.plan`. diffusers' other schedulers do not read these keys, nor do we for them.
_PER_SAMPLER: dict[str, dict[str, tuple[Any, ...]]] = {
    "ddpm": {"thresholding": _OFF, "variance_type": ("fixed_small", "fixed_small_log")},
    "ddim": {"thresholding": _OFF},
    "lcm": {
        "thresholding": _OFF,
        "original_inference_steps": (50,),
        "timestep_scaling": (10,),
    },
    "dpmsolver++": {
        "algorithm_type": ("dpmsolver++",),
        "solver_type": ("midpoint", "logrho", "bh1", "bh2"),  # which diffusers takes for midpoint
        "solver_order": (2,),
        "lambda_min_clipped": (-math.inf,),
        "thresholding": _OFF,
        "use_beta_sigmas": _OFF,
        "use_exponential_sigmas": _OFF,
        "use_flow_sigmas": _OFF,
        "use_karras_sigmas": _OFF,
        "use_lu_lambdas": _OFF,
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
}


def read_config(
    path: Path, cls: type[_T], rules: Rules = Rules(), section: str | None = None
) -> _T:
    """A dataclass from a configuration by diffusers or transformers.

    Args:
        path: config.json or scheduler_config.json.
        cls: the dataclass; its fields have the keys' names.
        rules: how the other keys are taken; they are passed over when left out.
        section: of the file, such as "vision_config"; the file itself where it has none.

    Raises:
        MissingFileError: there is no such file.
        InputError: a key has a value that is not computed here, or of another kind than its field.
    """
    raw = read_json(path, _EXPECTED)
    if section is not None and isinstance(part := raw.get(section), dict):
        raw = part
    for key in rules.uniform:
        if (
            isinstance(found := raw.get(key), list)
            and found
            and found.count(found[0]) == len(found)
        ):
            raw[key] = found[0]
    hints = typing.get_type_hints(cls)
    for key, value in raw.items():
        if key in rules.computed or not (
            key in hints or rules.unread is None or key in rules.unread or key.startswith("_")
        ):
            _require(path, key, value, rules.computed.get(key, _OFF))
    values = {**rules.absent, **{key: raw[key] for key in raw if key in hints}}
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    for key, value in values.items():
        if not _is(value, hints[key]):
            expected = getattr(hints[key], "__name__", str(hints[key]))
            raise InputError(
                f"{path}: {key} is {value!r}; expected {expected}; copy the file again."
            )
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except TypeError as error:
        raise InputError(f"{path}: keys are missing ({error}); copy the file again.") from None


_COMPONENTS: dict[str, tuple[type, Rules]] = {
    "unet": (UNetConfig, UNET),
    "vae": (AutoencoderConfig, VAE),
    "text_encoder": (CLIPTextConfig, TEXT_ENCODER),
}


def component_config(folder: str | Path, name: str) -> Any:
    """The configuration of "unet", "vae" or "text_encoder" of a folder in the diffusers layout.

    Raises:
        MissingFileError: there is none. InputError: of another network than is computed here.
    """
    path = Path(folder) / name / "config.json"
    if not path.is_file():
        raise MissingFileError(f"{path}: not found; expected a folder in the diffusers layout.")
    return read_config(path, *_COMPONENTS[name])


def check_backbone(folder: Path) -> None:
    """Refuses networks that do not belong together, before any weights are read.

    Raises:
        InputError: so they don't. MissingFileError: a configuration is not there.
    """
    unet, vae, text = (component_config(folder, name) for name in _COMPONENTS)
    path = folder / "unet" / "config.json"
    if unet.in_channels != unet.out_channels:
        raise InputError(
            f"{path}: in_channels is {unet.in_channels}, out_channels {unet.out_channels}; "
            "expected as many, since a U-Net of inpainting, for one, is given more than the noisy "
            "latents, so take a text-to-image model."
        )
    for key, found, other, expected in (
        ("in_channels", unet.in_channels, "vae's latent_channels", vae.latent_channels),
        (
            "cross_attention_dim",
            unet.cross_attention_dim,
            "text_encoder's hidden_size",
            text.hidden_size,
        ),
    ):
        if found != expected:
            raise InputError(
                f"{path}: {key} is {found}, but the {other} beside it is {expected}; expected the "
                "same number, so take all parts of one model."
            )


def read_schedule(path: Path) -> NoiseSchedule:
    """The noise schedule of a scheduler_config.json.

    Where diffusers' schedulers read a key that only some of them know, the schedule keeps for which
    samplers it says what is not computed here; `samplers.plan` refuses those.

    Args:
        path: a scheduler_config.json.

    Raises:
        MissingFileError: there is no such file. InputError: see `read_config`.
    """
    raw, refused = read_json(path, _EXPECTED), []
    for sampler, computed in _PER_SAMPLER.items():
        for key in computed.keys() & raw.keys():
            try:
                _require(path, key, raw[key], computed[key], f" with the sampler {sampler}")
            except InputError as error:
                refused.append((sampler, str(error)))
    return dataclasses.replace(
        read_config(path, NoiseSchedule, SCHEDULE), refused=tuple(sorted(refused))
    )


def _require(path: Path, key: str, value: Any, allowed: tuple[Any, ...], where: str = "") -> None:
    """Refuses a value under which something else than here is computed."""
    if not any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed
    ):
        names = " or ".join(repr(each) for each in allowed)
        remedy = "another sampler" if where else "another model"
        raise InputError(
            f"{path}: {key} is {value!r}, which is not computed here{where}; expected {names}, so "
            f"take {remedy}."
        )


def _is(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of the kind of an annotation; lists have become tuples."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_is(value, each) for each in arguments)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is(each, arguments[0]) for each in value)
    if typing.get_origin(hint) is typing.Literal:
        return value in arguments
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)
