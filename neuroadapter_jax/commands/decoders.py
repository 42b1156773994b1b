r"""Compare decoders: floors, rivals, NeuroAdapter.

    neuroadapter decoders --prepared runs/simulated/prepared --root runs/simulated/nsd \
        --encoder runs/simulated/encoder/model --out runs/decoders
    neuroadapter decoders --methods linear,brain_diffuser,neuroadapter --image_adapter DIR \
        --prepared DIR --root DIR --out DIR

Fits on training images, chooses on validation images, reconstructs the test images, and writes a
folder of reconstructions per method, results.json, table.md and methods.png. All methods have the
same records, regions, backbone, noise and metrics; each row says what it costs. A killed run goes
on. On the simulated subject captions and truth are in --root. docs/decoders.md explains.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import DEFAULT_METHODS, METHODS, PRESETS
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
        required=("prepared", "out"),
        defaults={"model": "neuroadapter-simulated", "num_candidates": 8},
        helps={
            "out": "Folder for everything.",
            "encoder": "Folder of a brain encoder, for the methods that retrieve or choose.",
            "root": "The simulated subject's folder: captions and truth.",
            "num_candidates": "Images per response where the encoder chooses.",
        },
    )  # fmt: skip
    define_sampling(values, sampler="dpmsolver++", num_steps=10)
    for name, default, help in (
        ("captions", [], "JSON files: captions by image id, or COCO's annotations."),
        ("methods", list(DEFAULT_METHODS), f"Which methods, of {', '.join(METHODS)}."),
    ):
        flags.DEFINE_list(name, default, help, flag_values=values)
    for name, help in {
        "nsd_root": "NSD's folder, which COCO's annotations need.",
        "gallery": "Folder of pictures to retrieve from; the training images when not given.",
        "image_adapter": "Folder of an image adapter, for the methods that predict an image's "
        "embedding; or a file ip-adapter-plus_sd15.safetensors.",
        "image_encoder": "Folder of the CLIP whose embedding such a file reads.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    flags.DEFINE_enum(
        "preset", None, list(PRESETS), "Give this method's rows the sampling it was published "
        "with.", flag_values=values,
    )  # fmt: skip
    for name, help in {
        "strength": "Of the low-level start; chosen on validation images when not given.",
        "linear_guidance_scale": "Of decoders guided from the empty prompt; chosen on validation "
        "images when not given.",
    }.items():
        flags.DEFINE_float(name, None, help, flag_values=values)
    within(values, "strength", ShareAboveZero)
    within(values, "linear_guidance_scale", float)
    needs(values, "nsd_root", "captions")
    needs(values, "image_encoder", "image_adapter")
    needs_choice(values, "gallery", "methods", "retrieval")
    using = [name for name in METHODS if name.startswith(("brain_diffuser", "true_embedding"))]
    needs_choice(values, "image_adapter", "methods", *using)
    needs_choice(values, "preset", "methods", *(n for n in using if n != "true_embedding"))
    holds(values, "root", *SIMULATED)
    must_exist(values, "captions", "nsd_root", "gallery", "image_encoder")


def main(values: CommandFlags, arguments: list[str]) -> None:
    use_cpu_cores(values.batch_size)

    from neuroadapter_jax.decoders.captions import read_captions
    from neuroadapter_jax.decoders.material import Material
    from neuroadapter_jax.decoders.retrieval import gallery_of_folder
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
    from neuroadapter_jax.figures.grids import image_grid, save_grid, save_picture
    from neuroadapter_jax.pipeline import NeuroAdapterPipeline, load_reconstructions
    from neuroadapter_jax.pipeline.saving import read_sampling
    from neuroadapter_jax.studies import decoders

    # What is cheap to read comes first, so that what is wrong is said before any model is loaded.
    out = Path(values.out)
    settings = decoders.DecoderSettings(
        methods=tuple(values.methods),
        strength=values.strength,
        linear_guidance_scale=values.linear_guidance_scale,
        preset=values.preset,
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
        captions = decoders.simulated_captions(values.root)
    given = {"captions": captions, "encoder": values.encoder, "image_adapter": values.image_adapter}
    missing = settings.missing({name for name, value in given.items() if value is not None})
    wanted = [name for name in settings.methods if name not in missing]
    decoders.require_choices(settings, values.root, wanted)
    pipeline = NeuroAdapterPipeline.from_pretrained(values.model, allow_other=values.allow_other)
    plan_memory(values, pipeline, settings.sampling)
    backbone, encoder = pipeline.backbone, None
    if values.encoder is not None:
        encoder = BrainEncoder.from_pretrained(values.encoder, allow_other=values.allow_other)
    side = backbone.unet.config.sample_size * backbone.vae.config.downscale
    material = Material(
        prepared=Path(values.prepared),
        pipeline=pipeline,
        shared=out,
        encoder=encoder,
        captions=captions,
        image_adapter=values.image_adapter,
        image_encoder=values.image_encoder,
        seed=values.seed,
        progress=values.progress,
    )
    results = decoders.run_decoders(
        material,
        out,
        settings,
        gallery=gallery_of_folder(values.gallery, side) if values.gallery else None,
        root=values.root,
        save_grid=save_grid,
    )
    found = {name: load_reconstructions(out / name) for name in results["methods"]}
    rows = {"Stimulus": next(iter(found.values())).stimuli[:NUM_SHOWN]}
    rows |= {decoders.LABELS[name]: each.best[:NUM_SHOWN] for name, each in found.items()}
    save_picture(out / "methods.png", image_grid(rows))
    print((out / "table.md").read_text())
    print(f"Written: {out / 'results.json'}, {out / 'table.md'}, {out / 'methods.png'}")
