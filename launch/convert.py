"""Convert between this package's folders, the released PyTorch code's and IP-Adapter's file.

    python launch/convert.py --released DIR --backbone DIR --regions FILE.npz --out DIR
    python launch/convert.py --model DIR --to released --out DIR
    python launch/convert.py --model DIR --to ip_adapter --out FILE.safetensors

docs/checkpoints.md says what each holds.
"""

import sys

import command_line
from absl import flags

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.interop import load_released, save_ip_adapter, save_released
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

FLAGS = flags.FLAGS
WRITERS = {
    "pipeline": NeuroAdapterPipeline.save_pretrained,
    "released": save_released,
    "ip_adapter": save_ip_adapter,
}


def load() -> NeuroAdapterPipeline:
    if (FLAGS.model is None) == (FLAGS.released is None):
        raise ValueError("give either --model or --released.")
    if FLAGS.model is not None:
        return NeuroAdapterPipeline.from_pretrained(FLAGS.model, FLAGS.backbone)
    if FLAGS.backbone is None:
        raise ValueError("--released needs --backbone, the Stable Diffusion it was trained on.")
    regions = FLAGS.regions and Parcellation.load(FLAGS.regions)
    return load_released(
        FLAGS.released, FLAGS.backbone, regions, guidance_scale=FLAGS.guidance_scale
    )


def main(_) -> None:
    try:
        WRITERS[FLAGS.to](load(), FLAGS.out)
    except (ValueError, FileNotFoundError, FileExistsError, ImportError) as error:
        sys.exit(f"convert: {error}")
    print(f"Written: {FLAGS.out}")


if __name__ == "__main__":
    flags.DEFINE_string("released", None, "Checkpoint folder of the released code, to read.")
    flags.DEFINE_string("model", None, "Folder of launch/export.py, or a shipped name, to read.")
    flags.DEFINE_string("backbone", None, "Stable Diffusion, diffusers layout; for --released.")
    flags.DEFINE_string("regions", None, "Parcellation.save's file of the checkpoint's regions.")
    flags.DEFINE_float("guidance_scale", 4.0, "Kept with a --released model.")
    flags.DEFINE_enum("to", "pipeline", list(WRITERS), "What to write.")
    flags.DEFINE_string("out", None, "Folder to write; a .safetensors file for ip_adapter.")
    flags.mark_flags_as_required(["out"])
    command_line.run(main)
