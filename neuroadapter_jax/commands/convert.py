"""Convert from and to other formats of checkpoints.

    neuroadapter convert --released DIR --backbone DIR --regions FILE.npz --out DIR
    neuroadapter convert --model DIR --to released --out DIR
    neuroadapter convert --model DIR --to ip_adapter --out FILE.safetensors

Reads and writes this package's folders and the released PyTorch code's checkpoints, and writes
IP-Adapter's file. docs/checkpoints.md says what each holds.
"""

import os
from typing import TYPE_CHECKING

from absl import flags

from neuroadapter_jax.commands.given import exactly_one, must_exist, needs
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import InputError

if TYPE_CHECKING:
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

FORMATS = ("pipeline", "released", "ip_adapter")


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "out", "guidance_scale",
        required=("out",),
        defaults={"guidance_scale": 4.0},
        helps={
            "out": "Folder to write; a .safetensors file for ip_adapter.",
            "guidance_scale": "Stored with a --released model, whose files do not hold it.",
        },
    )  # fmt: skip
    for name, help in {
        "released": "Checkpoint folder of the released code, to read.",
        "backbone": "Stable Diffusion in the diffusers layout; needed with --released.",
        "regions": "File of Parcellation.save with the regions of a --released checkpoint.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    flags.DEFINE_enum("to", "pipeline", FORMATS, "What to write.", flag_values=values)
    exactly_one(values, "model", "released")
    needs(values, "regions", "released")
    needs(values, "guidance_scale", "released")
    must_exist(values, "released", "regions")


def read_model(values: CommandFlags) -> "NeuroAdapterPipeline":
    """The model that the flags name."""
    from neuroadapter_jax.cortex.parcellation import Parcellation
    from neuroadapter_jax.diffusion.sampling import Sampling
    from neuroadapter_jax.interop import load_released
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

    if values.model is not None:
        return NeuroAdapterPipeline.from_pretrained(values.model, values.backbone)
    if values.backbone is None:
        raise InputError("--released needs --backbone, the Stable Diffusion it was trained on.")
    regions = Parcellation.load(values.regions) if values.regions else None
    sampling = Sampling(guidance_scale=values.guidance_scale)
    return load_released(values.released, values.backbone, regions, sampling=sampling)


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.interop import save_ip_adapter, save_released

    if values.model is not None and os.path.realpath(values.out) == os.path.realpath(values.model):
        raise InputError(f"--out is {values.out}, the model itself; name another folder.")
    pipeline = read_model(values)
    if values.to == "released":
        save_released(pipeline, values.out)
    elif values.to == "ip_adapter":
        save_ip_adapter(pipeline, values.out)
    else:
        pipeline.save_pretrained(values.out)
    print(f"Written: {values.out}")
