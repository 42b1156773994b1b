"""Prepare a subject's records, simulating the subject first if the config says so.

    python launch/prepare.py --config configs/demo.py [--config.data.prepared=DIR]
    python launch/prepare.py --config configs/nsd.py --config.data.root=DIR --config.data.subject=1
        --dry_run               say which files are missing, and how to fetch them
        --accept_differences    go on where counts or SNR differ from the published ones
        --compare_disk          measure a plain copy of the same bytes as well
        --verify                compare finished records with their checksums

Both steps are skipped where their folder exists and was made from the same settings. What is
interrupted goes on when the same command is given again. Several processes may be given it at the
same time; they share the work.
"""

import importlib
import sys
from pathlib import Path

import command_line
from absl import flags
from ml_collections import ConfigDict

from neuroadapter_jax.datasets.image_encoder import load_image_encoder
from neuroadapter_jax.datasets.nsd_files import fetching_plan, subject_files
from neuroadapter_jax.datasets.prepare import RecordSource, prepare_subject
from neuroadapter_jax.datasets.records import read_provenance
from neuroadapter_jax.datasets.shards import verify_checksums
from neuroadapter_jax.simulation.nsd_writer import write_nsd
from neuroadapter_jax.simulation.subject import SubjectConfig

FLAGS = flags.FLAGS


def prepare(
    config: ConfigDict, accept_differences: bool = False, compare_disk: bool = False
) -> Path:
    """Makes `config.data.prepared` unless it is there already; returns it."""
    data = config.data
    if data.simulation is not None:
        write_nsd(data.root, SubjectConfig(**data.simulation.to_dict()))
    encode_images, encoder_fingerprint = load_image_encoder(config.backbone)
    return prepare_subject(
        data.root,
        data.prepared,
        encode_images=encode_images,
        encoder_fingerprint=encoder_fingerprint,
        write_records=_write_records,
        subject=data.subject,
        space=data.space,
        beta_version=data.beta_version,
        sessions=data.get("sessions"),
        normalize=data.normalize,
        split=data.get("split", "shared"),
        image_size=data.image_size,
        num_validation=data.num_validation,
        accept_differences=accept_differences,
        compare_disk=compare_disk,
    )


def dry_run(data: ConfigDict) -> None:
    """Say what is missing; exit with 1 where something that is needed is."""
    if data.simulation is not None:
        print(f"Nothing to fetch: the subject is simulated into {data.root}.")
        return
    files = subject_files(data.subject, data.space, data.beta_version, data.get("sessions"))
    lines, complete = fetching_plan(data.root, files)
    print("\n".join(lines))
    sys.exit(0 if complete else 1)


def verify(prepared: Path) -> None:
    """Say which record files are damaged; exit with 1 where one is."""
    folder = prepared / read_provenance(prepared)["records"]
    if wrong := verify_checksums(folder):
        sys.exit(
            f"prepare: {len(wrong)} record files of {folder} are missing or damaged, the first "
            f"being {wrong[0]}; copy them again, or delete {prepared} and prepare it anew."
        )
    print(f"Every record file of {folder} is as it was written.")


def _write_records(source: RecordSource, folder: Path) -> Path:
    # The folder data/ is not part of the package, and importing it imports TensorFlow.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return importlib.import_module(f"data.{source.name}").write_records(source, folder)


def main(_) -> None:
    config = _CONFIG.value
    try:
        if FLAGS.dry_run:
            dry_run(config.data)
            return
        if FLAGS.verify:
            verify(Path(config.data.prepared))
            return
        prepared = prepare(config, FLAGS.accept_differences, FLAGS.compare_disk)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"prepare: {error}")
    print(f"Prepared records of subject {config.data.subject}: {prepared}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    flags.DEFINE_bool("dry_run", False, "Say which files are missing, and do nothing.")
    flags.DEFINE_alias("dry-run", "dry_run")
    flags.DEFINE_bool("accept_differences", False, "Go on where published values differ.")
    flags.DEFINE_bool("compare_disk", False, "Measure a plain copy of the same bytes as well.")
    flags.DEFINE_bool("verify", False, "Compare finished records with their checksums.")
    command_line.run(main)
