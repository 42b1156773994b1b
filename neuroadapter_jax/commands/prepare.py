"""Prepare a subject's records, or simulate one first.

    neuroadapter prepare --config demo
    neuroadapter prepare --config nsd --config.data.root=DIR --config.data.subject=1 --dry-run
    neuroadapter prepare --config nsd --config.data.root=DIR --config.data.subject=1

--config names a subject of NSD (nsd), a simulated one (demo, or as noisy as NSD's: nsd_like), or
another dataset (bold5000, mosaic, nsd_imagery, deeprecon, derived_nsd, algonauts2023);
docs/datasets.md says which files each needs.

A simulated subject is made first. Both steps are skipped where their folder exists and was made
from the same settings. What is interrupted goes on when the same command is given again.

Jobs that know nothing of one another share the work by --shard=K/N, such as an array of SLURM:

    neuroadapter prepare --config nsd --config.data.root=DIR --shard=3/8
    neuroadapter prepare --config nsd --config.data.root=DIR      once all eight are done
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict

from neuroadapter_jax.commands.config_values import (
    check_data,
    nsd_selection,
    open_source,
    per_subject,
    preparation_settings,
    simulate,
)
from neuroadapter_jax.commands.config_values import fetching_plan as reader_plan
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.given import excludes
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.files import require_folder_place
from neuroadapter_jax.ranges import named

if TYPE_CHECKING:
    from neuroadapter_jax.datasets.prepared.shares import Share


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "allow_pickle", "dry_run",
        helps={"dry_run": "Say which files are missing and how to fetch them, and do nothing."},
    )  # fmt: skip
    for name, help in {
        "accept_differences": "Go on where counts or SNR differ from the published ones.",
        "compare_disk": "Measure a plain copy of the same bytes as well.",
        "verify": "Compare finished records with their checksums, and do nothing else.",
    }.items():
        flags.DEFINE_bool(name, False, help, flag_values=values)
    flags.DEFINE_string(
        "shard", None, "K/N: do the K-th of N shards of the work, in a folder of its own; once all "
        "are done, the same command without it puts them together.", flag_values=values,
    )  # fmt: skip
    excludes(values, "shard", "dry_run", "verify", "compare_disk")
    excludes(values, "dry_run", "verify", "accept_differences", "compare_disk")
    excludes(values, "verify", "accept_differences", "compare_disk", "allow_pickle")


def prepare_records(
    config: ConfigDict,
    *,
    allow_pickle: bool = False,
    accept_differences: bool = False,
    compare_disk: bool = False,
    share: "Share | None" = None,
) -> Path:
    """Make `config.data.prepared`, or a share of it, unless it is there already.

    Args:
        config: with the sections `data` and `backbone`.
        allow_pickle: read metadata that are a pickle, as arrays and numbers only.
        accept_differences: go on where counts or SNR differ from the published ones.
        compare_disk: measure a plain copy of the same bytes as well.
        share: do no more than this share.

    Returns:
        The folder of the records, or of the share.
    """
    from neuroadapter_jax.datasets.prepared.image_encoder import (
        load_image_encoder,
        require_image_size,
    )
    from neuroadapter_jax.datasets.prepared.prepare import prepare_share, prepare_source

    data = config.data
    settings = preparation_settings(
        config, accept_differences=accept_differences, compare_disk=compare_disk
    )
    # Before the weights, and before anything is simulated: what is wrong is said first.
    check_data(config, allow_pickle)
    source = open_source(data, allow_pickle) if "dataset" in data else None
    require_folder_place("config.data.prepared", data.prepared)
    with named("config.data."):
        require_image_size(config.backbone, data.image_size)
    if source is None:
        simulate(data)
        source = nsd_selection(data).open(data.root)
    encoder = load_image_encoder(config.backbone)
    if share is not None:
        return prepare_share(source, data.prepared, encoder, share, settings)
    return prepare_source(source, data.prepared, encoder, settings)


def dry_run(data: ConfigDict, allow_pickle: bool = False) -> None:
    """Say what is missing; exit with 1 where something that is needed is."""
    from neuroadapter_jax.datasets.nsd.files import fetching_plan, subject_files

    if "dataset" in data:
        if (found := reader_plan(data)) is not None:
            lines, complete = found
            print("\n".join(lines))
            if not complete:
                sys.exit(1)
        # Names the first file that is missing, and where it is available.
        source = open_source(data, allow_pickle)
        print(f"All {len(source.files)} files that {data.dataset} needs are there.")
        return
    if data.simulation is not None:
        print(f"Nothing to fetch: the subject is simulated into {data.root}.")
        return
    chosen = nsd_selection(data)
    files = subject_files(chosen.subject, chosen.space, chosen.beta_version, chosen.sessions)
    lines, complete = fetching_plan(data.root, files)
    print("\n".join(lines))
    sys.exit(0 if complete else 1)


def verify(prepared: Path) -> None:
    """Say which record files are damaged; exit with 1 where one is."""
    from neuroadapter_jax.datasets.prepared.records import PROVENANCE, read_provenance
    from neuroadapter_jax.datasets.prepared.shards import verify_checksums
    from neuroadapter_jax.files import inside

    folder = inside(prepared, read_provenance(prepared)["records"], prepared / PROVENANCE)
    if wrong := verify_checksums(folder):
        sys.exit(
            f"prepare: {len(wrong)} record files of {folder} are missing or damaged, the first "
            f"being {wrong[0]}; copy them again, or delete {prepared} and prepare it again."
        )
    print(f"Every record file of {folder} is as it was written.")


def read_share(text: str | None) -> "Share | None":
    """What --shard says; None where it is not given."""
    if text is None:
        return None
    from neuroadapter_jax.datasets.prepared.shares import Share

    with named("--"):
        return Share.parse(text)


def main(values: CommandFlags, arguments: list[str]) -> None:
    config = values.config
    share = read_share(values.shard)
    check_data(config, values.allow_pickle)
    if values.dry_run:
        dry_run(config.data, values.allow_pickle)
        return
    if values.verify:
        verify(Path(config.data.prepared))
        return
    from neuroadapter_jax.datasets.prepared.records import describe

    other = "dataset" in config.data
    for one in per_subject(config):
        prepared = prepare_records(
            one,
            allow_pickle=values.allow_pickle,
            accept_differences=values.accept_differences,
            compare_disk=values.compare_disk,
            share=share,
        )
        subject = one.data.reader.subject if other else one.data.subject
        if share is not None and prepared != Path(one.data.prepared):
            print(
                f"Shard {share} of subject {subject} is done: {prepared}. Once all {share.count} "
                f"are, the same command without --shard puts them together."
            )
            continue
        print(f"Prepared records of subject {subject}: {prepared}")
        for line in describe(prepared) if other else []:
            print(line)
