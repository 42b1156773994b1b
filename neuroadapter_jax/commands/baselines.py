r"""Compare with floors, retrieval, a linear decoder, a ceiling.

    neuroadapter baselines --prepared runs/simulated/prepared --root runs/simulated/nsd \
        --encoder runs/simulated/encoder/model --out runs/baselines
    neuroadapter baselines --model DIR --prepared DIR --encoder DIR --captions FILE --nsd_root DIR \
        --strength 0.8 --linear_guidance_scale 4 --out DIR

Floors, retrieval by the brain encoder, a linear two-stage decoder, NeuroAdapter, and the ceiling
that the autoencoder sets. Fits on training images, chooses on validation images, reconstructs the
test images, and writes a folder of reconstructions per method, results.json and table.md. A killed
run goes on. On the simulated subject captions and truth are in --root. docs/baselines.md explains.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import METHODS
from neuroadapter_jax.commands.given import SIMULATED, holds, must_exist, needs, needs_choice
from neuroadapter_jax.commands.machine import plan_memory, use_cpu_cores
from neuroadapter_jax.commands.shared_flags import (
    CommandFlags,
    define_sampling,
    define_shared,
    sampling_from,
    within,
)
from neuroadapter_jax.ranges import ShareAboveZero

NUM_SHOWN = 10


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "prepared", "encoder", "out", "root", "num_candidates", "seed",
        "batch_size", "images_at_once", "allow_other", "progress",
        required=("prepared", "encoder", "out"),
        defaults={"model": "neuroadapter-simulated", "num_candidates": 8},
        helps={
            "out": "Folder for everything.",
            "root": "The simulated subject's folder: captions and truth.",
            "num_candidates": "Images per response where the encoder chooses.",
        },
    )  # fmt: skip
    define_sampling(values, sampler="dpmsolver++", num_steps=10)
    flags.DEFINE_list(
        "captions", [], "JSON files: captions by image id, or COCO's annotations.",
        flag_values=values,
    )  # fmt: skip
    for name, help in {
        "nsd_root": "NSD's folder, which COCO's annotations need.",
        "gallery": "Folder of pictures to retrieve from; the training images when not given.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    flags.DEFINE_multi_enum(
        "methods", list(METHODS), list(METHODS), "Which methods; all by default.",
        flag_values=values,
    )  # fmt: skip
    for name, help in {
        "strength": "Of the low-level start; chosen on validation images when not given.",
        "linear_guidance_scale": "Of the linear decoder; chosen on validation images when not "
        "given.",
    }.items():
        flags.DEFINE_float(name, None, help, flag_values=values)
    within(values, "strength", ShareAboveZero)
    within(values, "linear_guidance_scale", float)
    needs(values, "nsd_root", "captions")
    needs_choice(values, "gallery", "methods", "retrieval")
    holds(values, "root", *SIMULATED)
    must_exist(values, "captions", "nsd_root", "gallery")


def main(values: CommandFlags, arguments: list[str]) -> None:
    use_cpu_cores(values.batch_size)

    from neuroadapter_jax.decoders.captions import read_captions
    from neuroadapter_jax.decoders.retrieval import gallery_of_folder
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
    from neuroadapter_jax.figures.grids import image_grid, save_grid, save_picture
    from neuroadapter_jax.pipeline import NeuroAdapterPipeline, load_reconstructions
    from neuroadapter_jax.pipeline.saving import read_sampling
    from neuroadapter_jax.studies import baselines

    # What is cheap to read comes first, so that what is wrong is said before any model is loaded.
    out = Path(values.out)
    settings = baselines.BaselineSettings(
        methods=tuple(values.methods),
        strength=values.strength,
        linear_guidance_scale=values.linear_guidance_scale,
        sampling=sampling_from(values, read_sampling(values.model)[0]),
        num_candidates=values.num_candidates,
        seed=values.seed,
        batch_size=values.batch_size,
        allow_other=tuple(values.allow_other),
    )
    captions = None
    if values.captions:
        captions = read_captions(values.captions, values.nsd_root or values.root)
    elif values.root is not None:
        captions = baselines.simulated_captions(values.root)
    baselines.require_choices(settings, values.root, settings.wanted(captions is not None))
    pipeline = NeuroAdapterPipeline.from_pretrained(values.model, allow_other=values.allow_other)
    plan_memory(values, pipeline, settings.sampling)
    backbone = pipeline.backbone
    side = backbone.unet.config.sample_size * backbone.vae.config.downscale
    results = baselines.run_baselines(
        pipeline,
        values.prepared,
        out,
        settings,
        encoder=BrainEncoder.from_pretrained(values.encoder, allow_other=values.allow_other),
        captions=captions,
        gallery=gallery_of_folder(values.gallery, side) if values.gallery else None,
        root=values.root,
        save_grid=save_grid,
        progress=values.progress,
    )
    found = {name: load_reconstructions(out / name) for name in results["methods"]}
    rows = {"Stimulus": next(iter(found.values())).stimuli[:NUM_SHOWN]}
    rows |= {baselines.METHODS[name]: each.best[:NUM_SHOWN] for name, each in found.items()}
    save_picture(out / "methods.png", image_grid(rows))
    print((out / "table.md").read_text())
    print(f"Written: {out / 'results.json'}, {out / 'table.md'}, {out / 'methods.png'}")
