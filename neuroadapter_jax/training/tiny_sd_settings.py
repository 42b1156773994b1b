"""Settings of tiny-sd's training, and their ranges."""

from typing import Annotated, Any, NotRequired, TypedDict

from annotated_types import Gt, MinLen

from neuroadapter_jax.ranges import (
    Count,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    Share,
    ShareBelowOne,
    check,
    check_values,
    named,
)

WARMUP = 100
_Widths = Annotated[tuple[Count, ...], MinLen(1)]
_Steps = Annotated[int, Gt(WARMUP)]


class VAESettings(TypedDict):
    """Widths and training settings of the autoencoder."""

    block_out_channels: _Widths
    layers_per_block: Count
    norm_num_groups: Count
    learning_rate: Positive
    num_steps: _Steps
    batch_size: Count
    kl_weight: NonNegative
    absolute_weight: NonNegative


class TextSettings(TypedDict):
    """Widths of the text encoder, and the length of a caption in tokens."""

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    length: Count


class UNetSettings(TypedDict):
    """Widths and training settings of the U-Net."""

    block_out_channels: _Widths
    layers_per_block: Count
    num_heads: Count
    norm_num_groups: Count
    learning_rate: Positive
    b2: NotRequired[ShareBelowOne]
    num_steps: _Steps
    batch_size: Count
    gamma: Positive | Annotated[None, "for no weighting"]
    drop_rate: Share


def check_settings(
    vae: VAESettings, text_encoder: TextSettings, unet: UNetSettings, **others: Any
) -> None:
    """Refuse settings of `tiny_sd.pretrain` that are out of range, before anything is made.

    Raises:
        SettingError: a setting that is.
    """
    for name, hint in {"seed": Seed, "scene_seed": Seed, "num_scenes": Count}.items():
        check(name, others[name], hint)
    for name, values, kind in (
        ("vae", vae, VAESettings),
        ("text_encoder", text_encoder, TextSettings),
        ("unet", unet, UNetSettings),
    ):
        with named(f"{name}."):
            check_values(values, kind, f"a setting of {name}")
            if name != "text_encoder":
                _check_network(values, others["num_scenes"])
    with named("text_encoder."):
        heads, width = text_encoder["num_attention_heads"], text_encoder["hidden_size"]
        if width % heads:
            raise SettingError("num_attention_heads", heads, f"a divisor of hidden_size, {width}")


def _check_network(values: Any, num_scenes: int) -> None:
    groups, widths = values["norm_num_groups"], values["block_out_channels"]
    if any(width % groups for width in widths):
        raise SettingError("norm_num_groups", groups, f"a divisor of each of {tuple(widths)}")
    if any(width % values.get("num_heads", 1) for width in widths):
        raise SettingError("num_heads", values["num_heads"], f"a divisor of each of {widths}")
    if values["batch_size"] > num_scenes:
        raise SettingError("batch_size", values["batch_size"], f"at most num_scenes, {num_scenes}")
