"""Floors, retrieval, a linear two-stage decoder and the ceiling, beside NeuroAdapter.

    python launch/baselines.py --model neuroadapter-simulated --prepared runs/simulated/prepared \
        --root runs/simulated/nsd --encoder runs/simulated/encoder/model --out runs/baselines

Fits on training images, chooses on validation images, draws the test images, and writes a folder
of reconstructions per method, results.json and table.md. A killed run goes on. On the simulated
subject captions and truth are in --root; for other subjects name --captions, --strength and
--linear_guidance_scale. docs/baselines.md explains.
"""

import sys
from pathlib import Path

import command_line
from absl import flags

from neuroadapter_jax.decoders.linear_two_stage import read_captions
from neuroadapter_jax.decoders.retrieval import gallery_of_folder
from neuroadapter_jax.diffusion.sampling import SAMPLERS
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.figures.grids import image_grid, save_picture
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.reconstruct import Reconstructions, load_reconstructions
from neuroadapter_jax.studies.baselines import METHODS, run_baselines, simulated_captions

FLAGS = flags.FLAGS
NUM_SHOWN = 10


def save_grid(folder: Path, result: Reconstructions, num_shown: int = 40) -> None:
    """A grid with each stimulus above its reconstruction."""
    rows = {"seen": result.stimuli[:num_shown], "drawn": result.best[:num_shown]}
    save_picture(folder / "grid.png", image_grid(rows))


def main(_) -> None:
    command_line.use_cpu_cores(FLAGS.batch_size)
    out = Path(FLAGS.out)
    try:
        pipeline = NeuroAdapterPipeline.from_pretrained(FLAGS.model)
        captions = None
        if FLAGS.captions:
            captions = read_captions(FLAGS.captions, FLAGS.nsd_root or FLAGS.root)
        elif FLAGS.root is not None:
            captions = simulated_captions(FLAGS.root)
        backbone = pipeline.backbone
        side = backbone.unet.config.sample_size * backbone.vae.config.downscale
        results = run_baselines(
            pipeline,
            FLAGS.prepared,
            out,
            encoder=BrainEncoder.from_pretrained(FLAGS.encoder),
            captions=captions,
            gallery=gallery_of_folder(FLAGS.gallery, side) if FLAGS.gallery else None,
            root=FLAGS.root,
            methods=FLAGS.methods,
            strength=FLAGS.strength,
            linear_guidance_scale=FLAGS.linear_guidance_scale,
            num_candidates=FLAGS.num_candidates,
            num_steps=FLAGS.num_steps,
            sampler=FLAGS.sampler,
            seed=FLAGS.seed,
            batch_size=FLAGS.batch_size,
            save_grid=save_grid,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"baselines: {error}")
    reconstructions = {name: load_reconstructions(out / name) for name in results["methods"]}
    rows = {"seen": next(iter(reconstructions.values())).stimuli[:NUM_SHOWN]}
    rows |= {METHODS[name]: found.best[:NUM_SHOWN] for name, found in reconstructions.items()}
    save_picture(out / "methods.png", image_grid(rows))
    print((out / "table.md").read_text())
    print(f"Written: {out / 'results.json'}, {out / 'table.md'}, {out / 'methods.png'}")


if __name__ == "__main__":
    flags.DEFINE_string("model", "neuroadapter-simulated", "The model's folder or shipped name.")
    flags.DEFINE_string("prepared", None, "Folder of prepared records.")
    flags.DEFINE_string("encoder", None, "Folder of launch/train_encoder.py.")
    flags.DEFINE_string("out", None, "Folder for everything.")
    flags.DEFINE_string("root", None, "The simulated subject's folder: captions and truth.")
    flags.DEFINE_list("captions", [], "JSON files: captions by image id, or COCO's annotations.")
    flags.DEFINE_string("nsd_root", None, "NSD's folder, which COCO's annotations need.")
    flags.DEFINE_string("gallery", None, "Folder of pictures to retrieve from; else training's.")
    flags.DEFINE_multi_enum("methods", list(METHODS), list(METHODS), "Which; all by default.")
    flags.DEFINE_float("strength", None, "Of the low-level start; else chosen on validation.")
    flags.DEFINE_float("linear_guidance_scale", None, "Likewise, of the linear decoder.")
    flags.DEFINE_integer("num_candidates", 8, "Where the encoder chooses.", lower_bound=2)
    flags.DEFINE_enum("sampler", "dpmsolver++", SAMPLERS, "Which sampler, for all methods.")
    flags.DEFINE_integer("num_steps", 10, "Denoising steps, for all methods.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of noise, random images and bootstrap.")
    flags.DEFINE_integer("batch_size", 20, "Responses per call.", lower_bound=1)
    flags.mark_flags_as_required(["prepared", "encoder", "out"])
    command_line.run(main)
