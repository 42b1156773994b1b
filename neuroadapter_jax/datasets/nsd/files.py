"""What NSD's bucket holds for one subject: places, sizes, and how to fetch what is missing."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from neuroadapter_jax.cortex.surface_files import MGH_HEADER_BYTES
from neuroadapter_jax.datasets.nsd.published import SESSIONS, TRIALS_PER_SESSION
from neuroadapter_jax.errors import InputError

BUCKET = "s3://natural-scenes-dataset"
HEMISPHERES = ("lh", "rh")
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
IMAGES = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
_VERTICES = {"fsaverage": 163_842}
_IMAGE_BYTES = 73_000 * 425 * 425 * 3


@dataclasses.dataclass(frozen=True)
class BucketFile:
    """One file: its path below the bucket's root, the least bytes it has, whether it is needed.

    `num_bytes` is None where the format does not tell it (tables, compressed labels). What is not
    `needed` only adds to the table of checks.
    """

    path: str
    num_bytes: int | None = None
    needed: bool = True

    def state(self, root: Path) -> str:
        """One of "here", "missing" and "truncated"."""
        place = root / self.path
        if not place.exists():
            return "missing"
        short = self.num_bytes is not None and place.stat().st_size < self.num_bytes
        return "truncated" if short else "here"


def betas_folder(subject: int, space: str, beta_version: str) -> str:
    """The folder of a subject's betas."""
    return f"nsddata_betas/ppdata/subj{subject:02d}/{space}/{beta_version}"


def responses_path(subject: int) -> str:
    """The table of a subject's behaviour."""
    return f"nsddata/ppdata/subj{subject:02d}/behav/responses.tsv"


def mask_path(space: str, hemisphere: str) -> str:
    """The label file of the region "nsdgeneral"."""
    return f"nsddata/freesurfer/{space}/label/{hemisphere}.nsdgeneral.mgz"


def subject_files(
    subject: int, space: str, beta_version: str, sessions: Sequence[int] | None = None
) -> list[BucketFile]:
    """Every file that preparing a subject reads.

    Args:
        subject: 1 to 8.
        space: surface of the betas.
        beta_version: one of NSD's three sets of betas.
        sessions: counted from 1; by default all that the subject has.

    Raises:
        InputError: another subject.
    """
    if subject not in SESSIONS:
        raise InputError(f"NSD has subjects 1 to {len(SESSIONS)}, not subject {subject}.")
    if sessions is None:
        sessions = range(1, SESSIONS[subject] + 1)
    vertices = _VERTICES.get(space)

    def mgh(name: str, frames: int) -> BucketFile:
        size = None if vertices is None else MGH_HEADER_BYTES + 4 * vertices * frames
        return BucketFile(f"{betas_folder(subject, space, beta_version)}/{name}", size)

    return [
        BucketFile(DESIGN),
        BucketFile(TABLE),
        BucketFile(responses_path(subject)),
        BucketFile(IMAGES, _IMAGE_BYTES),
        *(mgh(f"{h}.ncsnr.mgh", 1) for h in HEMISPHERES),
        *(
            mgh(f"{h}.betas_session{s:02d}.mgh", TRIALS_PER_SESSION)
            for s in sessions
            for h in HEMISPHERES
        ),
        *(BucketFile(mask_path(space, h), needed=False) for h in HEMISPHERES),
    ]


def fetch_command(path: str, root: Path) -> str:
    """The line that copies one file of the bucket to its place below root."""
    return f"aws s3 cp --no-sign-request {BUCKET}/{path} {root / path}"


def where_from(path: Path) -> str:
    """How to get a file below some root, as the end of a sentence."""
    parts = path.parts
    start = next((i for i, part in enumerate(parts) if part.startswith("nsddata")), None)
    if start is None:
        return "download it again"
    address = PurePosixPath(*parts[start:])
    if path.suffix:
        return f"get it by `aws s3 cp --no-sign-request {BUCKET}/{address} {path}`"
    return f"get it by `aws s3 sync --no-sign-request {BUCKET}/{address} {path}`"


def fetching_plan(root: str | Path, files: Iterable[BucketFile]) -> tuple[list[str], bool]:
    """What is here, what is missing and how to fetch it, as lines to print.

    Returns:
        The lines, and whether every needed file is here.
    """
    root, files = Path(root), list(files)
    states = {file: file.state(root) for file in files}
    lacking = [file for file in files if states[file] != "here"]
    lines = [f"{len(files) - len(lacking)} of {len(files)} files are in {root}."]
    if not lacking:
        return lines, True
    known = sum(file.num_bytes or 0 for file in lacking)
    unknown = sum(file.num_bytes is None for file in lacking)
    lines.append(
        f"{len(lacking)} to fetch from {BUCKET}, {known:,} bytes ({known / 1e9:.1f} GB)"
        + (f", and {unknown} tables and labels whose size is not known here:" if unknown else ":")
    )
    for file in lacking:
        size = "size not known" if file.num_bytes is None else f"{file.num_bytes:,} bytes"
        note = "" if file.needed else "; for the table of checks only"
        if states[file] == "truncated":
            note += f"; truncated, {(root / file.path).stat().st_size:,} bytes are here"
        lines.append(f"  {BUCKET}/{file.path}  ({size}{note})")
    lines.append("Accept NSD's terms at https://naturalscenesdataset.org, then:")
    lines += [fetch_command(file.path, root) for file in lacking]
    return lines, not any(file.needed for file in lacking)
