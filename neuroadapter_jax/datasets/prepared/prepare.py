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
from neuroadapter_jax.datasets.prepared.shares import (
    Share,
    collect,
    is_done,
    note_done,
    require_place,
    share_folders,
)
from neuroadapter_jax.datasets.prepared.source_files import fingerprint_source, write_table
from neuroadapter_jax.datasets.prepared.throughput import forget_cached, plain_copy_rate
from neuroadapter_jax.datasets.prepared.work import note_request, sole_preparation
from neuroadapter_jax.datasets.source import DirectSource, Source, check_source, checked_ncsnr
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, require_same_settings, write_json, write_npz
from neuroadapter_jax.locks import only_run
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
    the latents of the images; the record files. What `prepare_share` did of the first two, in
    `PREPARED.shards`, is taken over. A `DirectSource` is read where it lies: memory holds
    its statistics and a few record files (128 MiB each), whatever the number of trials. The
    trials of another source wait as float16 in a temporary file.

    The folder appears only when complete. If it exists and came from the same input, nothing is
    done. Unfinished work waits in `PREPARED.partial`. A second process that is given the same call
    waits for the first.

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
            latent; another process prepares other input in the folder; a share is missing;
            responses do not belong to their SNR or to one another; or what the source raises.
    """
    settings = settings or PreparationSettings()
    preparation = _Preparation(source, Path(prepared), encoder, settings)
    prepared, partial = preparation.prepared, preparation.partial
    if preparation.is_finished():
        return prepared
    preparation.check()
    if partial.exists() and not ((partial / "work").is_dir() or (partial / PROVENANCE).is_file()):
        refuse_foreign(partial.parent, [partial.name], ours=not any(partial.iterdir()))
    with sole_preparation(prepared, partial / "work", preparation.request):
        if preparation.is_finished():  # by another process, since this one looked
            return prepared
        # Before anything is written: a share may be missing.
        collect(prepared, partial / "work", preparation.request)
        note_request(partial / "work", preparation.request)
        write_table(source, partial)
        with contextlib.closing(preparation.job(partial / "work")) as job:
            job.open_trials()
            job.encode(preparation.encode)
            folder = job.write(write_records or _write_with_tfds, partial)
            preparation.describe(job, folder)
            # From here on the whole folder is there.
            partial.replace(prepared)
            shutil.rmtree(prepared / "work")
    return prepared


def prepare_share(
    source: Source,
    prepared: str | Path,
    encoder: ImageEncoder,
    share: Share,
    settings: PreparationSettings | None = None,
) -> Path:
    """Does one of N shares of what `prepare_source` does, in a folder that no other share touches.

    The shares may be done anywhere, in any order and at the same time, on machines that share a
    file system. Once all are done, `prepare_source` puts them together; its files are the same to
    the byte as without shares. A share that was killed goes on where it was when it is called
    again, and one that is done is not done again.

    A share is every N-th block of responses and every N-th file of 256 images: statistics or copies
    of the ones, squares and latents of the others. Nothing is done where the prepared folder is
    there already.

    Args:
        source: see `Source`.
        prepared: the folder that is to be made in the end; shares go to `PREPARED.shards/K-of-N`.
        encoder: of the images; see `load_image_encoder`.
        share: which one of how many.
        settings: the defaults when None.

    Returns:
        The folder of the share, or the prepared one where that is there.

    Raises:
        MissingFileError: the prepared folder exists and is no prepared one.
        InputError: what `prepare_source` refuses before it begins; shares of another count, or this
            one of other input, are there; or another process is at this share.
    """
    settings = settings or PreparationSettings()
    preparation = _Preparation(source, Path(prepared), encoder, settings)
    if preparation.is_finished():
        return preparation.prepared
    folder, request = share.folder(preparation.prepared), preparation.request
    require_place(share, preparation.prepared)
    if is_done(share, preparation.prepared, request):
        return folder
    preparation.check()
    with only_run(folder, f"shard {share} of a preparation"):
        write_table(source, folder)
        preparation.job(folder).store_share(preparation.encode, share.number - 1, share.count)
        note_done(share, preparation.prepared, request)
    return folder


class _Preparation:
    """What one preparation reads, makes and is compared with.

    Args:
        source: what is prepared.
        prepared: the folder to make.
        encoder: of the images.
        settings: of the preparation.

    Attributes:
        prepared: the folder to make.
        partial: where it is made.
        request: all that the records depend on.
        encode: the images, in batches of one size.
    """

    def __init__(
        self, source: Source, prepared: Path, encoder: ImageEncoder, settings: PreparationSettings
    ):
        self._source, self._settings = source, settings
        self.prepared = prepared
        self.partial = prepared.with_name(prepared.name + ".partial")
        self.encode = in_batches_of(encoder.encode, settings.batch_size)
        made = self._made() or {}
        tables = (prepared, self.partial, *share_folders(prepared))
        self.request: dict[str, Any] = {
            "format": _FORMAT,
            "dataset": source.name,
            "source": fingerprint_source(
                source, tables, made.get("source"), progress=settings.progress
            ),
            "subject": source.subject,
            **source.settings,
            "image_size": settings.image_size,
            "encoder": encoder.fingerprint,
        }

    def _made(self) -> dict[str, Any] | None:
        if not (self.prepared.is_dir() and any(self.prepared.iterdir())):
            return None
        return _FORMERLY | read_provenance(self.prepared)["request"]

    def is_finished(self) -> bool:
        """Whether the folder is there; refuses one that was made from other input."""
        if (made := self._made()) is None:
            return False
        # A key that an older version did not write stands for None.
        require_same_settings(
            self.prepared, {k: made.get(k) for k in self.request}, self.request, "records"
        )
        write_table(self._source, self.prepared)
        # Of a process that was killed as it ended.
        shutil.rmtree(self.prepared / "work", ignore_errors=True)
        return True

    def check(self) -> None:
        """Read the splits; refuse what differs from what is published, before anything is done."""
        source = self._source
        check_source(source)
        self._shown, self._splits = source.trial_image_ids(), source.splits()
        self._ids = {split: np.unique(self._shown[t]) for split, t in self._splits.items()}
        if empty := [split for split, ids in self._ids.items() if not len(ids)] or not self._splits:
            raise InputError(
                f"{source.name} of subject {source.subject} has no trials in the splits {empty}; "
                f"every split needs at least one."
            )
        self._comparison = _Comparison(source, self._settings)
        self._comparison.before_preparing()

    def job(self, work: Path) -> Job:
        """The steps, whose units are in a work folder."""
        return Job(
            self._source,
            self._splits,
            self._ids,
            work,
            self.request,
            image_size=self._settings.image_size,
            progress=self._settings.progress,
        )

    def describe(self, job: Job, folder: Path) -> None:
        """Writes beside the record files what is needed to read them."""
        ncsnr = job.ncsnr_from_repeats()
        self._comparison.after_preparing(job, ncsnr, self.partial)
        provenance: dict[str, Any] = {
            "request": self.request,
            "records": folder.relative_to(self.partial).as_posix(),
            "shapes": {
                key: [-1 if size is None else size for size in shape]
                for key, shape in job.shapes.items()
            },
            "images": {split: len(ids) for split, ids in self._ids.items()},
            "trials": len(self._shown),
            "nan_vertices_set_to_0": job.trials.nan_vertices,
            "checks": [dataclasses.asdict(row) for row in self._comparison.rows],
        }
        if (simulation := simulation_of(self._source.root)) is not None:
            provenance[SIMULATION] = simulation
        _write_tables(self.partial, self._source, self._ids, job, ncsnr)
        write_json(self.partial / PROVENANCE, provenance)


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
