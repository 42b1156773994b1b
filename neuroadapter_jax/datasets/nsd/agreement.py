"""The files of one subject of NSD, and whether they agree with one another.

Everything here reads headers and tables only, so that a wrong folder is answered before any work
begins.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from neuroadapter_jax.cortex.surface_files import open_mgh
from neuroadapter_jax.datasets.hdf5 import hdf5_dataset, open_hdf5
from neuroadapter_jax.datasets.matlab import read_matlab
from neuroadapter_jax.datasets.nsd import files as nsd_files
from neuroadapter_jax.datasets.nsd.files import HEMISPHERES, where_from
from neuroadapter_jax.datasets.responses import mgh_shape
from neuroadapter_jax.datasets.text_table import read_text_table, whole_numbers
from neuroadapter_jax.errors import InputError, MissingFileError

_REPEATS = 3  # the design shows every image up to three times
# As MGH files hold it: big-endian, the vertices of a trial side by side.
ON_DISK = np.dtype(">f4")


@dataclasses.dataclass(frozen=True)
class Design:
    """The experiment of all subjects, with ids from 0.

    Attributes:
        order: 10k id of each trial, one sequence for all subjects.
        image_of: 73k id of each subject's 10k ids.
        shared: 73k ids of the images chosen for all subjects, ascending.
    """

    order: Int64[np.ndarray, " trials"]
    image_of: Int64[np.ndarray, "subjects images"]
    shared: Int64[np.ndarray, " shared"]

    def images(self, subject: int) -> Int64[np.ndarray, " trials"]:
        """73k id of each trial of a subject (counted from 1), had it been through all sessions."""
        return self.image_of[subject - 1][self.order]


@dataclasses.dataclass(frozen=True)
class SubjectPaths:
    """Where one subject's files are, in the layout of NSD's bucket.

    Attributes:
        root: folder with `nsddata`, `nsddata_betas` and `nsddata_stimuli`.
        subject: 1 to 8.
        space: surface of the betas, such as `fsaverage`.
        beta_version: one of NSD's three sets of betas.
    """

    root: Path
    subject: int
    space: str
    beta_version: str

    @property
    def design(self) -> Path:
        """The design of all subjects."""
        return self.root / nsd_files.DESIGN

    @property
    def table(self) -> Path:
        """The table of all stimuli."""
        return self.root / nsd_files.TABLE

    @property
    def responses(self) -> Path:
        """The table of the subject's behaviour."""
        return self.root / nsd_files.responses_path(self.subject)

    @property
    def images(self) -> Path:
        """The stimulus file."""
        return self.root / nsd_files.IMAGES

    @property
    def betas(self) -> Path:
        """The folder of betas."""
        return self.root / nsd_files.betas_folder(self.subject, self.space, self.beta_version)

    def session_file(self, hemisphere: str, session: int) -> Path:
        """Where the betas of one hemisphere and session are."""
        return self.betas / f"{hemisphere}.betas_session{session:02d}.mgh"

    def ncsnr_file(self, hemisphere: str) -> Path:
        """Where the noise-ceiling SNR of one hemisphere is."""
        return self.betas / f"{hemisphere}.ncsnr.mgh"


def read_design(paths: SubjectPaths) -> Design:
    """The design of all subjects, with ids from 0.

    Raises:
        InputError: an array is missing, an id is out of range, or the subject is not in it.
    """
    path = paths.design
    keys, expected = ("masterordering", "subjectim", "sharedix"), "NSD's design (a MATLAB file)"
    content = read_matlab(path, keys, expected, where_from(path))
    for key in keys:
        if content[key].dtype.kind not in "iuf" or not content[key].size:
            raise InputError(
                f"{path}: {key} is {content[key].dtype} of shape {content[key].shape}; expected "
                f"numbers, so {where_from(path)}."
            )
    if content["subjectim"].ndim != 2:
        raise InputError(
            f"{path}: subjectim has the shape {content['subjectim'].shape}; expected [subjects, "
            f"images], so {where_from(path)}."
        )
    with np.errstate(invalid="ignore"):  # what is no number becomes an id out of range
        found = Design(
            order=content["masterordering"].astype(np.int64).reshape(-1) - 1,
            image_of=content["subjectim"].astype(np.int64) - 1,
            shared=np.sort(content["sharedix"].astype(np.int64).reshape(-1)) - 1,
        )
    if not 1 <= paths.subject <= len(found.image_of):
        raise InputError(
            f"{path} describes subjects 1 to {len(found.image_of)}, not subject {paths.subject}."
        )
    for key, values, most in (
        ("masterordering", found.order, found.image_of.shape[1]),
        ("subjectim", found.image_of, np.inf),
        ("sharedix", found.shared, np.inf),
    ):
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest >= most:
            raise InputError(
                f"{key} of {path} holds the ids {lowest + 1} to {highest + 1}; "
                f"expected ids from 1"
                + (f" to {most}" if most < np.inf else "")
                + f", so {where_from(path)}."
            )
    return found


def choose_sessions(
    paths: SubjectPaths, listed: tuple[int, ...], sessions: Sequence[int] | None
) -> tuple[int, ...]:
    """The sessions asked for, ascending; all that are listed when None.

    Raises:
        InputError: none, or one that is not listed.
    """
    if sessions is None:
        return listed
    chosen = tuple(sorted({int(s) for s in sessions}))
    unknown = sorted(set(chosen) - set(listed))
    if unknown or not chosen:
        raise InputError(
            f"Sessions {list(sessions)} were asked for, but {paths.responses} lists "
            f"{span(listed)}; choose among those."
        )
    return chosen


def check_betas(
    paths: SubjectPaths, sessions: Sequence[int], listed: Sequence[int]
) -> tuple[tuple[int, int], int]:
    """Vertices of each hemisphere and trials per session, on which the betas' headers must agree.

    Raises:
        MissingFileError: a session's file is missing.
        InputError: a file is truncated, or two differ.
    """
    first: Path | None = None
    trials = 0
    num_vertices = []
    for hemisphere in HEMISPHERES:
        ncsnr_file = paths.ncsnr_file(hemisphere)
        count = int(np.prod(_surface_shape(ncsnr_file)))
        for session in sessions:
            path = paths.session_file(hemisphere, session)
            if not path.exists():
                raise MissingFileError(
                    f"Session {session} is missing: no {path}, although "
                    f"{paths.responses.name} lists sessions "
                    f"{span(listed)}; name the sessions to use, or "
                    f"{where_from(path)}."
                )
            vertices, _, _, found = _surface_shape(path)
            if vertices != count:
                raise InputError(
                    f"{path} has {vertices} vertices but {ncsnr_file.name} beside it has "
                    f"{count}; both must come from the same surface, so {where_from(path)}."
                )
            if first is None:
                first, trials = path, found
            if found != trials:
                raise InputError(
                    f"{path} has {found} trials but {first.name} has {trials}; all "
                    f"sessions of both hemispheres must have the same number, so "
                    f"{where_from(path)}."
                )
        num_vertices.append(count)
    return (num_vertices[0], num_vertices[1]), trials


def check_responses(
    paths: SubjectPaths,
    design: Design,
    responses: pd.DataFrame,
    sessions: Sequence[int],
    length: int,
) -> tuple[Int64[np.ndarray, " trials"], list[Int64[np.ndarray, " _"]]]:
    """The 0-based number, in the whole experiment, of each trial in use; runs per session.

    Args:
        paths: the subject's files.
        design: what was shown.
        responses: the table of behaviour, columns SESSION, RUN, 73KID and 10KID.
        sessions: those in use.
        length: trials of a session in the files of betas.

    Raises:
        InputError: table, design and betas disagree.
    """
    order = design.order
    shown = design.images(paths.subject)
    path, trials, runs = paths.responses, [], []
    for session in sessions:
        rows = responses[responses["SESSION"] == session]
        if len(rows) != length:
            raise InputError(
                f"{path} lists {len(rows)} trials in session {session}, but "
                f"{paths.session_file('lh', session).name} holds {length}; one of the two is "
                f"damaged, so download both again: {where_from(path)}."
            )
        numbers = np.arange(length) + (session - 1) * length
        if numbers[-1] >= len(order):
            raise InputError(
                f"{paths.design} orders {len(order)} trials, but session {session} ends "
                f"at trial {numbers[-1] + 1}; {where_from(paths.design)}."
            )
        wrong = (rows["10KID"].to_numpy() - 1 != order[numbers]) | (
            rows["73KID"].to_numpy() - 1 != shown[numbers]
        )
        if wrong.any():
            first = int(np.argmax(wrong))
            raise InputError(
                f"{path} shows image {int(rows['73KID'].iloc[first])} in trial "
                f"{first + 1} of session {session}, but {paths.design.name} shows image "
                f"{int(shown[numbers[first]] + 1)} (73k ids from 1); they must describe the "
                f"same experiment, so download both again: {where_from(path)}."
            )
        trials.append(numbers)
        runs.append(np.unique(rows["RUN"].to_numpy(), return_inverse=True)[1].astype(np.int64))
    return np.concatenate(trials), runs


def check_table(
    paths: SubjectPaths,
    design: Design,
    trials: Int64[np.ndarray, " trials"],
    trial_ids: Int64[np.ndarray, " trials"],
) -> None:
    """Holds the table of stimuli against the design.

    Args:
        paths: the subject's files.
        design: what was shown.
        trials: 0-based number of each trial in use.
        trial_ids: 0-based 73k id of its image.

    Raises:
        InputError: they disagree on a shared image or on a trial.
    """
    path = paths.table
    columns = [f"subject{paths.subject}_rep{k}" for k in range(_REPEATS)]
    table = read_columns(path, ["nsdId", *columns], others=["shared1000"])
    ids = table["nsdId"].to_numpy()
    shared = np.sort(ids[table["shared1000"].to_numpy().astype(bool)])
    if not np.array_equal(shared, design.shared):
        odd = np.setxor1d(shared, design.shared)
        raise InputError(
            f"{path} and {paths.design.name} disagree on {len(odd)} shared "
            f"images, the first being nsdId {odd[0] if len(odd) else shared[0]}; download "
            f"both again: {where_from(path)}."
        )
    shown = np.full(trials.max() + 1, -1)
    for column in columns:
        trial = table[column].to_numpy() - 1
        used = (trial >= 0) & (trial < len(shown))
        shown[trial[used]] = ids[used]
    wrong = shown[trials] != trial_ids
    if wrong.any():
        first = int(np.argmax(wrong))
        said = shown[trials[first]]
        raise InputError(
            f"{path} shows {'no image' if said < 0 else f'nsdId {said}'} in trial "
            f"{trials[first] + 1} of subject {paths.subject}, but {paths.design.name} "
            f"shows nsdId {trial_ids[first]}; download both again: {where_from(path)}."
        )


def check_images(paths: SubjectPaths, trial_ids: Int64[np.ndarray, " trials"]) -> int:
    """How many images the stimulus file holds.

    Raises:
        InputError: it is no such file, or lacks an image that was shown.
    """
    path = paths.images
    with open_hdf5(path, "NSD's images (HDF5)", where_from(path)) as file:
        brick = hdf5_dataset(file, "imgBrick", sparse=True)
        if brick.ndim != 4 or brick.shape[-1] != 3 or brick.dtype != np.uint8:
            raise InputError(
                f"imgBrick of {path} is {brick.dtype} of shape {brick.shape}; expected uint8 "
                f"images [image, y, x, 3], so {where_from(path)}."
            )
        held = len(brick)
    lacking = np.unique(trial_ids[trial_ids >= held])
    if len(lacking):
        raise InputError(
            f"{path} holds {held} images, so it lacks "
            f"{len(lacking)} that subject {paths.subject} was shown (the first is nsdId "
            f"{lacking[0]}); {where_from(path)}."
        )
    return held


def require(path: Path) -> None:
    """Refuses a path that does not exist, saying where to get it."""
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist; expected NSD's own layout below the data root, so check the "
            f"root, the subject and the space, or {where_from(path)}."
        )


def read_columns(
    path: Path, columns: list[str], separator: str = ",", others: Sequence[str] = ()
) -> pd.DataFrame:
    """Columns of whole numbers of a table of text, and `others`; a missing one is named."""
    table = read_text_table(path, "a table of NSD", where_from(path), sep=separator)
    missing = [c for c in (*columns, *others) if c not in table]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, table))}; "
            f"{where_from(path)}."
        )
    if table.empty:
        raise InputError(f"{path} has a heading and no row below it; {where_from(path)}.")
    return whole_numbers(table[[*columns, *others]], columns, path, where_from(path))


def _surface_shape(path: Path) -> tuple[int, int, int, int]:
    """Shape [vertices, 1, 1, trials] of a file that can be read trial by trial."""
    require(path)
    shape = mgh_shape(path)
    dtype = open_mgh(path).get_data_dtype()
    if dtype != ON_DISK or shape[1:3] != (1, 1):
        raise InputError(
            f"{path} holds {dtype} of shape {shape}; expected big-endian float32 (>f4) of shape "
            f"(vertices, 1, 1, trials), percent signal change on a surface, so {where_from(path)}."
        )
    return shape


def span(sessions: Sequence[int]) -> str:
    """Sessions for a message, such as "1 to 40"."""
    contiguous = list(sessions) == list(range(sessions[0], sessions[-1] + 1))
    return f"{sessions[0]} to {sessions[-1]}" if contiguous else ", ".join(map(str, sessions))
