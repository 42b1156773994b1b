r"""Publish a model on the Hugging Face Hub, with its card.

    neuroadapter publish --model runs/demo/model --repo my-lab/neuroadapter-demo \
        --licence cc-by-sa-4.0 --dry_run --out runs/demo/publication
    neuroadapter publish --model DIR --repo my-lab/neuroadapter-subj01 --licence cc-by-4.0 \
        --results runs/reconstructions/results.json --interpretation runs/views --private
    neuroadapter publish --encoder DIR --repo my-lab/encoder-subj01 --licence cc-by-4.0

With --dry_run nothing is sent: --out gets what would be, and neither a connection nor a login is
needed. What the model was trained on stands in its config.json; its licence you have to name. The
backbone's weights are never sent. `hf auth login` logs in.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.given import exactly_one, excludes, must_exist, needs
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import ExistingFileError
from neuroadapter_jax.files import here_or_shipped


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "encoder", "results", "licence", "dry_run", "out",
        helps={
            "licence": "Of the published files, as the Hub calls it: cc-by-4.0, mit, ..., other.",
            "dry_run": "Write what would be sent to --out, and send nothing.",
            "out": "With --dry_run: folder for what would be sent.",
        },
    )  # fmt: skip
    for name, help in {
        "repo": "Where on the Hub: owner/model.",
        "licence_name": "With --licence other: its name.",
        "licence_link": "With --licence other: where its text is.",
        "base_model": "The backbone's name on the Hub, where the model names a folder.",
        "interpretation": "Folder of `neuroadapter interpret`, whose page goes beside the model.",
        "revision": "Branch of the repository; main when not given.",
        "message": "Of the upload.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    flags.DEFINE_list("datasets", [], "Names on the Hub of the data.", flag_values=values)
    flags.DEFINE_bool("private", False, "Make a new repository private.", flag_values=values)
    values.require("repo", "licence")
    exactly_one(values, "model", "encoder")
    needs(values, "dry_run", "out")
    needs(values, "out", "dry_run")
    excludes(values, "encoder", "results", "interpretation")
    excludes(values, "dry_run", "private", "revision", "message")
    must_exist(values, "results", "interpretation")


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.hub.cards import CardDetails
    from neuroadapter_jax.hub.kinds import ADAPTER, ENCODER
    from neuroadapter_jax.hub.publishing import check_repo, prepare_publication, publish

    check_repo(values.repo)
    scores = None
    if values.results:
        from neuroadapter_jax.evaluation.for_cards import card_scores

        scores = card_scores(values.results)
    details = CardDetails(
        values.licence,
        values.licence_name,
        values.licence_link,
        values.base_model,
        tuple(values.datasets),
        scores,
    )
    kind, folder = (ADAPTER, values.model) if values.model else (ENCODER, values.encoder)
    folder = here_or_shipped(folder) or Path(folder)
    if values.dry_run:
        out = Path(values.out)
        if out.is_dir() and any(out.iterdir()):
            raise ExistingFileError(f"--out is {out}, which is not empty; name another folder.")
        files = prepare_publication(folder, out, values.repo, kind, details, values.interpretation)
        for name in files:
            print(f"{(out / name).stat().st_size:>12,} bytes  {name}")
        print(f"Not sent: {out} holds what would be in {values.repo}. Read {out / 'README.md'}.")
        return
    address = publish(
        folder,
        values.repo,
        kind,
        details,
        views=values.interpretation,
        private=values.private or None,
        commit_message=values.message,
        revision=values.revision,
    )
    print(f"Published: {address}")
