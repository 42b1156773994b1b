r"""Test attention where the truth is known.

    neuroadapter attention-truth --prepared runs/simulated/prepared --root runs/simulated/nsd \
        --out runs/attention_truth

The subject is simulated, so its truth is known. Where the views look under every reduction
(pointing game, area under the ROC curve), whether shares of attention rank regions as their effects
do, deletion and insertion of regions, and what silencing, averaging or exchanging ROIs changes.
Writes results.json, tables.md, document.md and images/; the views and each piece's numbers (parts/)
lie beside them, so a killed run goes on. docs/does-attention-tell-the-truth.md explains.

    neuroadapter attention-truth ... --only maps,silence

--only computes some pieces, each at most 90 minutes on one core; a call without it goes on from
what is there and writes the document.
"""

from absl import flags

from neuroadapter_jax.commands.given import SIMULATED, holds
from neuroadapter_jax.commands.machine import plan_memory, use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.ranges import named


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "prepared", "root", "out", "num_images", "batch_size", "images_at_once",
        "seed", "allow_other",
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
    holds(values, "root", *SIMULATED)
    for name, default, help in (
        ("num_ranked", 40, "Of these, for the effect of every region."),
        ("num_ordered", 16, "Of those, for deletion and insertion."),
        ("num_replaced", 60, "Images for replacing a category's ROI."),
        ("num_moved", 30, "Images for what early and category ROIs change."),
        ("num_random", 3, "Matched random sets per image and silenced ROI, of 20 that take turns."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    flags.DEFINE_list(
        "more_models",
        [],
        "Folders of the same model trained with other seeds; their maps are looked at as well.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "only",
        [],
        "Pieces to compute, of maps, models, ranks, deletion, silence, silence-largest, mean, swap "
        "and changes; all when not given.",
        flag_values=values,
    )


def main(values: CommandFlags, arguments: list[str]) -> None:
    use_cpu_cores(values.batch_size)

    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
    from neuroadapter_jax.studies.attention_truth import (
        PIECES,
        AttentionTruthSettings,
        check_pieces,
        run_attention_truth,
        tables,
    )

    settings = AttentionTruthSettings(
        num_images=values.num_images,
        num_ranked=values.num_ranked,
        num_ordered=values.num_ordered,
        num_replaced=values.num_replaced,
        num_moved=values.num_moved,
        num_random=values.num_random,
        batch_size=values.batch_size,
        seed=values.seed,
        allow_other=tuple(values.allow_other),
    )
    only = tuple(values.only) or PIECES
    with named("--"):
        check_pieces(only)

    def load(name: str) -> NeuroAdapterPipeline:
        return NeuroAdapterPipeline.from_pretrained(name, allow_other=values.allow_other)

    pipeline, others = load(values.model), {name: load(name) for name in values.more_models}
    plan_memory(values, pipeline, num_rois=20)
    results = run_attention_truth(
        pipeline, values.prepared, values.root, values.out, settings, others=others, only=only
    )
    if results is None:
        print(f"Written to {values.out}/parts: {', '.join(only)}")
        return
    print(tables(results))
    print(f"Written to {values.out}: results.json, tables.md, document.md, images/")
