"""Turn a training run's checkpoint into a model.

    neuroadapter export --run runs/demo/train --out runs/demo/model
    neuroadapter export --run runs/nsd-sd15-banks/train --subject 5 --out model-subj05

The checkpoint is that of the best validation, or with --last the last one. The model is a folder
that `NeuroAdapterPipeline.from_pretrained` and --model take.
"""

from absl import flags

from neuroadapter_jax.commands.given import must_exist
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared


def define(values: CommandFlags) -> None:
    define_shared(
        values, "run", "out", "subject", "results",
        required=("run", "out"),
        helps={"subject": "Which subject's, of a model of several."},
    )  # fmt: skip
    flags.DEFINE_bool(
        "last", False, "Take the last checkpoint, not that of the best validation.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool("half", False, "Write float16 weights.", flag_values=values)
    must_exist(values, "results")


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.decoders.neuroadapter import export_run

    scores = None
    if values.results:
        from neuroadapter_jax.evaluation.results import read_results
        from neuroadapter_jax.evaluation.score_table import score_text

        scores = score_text(read_results(values.results))
    export_run(
        values.run,
        values.out,
        half=values.half,
        last=values.last,
        subject=values.subject,
        scores=scores,
    )
    print(f"Exported: {values.out}")
