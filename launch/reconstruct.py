"""Draw the images of a split from its responses.

    python launch/reconstruct.py --model DIR --prepared DIR --out DIR [--split test]

--model is a folder of launch/export.py or the name of a shipped model; --run takes the best
checkpoint of a training run instead.
"""

import sys
from pathlib import Path

import command_line
import numpy as np
from absl import flags

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.low_level_start import load_low_level_start
from neuroadapter_jax.decoders.neuroadapter import pipeline_of_run
from neuroadapter_jax.diffusion.sampling import SAMPLERS
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.figures.grids import image_grid, no_image, save_picture
from neuroadapter_jax.metrics.recall import derangement
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.reconstruct import Reconstructions, reconstruct_split

FLAGS = flags.FLAGS


def save_grid(folder: Path, result: Reconstructions, num_shown: int = 40) -> None:
    """A grid with each stimulus, or "none", above its reconstruction."""
    stimuli = np.where(
        result.has_target[:, None, None, None], result.stimuli, no_image(*result.stimuli.shape[1:3])
    )
    rows = {"seen": stimuli[:num_shown], "drawn": result.best[:num_shown]}
    names = result.names[:num_shown] if any(result.names) else None
    save_picture(folder / "grid.png", image_grid(rows, names))


def halving(pairs: list[str]) -> list[tuple[int, int]]:
    """["6:4", "10:1"] -> [(6, 4), (10, 1)]."""
    try:
        return [(int(steps), int(kept)) for steps, kept in (pair.split(":") for pair in pairs)]
    except ValueError:
        raise ValueError(
            f"--halving is {','.join(pairs)}; expected STEPS:KEPT,... such as 6:4,10:1."
        ) from None


def main(_) -> None:
    command_line.use_cpu_cores(FLAGS.batch_size * (FLAGS.num_candidates or 1))
    try:
        if (FLAGS.model is None) == (FLAGS.run is None):
            raise ValueError("give either --model or --run.")
        if FLAGS.model is not None:
            pipeline = NeuroAdapterPipeline.from_pretrained(FLAGS.model)
        else:
            pipeline = pipeline_of_run(FLAGS.run)
        dataset = PreparedDataset(FLAGS.prepared, FLAGS.split)
        encoder = BrainEncoder.from_pretrained(FLAGS.encoder) if FLAGS.encoder else None
        order = derangement(len(dataset), FLAGS.seed) if FLAGS.permute_responses else None
        low_level_start = None
        if FLAGS.low_level_start is not None:
            low_level_start = load_low_level_start(
                FLAGS.low_level_start, dataset.image_ids, pipeline
            )
        reconstruct_split(
            pipeline,
            dataset,
            FLAGS.out,
            num_candidates=FLAGS.num_candidates,
            seed=FLAGS.seed,
            sampler=FLAGS.sampler,
            start=FLAGS.start,
            num_steps=FLAGS.num_steps,
            guidance_scale=FLAGS.guidance_scale,
            batch_size=FLAGS.batch_size,
            order=order,
            low_level_start=low_level_start,
            strength=FLAGS.strength,
            encoder=encoder,
            halving=halving(FLAGS.halving),
            keep_candidates=FLAGS.keep_candidates,
            num_images=FLAGS.num_images,
            save_grid=save_grid,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"reconstruct: {error}")
    print(f"Drawn: {FLAGS.out} (grid.png, images/, index.json)")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "Folder of launch/export.py, or a shipped model's name.")
    flags.DEFINE_string("run", None, "Work folder of launch/train.py.")
    flags.DEFINE_string("prepared", None, "Folder of prepared records.")
    flags.DEFINE_string("out", None, "Folder for the images.")
    flags.DEFINE_string("split", "test", "Which images: a split of the prepared records.")
    own = "the model's own when not given."
    flags.DEFINE_integer("num_candidates", None, f"Images per response; {own}", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the noise.")
    flags.DEFINE_enum("sampler", None, SAMPLERS, f"Which sampler; {own}")
    flags.DEFINE_enum("start", None, ["noise", "grey"], f"Noise, or a noised grey image; {own}")
    flags.DEFINE_integer("num_steps", 50, "Denoising steps.")
    flags.DEFINE_float("guidance_scale", None, f"1 is none; {own}")
    flags.DEFINE_integer("batch_size", 20, "Responses per call.", lower_bound=1)
    flags.DEFINE_string(
        "low_level_start", None, "Begin from these latents: an npz file or a folder of images."
    )
    flags.DEFINE_float("strength", 0.8, "With --low_level_start: share of the steps taken.")
    flags.DEFINE_string("encoder", None, "Brain encoder that chooses: launch/train_encoder.py's.")
    flags.DEFINE_list("halving", [], "With --encoder: STEPS:KEPT,..., keep the best on the way.")
    flags.DEFINE_bool("keep_candidates", False, "With --encoder, write every candidate.")
    flags.DEFINE_integer("num_images", None, "From the first on; all when None.", lower_bound=1)
    flags.DEFINE_bool("permute_responses", False, "Control: draw from other images' responses.")
    flags.mark_flags_as_required(["prepared", "out"])
    command_line.run(main)
