"""Does attention tell the truth? The views against the embedded subject, whose truth is known.

    python launch/attention_truth.py --prepared runs/embedded/prepared --root runs/embedded/nsd \
        --out runs/attention_truth

Where the views look (pointing game, ROC area), whether shares of attention rank regions as their
effects do, and what silencing areas changes. Writes results.json and tables.md; the views and
drawings lie beside them, so a killed run goes on. docs/does-attention-tell-the-truth.md explains.
"""

import sys
from pathlib import Path

import command_line
import numpy as np
from absl import flags

from neuroadapter_jax.cortex.areas import NSD_ATLASES, group_areas, read_areas
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.records import PreparedDataset
from neuroadapter_jax.diffusion.weights import write_json
from neuroadapter_jax.evaluation import attention_truth as truth_of
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader
from neuroadapter_jax.ibbi.areas import assign_regions, by_hemisphere, joined
from neuroadapter_jax.ibbi.perturbation import silence
from neuroadapter_jax.ibbi.views import REDUCTIONS
from neuroadapter_jax.interpretation import interpret_split, load_views
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.simulation.nsd_writer import load_truth

FLAGS = flags.FLAGS
SAMPLING = {"sampler": "dpmsolver++", "num_steps": 19}


def main(_) -> None:
    command_line.use_cpu_cores(FLAGS.batch_size)
    out, root = Path(FLAGS.out), Path(FLAGS.root)
    try:
        pipeline = NeuroAdapterPipeline.from_pretrained(FLAGS.model)
        split = PreparedDataset(FLAGS.prepared, "test")
        truth = load_truth(root)
        masks = group_areas(
            read_areas(
                root / "nsddata/freesurfer/subj01/label",
                root / "nsddata/ppdata/subj01/transforms",
                (*NSD_ATLASES, "embedded-vtc"),
            )
        )
        whole = assign_regions(pipeline.regions, masks)
        halves = assign_regions(
            pipeline.regions, by_hemisphere(masks, pipeline.regions.num_vertices)
        )
        areas = joined(whole, halves)
        folders = [
            interpret_split(
                pipeline,
                split,
                out / reduction,
                areas,
                num_images=FLAGS.num_images,
                group_size=FLAGS.batch_size,
                reduction=reduction,
                effects=reduction == "attention",
                seed=FLAGS.seed,
                **SAMPLING,
            )
            for reduction in REDUCTIONS
        ]
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"attention_truth: {error}")
    views = [load_views(folder) for folder in folders]
    ids = views[0]["sample"].values
    count = len(ids)
    betas = np.concatenate(
        [b["betas"][: b["num_valid"]].astype(np.float32) for b in eval_batches(split, 50)]
    )[:count]
    pictures = truth_of.category_masks(truth, ids)
    results = {"num_images": count, "localisation": {}, "retinotopy": {}, "ranks": {}}
    for each in views:
        results["localisation"] |= truth_of.localisation_tables(each, pictures, FLAGS.seed)
        results["retinotopy"] |= truth_of.retinotopy_tables(each, FLAGS.seed)
    results["regions"] = {
        name: int(row.sum()) for name, row in zip(areas.names, areas.members, strict=True)
    }

    influence = truth_of.planted_influence(truth, pipeline.regions)
    some = min(count, FLAGS.num_ranked)
    effect = truth_of.region_effects(pipeline, betas[:some], FLAGS.batch_size, FLAGS.seed, SAMPLING)
    for each in views:
        share = each["brain_view"].values[:some].mean(axis=1)
        results["ranks"][each.attrs["reduction"]] = truth_of.rank_agreement(
            share, effect, influence, FLAGS.seed
        )

    def draw(rows, keep):
        found = []
        for first in range(0, len(rows), FLAGS.batch_size):
            some = rows[first : first + FLAGS.batch_size]
            # The last call is filled up, so that one compilation serves all.
            fill = FLAGS.batch_size - len(some)
            part = np.concatenate([some, np.full(fill, some[-1])])
            images = pipeline(
                betas[part],
                keep=np.resize(keep[:1], (len(part), keep.shape[1])),
                seed=FLAGS.seed,
                sample_ids=part,
                num_candidates=1,
                **SAMPLING,
            )
            found.append(images[: len(some), 0])
        return np.concatenate(found)

    categories = truth["categories"][ids]
    reader, intact = load_scene_reader(), views[0]["image"].values
    members = dict(zip(whole.names, whole.members, strict=True))
    snr = np.array(
        [np.mean(split.ncsnr[pipeline.regions.cortex_indices(i)]) for i in range(len(influence))]
    )
    results["silencing"] = truth_of.silencing_table(
        draw,
        intact,
        categories,
        truth["category_names"].tolist(),
        members,
        snr,
        reader,
        num_random=FLAGS.num_random,
        seed=FLAGS.seed,
    )
    sets = {
        "V1 to V3": np.logical_or.reduce([members[a] for a in ("V1", "V2", "V3")]),
        "category areas": np.logical_or.reduce(
            [members[a] for a in truth_of.CATEGORY_OF_AREA if a in members]
        ),
    }
    everyone = np.arange(count)
    drawings = {"intact": intact} | {
        name: draw(everyone, silence(taken, count)) for name, taken in sets.items()
    }
    results["structure and category"] = truth_of.structure_and_category(
        views[0]["stimulus"].values, drawings, categories, reader, FLAGS.seed
    )
    write_json(out / "results.json", results)
    tables = truth_of.tables(results)
    (out / "tables.md").write_text(tables, encoding="utf-8")
    print(tables)
    print(f"Written: {out / 'results.json'}, {out / 'tables.md'}")


if __name__ == "__main__":
    flags.DEFINE_string("model", "neuroadapter-embedded", "The model's folder or shipped name.")
    flags.DEFINE_string("prepared", None, "Folder of prepared records of the embedded subject.")
    flags.DEFINE_string("root", None, "The simulated subject's folder, with truth.npz.")
    flags.DEFINE_string("out", None, "Folder for views, results.json and tables.md.")
    flags.DEFINE_integer("num_images", 200, "Test images.", lower_bound=2)
    flags.DEFINE_integer("num_ranked", 80, "Of these, for the effect of every region.")
    flags.DEFINE_integer("num_random", 3, "Matched random sets per area.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 40, "Images per call.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of noise, random sets and bootstrap.")
    flags.mark_flags_as_required(["prepared", "root", "out"])
    command_line.run(main)
