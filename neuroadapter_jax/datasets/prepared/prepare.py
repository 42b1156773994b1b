"""Turns a dataset on disk into prepared records: what goes in, not how it is written."""

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from neuroadapter_jax.datasets.belonging import simulation_of
from neuroadapter_jax.datasets.nsd.checks import (
    Check,
    refuse_differences,
    refuse_strangers,
    table_of,
)
from neuroadapter_jax.datasets.nsd.source import NSDSelection
from neuroadapter_jax.datasets.prepared.images import ImageEncoder, in_batches_of
from neuroadapter_jax.datasets.prepared.job import Job
from neuroadapter_jax.datasets.prepared.records import (
    CORTEX,
    INDEX,
    PROVENANCE,
    REGIONS,
    SIMULATION,
    STIMULI,
    read_provenance,
)
from neuroadapter_jax.datasets.prepared.shards import RecordSource, WriteRecords
from neuroadapter_jax.datasets.prepared.source_files import fingerprint_source, write_table
from neuroadapter_jax.datasets.prepared.throughput import forget_cached, plain_copy_rate
from neuroadapter_jax.datasets.prepared.work import only_request
from neuroadapter_jax.datasets.source import DirectSource, Source, check_source, checked_ncsnr
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, require_same_settings, write_json, write_npz
from neuroadapter_jax.locks import locked
from neuroadapter_jax.ranges import Count, check_fields

_FORMAT = 1
# What folders of older versions were made with, where they do not say.
_FORMERLY = {"dataset": "nsd", "split": "shared"}


@dataclasses.dataclass(frozen=True)
class PreparationSettings:
    """How a dataset is prepared, whichever it is.

    Attributes:
        image_size: images are resized (bilinear, as the released decoder does) to this square.
        batch_size: images encoded at once.
        accept_differences: go on where counts, first images or SNR differ from published ones.
        compare_disk: measure a plain copy of the same bytes as well (of a `DirectSource`).
        progress: whether to show progress bars and tables.
    """

    image_size: Count = 512
    batch_size: Count = 16
    accept_differences: bool = False
    compare_disk: bool = False
    progress: bool = True

    def __post_init__(self):
        check_fields(self)


def prepare_subject(
    root: str | Path,
    prepared: str | Path,
    encoder: ImageEncoder,
    selection: NSDSelection | None = None,
    settings: PreparationSettings | None = None,
    *,
    write_records: WriteRecords | None = None,
) -> Path:
    """Prepares one subject of NSD; see `prepare_source`.

    Args:
        root: NSD's folder.
        prepared: the folder to make.
        encoder: of the images; see `load_image_encoder`.
        selection: which responses and images, how normalised and split; subject 1 when None.
        settings: the defaults when None.
        write_records: see `prepare_source`.

    Raises:
        MissingFileError: a file of NSD is missing, or the folder exists and is no prepared one.
        InputError: NSD's files disagree, the split cannot be made, or what `prepare_source` says.
    """
    source = (selection or NSDSelection()).open(root)
    return prepare_source(source, prepared, encoder, settings, write_records=write_records)


def prepare_source(
    source: Source,
    prepared: str | Path,
    encoder: ImageEncoder,
    settings: PreparationSettings | None = None,
    *,
    write_records: WriteRecords | None = None,
) -> Path:
    """Prepares a dataset: a record per split and stimulus, and what is needed to read them.

    Beside the records the folder holds `cortex.npz` (SNR and number of features), `index.npz` (the
    stimuli of each split), `stimuli.npz` (their names, and whether they have an image),
    `provenance.json` and, where the source has its own regions, `regions.npz`.

    Three steps, each in units that are not done again after a kill: the responses block by block;
    the latents of the images; the record files. Any number of processes may be given the same call
    on the same folder; they share the units. A `DirectSource` is read where it lies: memory holds
    its statistics and a few record files (128 MiB each), whatever the number of trials. The
    trials of another source wait as float16 in a temporary file.

    The folder appears only when complete. If it exists and came from the same input, nothing is
    done. Unfinished work waits in `PREPARED.partial`.

    Args:
        source: see `Source`.
        prepared: the folder to make.
        encoder: of the images; see `load_image_encoder`.
        settings: the defaults when None.
        write_records: writes the record files; `datasets.tfds` when None.

    Raises:
        MissingFileError: the folder exists and is no prepared one.
        InputError: the folder came from other input; the source contradicts itself; its splits are
            empty; something differs from what is published; float16 cannot hold a response or a
            latent; another process prepares other input in the folder; responses do not belong to
            their SNR or to one another; or what the source raises.
    """
    prepared, settings = Path(prepared), settings or PreparationSettings()
    check_source(source)
    partial = prepared.with_name(prepared.name + ".partial")
    exists = prepared.is_dir() and any(prepared.iterdir())
    made = _FORMERLY | read_provenance(prepared)["request"] if exists else {}
    request = {
        "format": _FORMAT,
        "dataset": source.name,
        "source": fingerprint_source(
            source, (prepared, partial), made.get("source"), progress=settings.progress
        ),
        "subject": source.subject,
        **source.settings,
        "image_size": settings.image_size,
        "encoder": encoder.fingerprint,
    }
    if exists:
        # A key that an older version did not write stands for None.
        require_same_settings(prepared, {k: made.get(k) for k in request}, request, "records")
        write_table(source, prepared)
        shutil.rmtree(prepared / "work", ignore_errors=True)  # of a process killed as it ended
        return prepared
    shown, splits = source.trial_image_ids(), source.splits()
    image_ids = {split: np.unique(shown[trials]) for split, trials in splits.items()}
    if empty := [split for split, ids in image_ids.items() if not len(ids)] or not splits:
        raise InputError(
            f"{source.name} of subject {source.subject} has no trials in the splits {empty}; every "
            f"split needs at least one."
        )
    comparison = _Comparison(source, settings)
    comparison.before_preparing()

    if partial.exists() and not ((partial / "work").is_dir() or (partial / PROVENANCE).is_file()):
        refuse_foreign(partial.parent, [partial.name], ours=not any(partial.iterdir()))
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_request(partial / "work", request))
            if (prepared / PROVENANCE).exists():  # finished since this process looked
                shutil.rmtree(partial)
                return prepared
            write_table(source, partial)
            job = Job(
                source,
                splits,
                image_ids,
                partial / "work",
                request,
                image_size=settings.image_size,
                progress=settings.progress,
            )
            stack.callback(job.close)
            job.open_trials()
            job.encode(in_batches_of(encoder.encode, settings.batch_size))
            folder = job.write(write_records or _write_with_tfds, partial)
            with locked(partial / "finish.lock"):
                if (prepared / PROVENANCE).exists():  # another process was faster
                    return prepared
                ncsnr = job.ncsnr_from_repeats()
                comparison.after_preparing(job, ncsnr, partial)
                provenance: dict[str, Any] = {
                    "request": request,
                    "records": folder.relative_to(partial).as_posix(),
                    "shapes": {
                        key: [-1 if size is None else size for size in shape]
                        for key, shape in job.shapes.items()
                    },
                    "images": {split: len(ids) for split, ids in image_ids.items()},
                    "trials": len(shown),
                    "nan_vertices_set_to_0": job.trials.nan_vertices,
                    "checks": [dataclasses.asdict(row) for row in comparison.rows],
                }
                if (simulation := simulation_of(source.root)) is not None:
                    provenance[SIMULATION] = simulation
                _write_tables(partial, source, image_ids, job, ncsnr)
                write_json(partial / PROVENANCE, provenance)
                (partial / "finish.lock").unlink()
                # From here on others find nothing where they work, and the whole folder here.
                partial.replace(prepared)
                shutil.rmtree(prepared / "work")
    except FileNotFoundError:
        if not (prepared / PROVENANCE).exists():  # else another process has just finished it
            raise
    return prepared


class _Comparison:
    """What was read held against what is published, of a source whose values are published.

    Args:
        source: what is prepared.
        settings: of the preparation.

    Attributes:
        rows: of the table, as far as it is known.
    """

    def __init__(self, source: Source, settings: PreparationSettings):
        self._source = source if isinstance(source, DirectSource) else None
        self._settings = settings
        self.rows: list[Check] = []

    def before_preparing(self) -> None:
        """Counts, first images and SNR; refuses what differs, unless that is accepted."""
        if self._source is None:
            return
        self.rows += self._source.check_before_preparing()
        if self.rows:
            self._say("\n".join(table_of(self.rows)))
            refuse_differences(self.rows, self._source.root, self._settings.accept_differences)
        if self._settings.compare_disk:
            forget_cached(self._source.response_files)

    def after_preparing(self, job: Job, ncsnr: np.ndarray, folder: Path) -> None:
        """SNR, noise ceilings and sessions; refuses responses of another hemisphere or session."""
        if self._source is None:
            return
        found = self._source.check_responses(
            ncsnr, job.trials.nan_vertices, job.session_agreement()
        )
        self.rows += found
        self._say("\n".join(table_of(found)))
        refuse_strangers(found, self._source.root, self._settings.accept_differences)
        self._say(job.meter.describe("Responses and records, without the latents"))
        if self._settings.compare_disk:
            plain = plain_copy_rate(self._source.response_files, job.meter.bytes_written, folder)
            self._say(
                f"A plain sequential read and write of the same bytes: {plain:.0f} MB/s; preparing "
                f"reached {job.meter.rate / plain:.2f} of it"
            )

    def _say(self, text: str) -> None:
        if self._settings.progress:
            print(text)


def _write_with_tfds(records: RecordSource, folder: Path) -> Path:
    # Importing TFDS takes seconds, and only writing needs it.
    from neuroadapter_jax.datasets.tfds import write_records

    return write_records(records, folder)


def _write_tables(
    folder: Path,
    source: Source,
    image_ids: dict[str, Int64[np.ndarray, " images"]],
    job: Job,
    ncsnr: np.ndarray,
) -> None:
    write_npz(
        folder / CORTEX,
        num_vertices=np.array(source.num_vertices),
        ncsnr=checked_ncsnr(source),
        ncsnr_from_repeats=ncsnr,
    )
    index: dict[str, Any] = dict(image_ids)
    stimuli: dict[str, Any] = dict(job.stimuli())
    write_npz(folder / INDEX, **index)
    write_npz(folder / STIMULI, **stimuli)
    if source.regions is not None:
        source.regions.save(folder / REGIONS)
