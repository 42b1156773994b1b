"""Prepare a subject's records, simulating the subject first if the config says so.

    python launch/prepare.py --config configs/demo.py [--config.data.prepared=DIR]
    python launch/prepare.py --config configs/nsd.py --config.data.root=DIR --config.data.subject=1
        --dry_run               say which files are missing, and how to fetch them
        --accept_differences    go on where counts or SNR differ from the published ones
        --compare_disk          measure a plain copy of the same bytes as well
        --verify                compare finished records with their checksums

A config with `data.dataset` (configs/nsd_imagery.py, configs/deeprecon.py, ...) is of another
dataset, whose reader takes `data.reader`; docs/datasets.md lists them.

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

from neuroadapter_jax.datasets.algonauts import Algonauts2023
from neuroadapter_jax.datasets.deeprecon import Deeprecon
from neuroadapter_jax.datasets.derived import DerivedNSD
from neuroadapter_jax.datasets.nsd.files import fetching_plan, subject_files
from neuroadapter_jax.datasets.nsd.imagery import NSDImagery
from neuroadapter_jax.datasets.prepared.image_encoder import load_image_encoder
from neuroadapter_jax.datasets.prepared.prepare import RecordSource, prepare_source, prepare_subject
from neuroadapter_jax.datasets.prepared.records import describe, read_provenance
from neuroadapter_jax.datasets.prepared.shards import verify_checksums
from neuroadapter_jax.datasets.source import Source
from neuroadapter_jax.simulation.nsd_writer import write_nsd
from neuroadapter_jax.simulation.subject import SubjectConfig

FLAGS = flags.FLAGS


READERS = {
    "nsd_imagery": NSDImagery,
    "deeprecon": Deeprecon,
    "derived_nsd": DerivedNSD,
    "algonauts2023": Algonauts2023,
}


def open_source(data: ConfigDict) -> Source:
    """The reader that `data.dataset` names, on `data.reader`."""
    if data.dataset not in READERS:
        raise ValueError(
            f"data.dataset is {data.dataset!r}; the readers are {', '.join(sorted(READERS))}."
        )
    options = data.reader.to_dict()
    if data.dataset == "derived_nsd":
        options["allow_pickle"] = FLAGS.allow_pickle
    return READERS[data.dataset](**options)


def prepare(
    config: ConfigDict, accept_differences: bool = False, compare_disk: bool = False
) -> Path:
    """Makes `config.data.prepared` unless it is there already; returns it."""
    data = config.data
    if "dataset" in data:
        source = open_source(data)  # before the weights: a wrong folder is answered at once
        encode_images, encoder_fingerprint = load_image_encoder(config.backbone)
        return prepare_source(
            source,
            data.prepared,
            encode_images=encode_images,
            encoder_fingerprint=encoder_fingerprint,
            write_records=_write_records,
            image_size=data.image_size,
        )
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
    if "dataset" in data:
        source = open_source(data)  # names the first file that is missing, and where to get it
        print(f"All {len(source.files)} files that {data.dataset} needs are there.")
        return
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


def define_allow_pickle() -> None:
    """The flag without which a reader opens no pickle."""
    flags.DEFINE_bool(
        "allow_pickle", False, "Read metadata that are a pickle, as arrays and numbers only."
    )
    flags.DEFINE_alias("allow-pickle", "allow_pickle")


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
    other = "dataset" in config.data
    subject = config.data.reader.subject if other else config.data.subject
    print(f"Prepared records of subject {subject}: {prepared}")
    for line in describe(prepared) if other else []:
        print(line)


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    define_allow_pickle()
    flags.DEFINE_bool("dry_run", False, "Say which files are missing, and do nothing.")
    flags.DEFINE_alias("dry-run", "dry_run")
    flags.DEFINE_bool("accept_differences", False, "Go on where published values differ.")
    flags.DEFINE_bool("compare_disk", False, "Measure a plain copy of the same bytes as well.")
    flags.DEFINE_bool("verify", False, "Compare finished records with their checksums.")
    command_line.run(main)
