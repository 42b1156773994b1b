"""Prepare a subject's records, simulating the subject first if the config says so.

    python launch/prepare.py --config configs/demo.py [--config.data.prepared=DIR]

Both steps are skipped where their folder exists and was made from the same settings.
"""

import importlib
import sys
from pathlib import Path

import command_line
from ml_collections import ConfigDict

from neuroadapter_jax.datasets.image_encoder import load_image_encoder
from neuroadapter_jax.datasets.prepare import RecordSource, prepare_subject
from neuroadapter_jax.simulation.nsd_writer import write_nsd
from neuroadapter_jax.simulation.subject import SubjectConfig


def prepare(config: ConfigDict) -> Path:
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
        image_size=data.image_size,
        num_validation=data.num_validation,
    )


def _write_records(source: RecordSource, folder: Path) -> Path:
    # The folder data/ is not part of the package, and importing it imports TensorFlow.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return importlib.import_module(f"data.{source.name}").write_records(source, folder)


def main(_) -> None:
    config = _CONFIG.value
    try:
        prepared = prepare(config)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"prepare: {error}")
    print(f"Prepared records of subject {config.data.subject}: {prepared}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    command_line.run(main)
