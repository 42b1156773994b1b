"""Fingerprints of what a training reads, so that a run goes on with the same content only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuroadapter_jax.cortex.parcellation import Parcels
from neuroadapter_jax.datasets.prepared.records import PROVENANCE, PreparedDataset
from neuroadapter_jax.ranges import SettingError


def require_images_for_batch(batch_size: int, num_images: int, prepared: object) -> None:
    """Refuse a batch of more images than there are: some would be in it twice.

    Args:
        batch_size: images per step.
        num_images: of the training split.
        prepared: folder or folders of the records, for the message.

    Raises:
        SettingError: so it is.
    """
    if batch_size > num_images:
        wanted = f"at most {num_images}, the number of training images in {prepared}"
        raise SettingError("batch_size", batch_size, wanted)


def record_inputs(
    prepared: str | Sequence[str], parcellation: Sequence[str], parcels: Parcels
) -> dict[str, Any]:
    """Fingerprints of records and parcellation by the names of their settings.

    What is not there yet, since it is still to be prepared, has none.

    Args:
        prepared: folder of prepared records, or one per subject.
        parcellation: label files.
        parcels: see `read_parcellation`.
    """
    folders = [Path(each) for each in ([prepared] if isinstance(prepared, str) else prepared)]
    if not all((folder / PROVENANCE).is_file() for folder in folders):
        return {}
    splits = [PreparedDataset(f, split) for f in folders for split in ("train", "validation")]
    found: dict[str, Any] = {"prepared": [split.fingerprint for split in splits]}
    if all(Path(file).is_file() for file in parcellation):
        regions = splits[0].parcellation(parcellation, parcels)
        found["parcellation"] = regions.vertex_fingerprint()
    return found
