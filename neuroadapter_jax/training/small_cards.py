"""Cards of the small networks that decoders are built of, from what their trainings measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroadapter_jax.readers import read_json_lines
from neuroadapter_jax.training.metrics_log import read_metrics

_ARTWORK = (
    "No response of a brain went into it. The artwork is OpenMoji's (https://openmoji.org), "
    "CC BY-SA 4.0."
)


def _run(workdir: str | Path) -> tuple[int, float]:
    """Steps and minutes of a finished run."""
    lines = read_metrics(Path(workdir) / "metrics.jsonl")
    timing = read_json_lines(Path(workdir) / "timing.jsonl", "seconds of a training")
    return lines[-1]["step"], sum(line["seconds"] for line in timing) / 60


def spatial_adapter_card(
    workdir: str | Path, command: str, settings: Mapping[str, Any], found: Mapping[str, float]
) -> str:
    """The card of a spatial adapter.

    Args:
        workdir: of the finished run.
        command: what was typed.
        settings: of `train_spatial_adapter`.
        found: what it returned.
    """
    steps, minutes = _run(workdir)
    adapter = settings["adapter"]
    what = {
        "palette": "an 8 x 8 palette of the image's colours",
        "depth": "a map of depth: the sky 0, the place 0.35, the ground 0.4 to 0.8, objects 1",
    }[adapter["condition"]]
    kind, backbone, count = adapter["kind"], settings["backbone"], found["parameters"]
    return f"""# Spatial adapter for {backbone}: {adapter["condition"]}

A T2I-Adapter (Mou et al. 2023, arXiv 2302.08453) of the {kind} kind with {count:,} parameters,
stored as float16. It steers {backbone}, which stayed frozen, by {what}.
The condition came from the truth of scenes. It was trained by

    {command}

on {settings["num_scenes"]:,} scenes, {steps:,} steps, {minutes:.0f} minutes on two CPU cores that
other work shared. On 256 held-out scenes, with empty captions, the mean squared error of the
predicted noise is {found["loss"]:.4f} with the adapter and {found["without"]:.4f} without it.

{_ARTWORK}
"""


def joint_space_card(
    workdir: str | Path, command: str, settings: Mapping[str, Any], found: Mapping[str, float]
) -> str:
    """The card of a joint space of images and captions.

    Args:
        workdir: of the finished run.
        command: what was typed.
        settings: of `train_joint_space`.
        found: what it returned.
    """
    steps, minutes = _run(workdir)
    pool, forward, backward = (
        found[name] for name in ("pool", "caption_to_image", "image_to_caption")
    )
    return f"""# Joint space of scenes and captions

Two linear maps, of {settings["vit"]}'s class token and of the end state of {settings["backbone"]}'s
text encoder, into one space of {settings["width"]} numbers, where a scene lies beside its caption
(InfoNCE with a learned temperature; Radford et al. 2021, arXiv 2103.00020). It has
{found["parameters"]:,} parameters and was trained by

    {command}

on {settings["num_scenes"]:,} scenes, {steps:,} steps, {minutes:.1f} minutes on two CPU cores that
other work shared. Among {pool:.0f} held-out scenes a caption finds its own scene first in
{forward:.1%} of cases and a scene its own caption in {backward:.1%}; chance is {1 / pool:.1%}.

{_ARTWORK}
"""
