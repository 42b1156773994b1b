r"""Test whether attention tells the truth, where it is known.

    neuroadapter attention-truth --prepared runs/simulated/prepared --root runs/simulated/nsd \
        --out runs/attention_truth

The subject is simulated, so its truth is known. Where the views look under every reduction
(pointing game, ROC area), whether shares of attention rank regions as their effects do, deletion
and insertion of regions, and what silencing, averaging or exchanging ROIs changes. Writes
results.json, tables.md and figures; the views and each part's numbers lie beside them, so a killed
run goes on. docs/does-attention-tell-the-truth.md explains.
"""

from pathlib import Path
from typing import Any

from absl import flags

from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared

SAMPLING: dict[str, Any] = {"sampler": "dpmsolver++", "num_steps": 19}
REDUCTIONS = ("attention", "value_norm", "difference", "gradient")
EARLY = ("V1", "V2", "V3")


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "prepared", "root", "out", "num_images", "batch_size", "seed",
        required=("prepared", "root", "out"),
        defaults={"model": "neuroadapter-simulated", "num_images": 200, "batch_size": 40},
        helps={
            "prepared": "Folder of prepared records of the simulated subject.",
            "root": "The simulated subject's folder, with truth.npz.",
            "out": "Folder for views, results.json, tables.md and figures.",
            "num_images": "Test images.",
            "batch_size": "Images per call; more need more memory.",
        },
    )  # fmt: skip
    for name, default, help in (
        ("num_ranked", 40, "Of these, for the effect of every region."),
        ("num_ordered", 16, "Of those, for deletion and insertion."),
        ("num_replaced", 60, "Images for replacing a category's ROI."),
        ("num_moved", 30, "Images for what early and category ROIs change."),
        ("num_random", 2, "Matched random sets per silenced ROI."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)


def main(values: CommandFlags, arguments: list[str]) -> None:
    use_cpu_cores(values.batch_size)

    import numpy as np

    from neuroadapter_jax.cortex.roi import NSD_ATLASES, group_rois, read_rois
    from neuroadapter_jax.cortex.selection import region_snr
    from neuroadapter_jax.datasets.input_pipeline import eval_batches
    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.encoder.weights import load_dinov2
    from neuroadapter_jax.evaluation.scene_reader import load_scene_reader
    from neuroadapter_jax.figures.causal import change_figure, deletion_figure, loss_figure
    from neuroadapter_jax.figures.cortex_maps import save_figure
    from neuroadapter_jax.files import write_json
    from neuroadapter_jax.ibbi.roi import assign_regions, by_hemisphere, joined
    from neuroadapter_jax.pipeline.interpret import interpret_split, load_views
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
    from neuroadapter_jax.simulation.nsd_writer import load_truth
    from neuroadapter_jax.studies import attention_truth as truth_of
    from neuroadapter_jax.studies.causal_tests import (
        change_table,
        deletion_table,
        make_appearance,
        perturbed_reconstructions,
    )

    out, root = Path(values.out), Path(values.root)
    pipeline = NeuroAdapterPipeline.from_pretrained(values.model)
    split = PreparedDataset(values.prepared, "test")
    truth = load_truth(root)
    masks = group_rois(
        read_rois(
            root / "nsddata/freesurfer/subj01/label",
            root / "nsddata/ppdata/subj01/transforms",
            (*NSD_ATLASES, "simulated-vtc"),
        )
    )
    whole = assign_regions(pipeline.regions, masks)
    # Any overlap at all: a region goes to the area that holds most of its labelled vertices.
    largest = assign_regions(pipeline.regions, masks, threshold=0.0)
    early = {name: masks[name] for name in truth_of.RETINOTOPIC}
    halves = assign_regions(pipeline.regions, by_hemisphere(early, pipeline.regions.num_vertices))
    rois = joined(whole, halves)
    folders = [
        interpret_split(
            pipeline,
            split,
            out / reduction,
            rois,
            num_images=values.num_images,
            num_shown=3,
            group_size=values.batch_size,
            reduction=reduction,
            effects=reduction == "attention",
            seed=values.seed,
            **SAMPLING,
        )
        for reduction in REDUCTIONS
    ]
    views = [load_views(folder) for folder in folders]
    ids = views[0]["sample"].values
    count = len(ids)
    betas = np.concatenate(
        [b["betas"][: b["num_valid"]].astype(np.float32) for b in eval_batches(split, 50)]
    )[:count]
    stimuli, intact = (views[0][name].values for name in ("stimulus", "image"))
    categories, names = truth["categories"][ids], truth["category_names"].tolist()
    reader, snr = load_scene_reader(), region_snr(pipeline.regions, split.ncsnr)
    reconstruct = perturbed_reconstructions(
        pipeline, betas, batch_size=values.batch_size, seed=values.seed, **SAMPLING
    )
    settings = {"model": pipeline.provenance, "seed": values.seed, "images": ids.tolist()}

    def part(name, compute, **more):
        return truth_of.kept(out / "parts" / f"{name}.json", settings | more, compute)

    pictures = truth_of.category_masks(truth, ids)
    results: dict[str, Any] = {
        "num_images": count,
        "localisation": {},
        "retinotopy": {},
        "ranks": {},
    }
    for each in views:
        results["localisation"] |= truth_of.localisation_tables(each, pictures, values.seed)
        results["retinotopy"] |= truth_of.retinotopy_tables(each, values.seed)
    results["regions"] = {
        name: int(row.sum()) for name, row in zip(rois.names, rois.members, strict=True)
    }

    some = min(count, values.num_ranked)
    effects = part(
        "effects",
        lambda: {
            name: found.tolist()
            for name, found in truth_of.region_effects(
                pipeline, betas[:some], values.batch_size, values.seed, SAMPLING
            ).items()
        },
        num_images=some,
    )
    effects = {name: np.array(found) for name, found in effects.items()}
    influence = truth_of.planted_influence(truth, pipeline.regions)
    shares = {x.attrs["reduction"]: x["brain_view"].values.mean(axis=1) for x in views}
    for name, share in shares.items():
        results["ranks"][name] = truth_of.rank_agreement(
            share[:some], effects, influence, values.seed
        )

    few = min(some, values.num_ordered)
    rankings = {name: x[:few] for name, x in shares.items()}
    rankings |= {"effect": effects["effect"][:few], "planted": np.tile(influence, (few, 1))}
    results["deletion"] = part(
        "deletion",
        lambda: deletion_table(
            reconstruct, stimuli[:few], categories[:few], reader, rankings, seed=values.seed
        ),
        num_images=few,
    )

    members = dict(zip(whole.names, whole.members, strict=True))
    widest = dict(zip(largest.names, largest.members, strict=True))
    fewer = min(count, values.num_replaced)
    # What is done, to which sets, on how many images, with how many random sets beside each.
    tests = {
        "silence": ("silence", members, count, values.num_random),
        "silence, largest share": ("silence", widest, count, 1),
        "mean": ("mean", members, fewer, 1),
        "swap": ("swap", members, fewer, 1),
    }
    results["categories"] = {
        name: part(
            f"categories, {name}",
            lambda kind=kind, assigned=assigned, n=n, random=random: truth_of.category_table(
                reconstruct,
                intact[:n],
                categories[:n],
                names,
                assigned,
                snr,
                reader,
                kind,
                num_random=random,
                seed=values.seed,
            ),
            num_images=n,
            num_random=random,
        )
        for name, (kind, assigned, n, random) in tests.items()
    }

    def union(assigned, wanted):
        return np.logical_or.reduce([assigned[name] for name in wanted if name in assigned])

    region_sets = {
        f"{label} ({rule})": union(assigned, wanted)
        for label, wanted in (("V1 to V3", EARLY), ("category areas", truth_of.CATEGORY_OF_ROI))
        for rule, assigned in (("more than half", members), ("largest share", widest))
    }
    moved = min(count, values.num_moved)
    appearance = make_appearance(pipeline.backbone.vae, load_dinov2("tiny-vit"), reader)
    results["changes"] = part(
        "changes",
        lambda: change_table(
            reconstruct,
            stimuli[:moved],
            intact[:moved],
            categories[:moved],
            region_sets,
            snr,
            appearance,
            seed=values.seed,
        ),
        num_images=moved,
    )
    results["counts"] = {
        "effects": some,
        "changes": moved,
        "categories": {name: n for name, (_, _, n, _) in tests.items()},
        "random": {name: random for name, (*_, random) in tests.items()},
    }
    write_json(out / "results.json", results)
    tables = truth_of.tables(results)
    (out / "tables.md").write_text(tables, encoding="utf-8")
    figures = {
        "deletion": deletion_figure(results["deletion"]),
        "categories": loss_figure(results["categories"], results["counts"]["categories"]),
        "changes": change_figure(results["changes"], moved),
    }
    for name, figure in figures.items():
        save_figure(out / "figures" / f"{name}.png", figure)
    print(tables)
    print(f"Written: {out / 'results.json'}, {out / 'tables.md'}, {out / 'figures'}")
