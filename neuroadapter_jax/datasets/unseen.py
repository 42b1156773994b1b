"""The unseen experiment of simulated subjects: test sets that ask for more than the plain one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

from neuroadapter_jax.datasets.normalization import NORMALIZATIONS
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.datasets.text_table import read_text_table
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.ranges import Count

_FOLDER, _SETS = "unseen", "unseen_sets.tsv"


class SimulatedUnseen:
    """One simulated subject's unseen experiment, as a `Source`; a split per set, none to train on.

    Args:
        root: folder of the simulated subjects.
        subject: number of the subject.
        space: surface of the responses.
        beta_version: folder of the responses.
        normalize: `"session"`, `"run"` or `"none"`; see `NSDSubject.session_scaling`.

    Raises:
        MissingFileError: a file is missing.
        InputError: files disagree, or another `normalize`.
    """

    name = "simulated_unseen"
    regions = None

    def __init__(
        self,
        root: str | Path,
        subject: Count = 1,
        space: str = "fsaverage5",
        beta_version: str = "betas_fithrf_GLMdenoise_RR",
        normalize: str = "session",
    ):
        choices = [name for name in NORMALIZATIONS if name != "train-stats"]
        if normalize not in choices:
            raise InputError(f"normalize is {normalize!r}; choose one of {', '.join(choices)}.")
        self.root, self.subject, self._normalize = Path(root) / _FOLDER, subject, normalize
        self._table = self.root / _SETS
        if not self._table.is_file():
            raise MissingFileError(
                f"{self._table} does not exist, so {root} holds no unseen experiment; name the "
                f"folder that `neuroadapter prepare --config nsd_like` simulated its subject into."
            )
        self._reader = NSDSubject(self.root, subject, space, beta_version)
        self.settings = {"space": space, "beta_version": beta_version, "normalize": normalize}
        self.num_vertices, self.blocks = self._reader.num_vertices, self._reader.sessions
        self.stimulus_names: dict[int, str] = {}
        self._splits = self._read_sets()

    @property
    def files(self) -> list[Path]:
        """Every file this experiment is read from."""
        return [*self._reader.files, self._table]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """See `NSDSubject.trial_image_ids`."""
        return self._reader.trial_image_ids()

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """The trials of each set."""
        return self._splits

    def read_block(self, session: int) -> Betas:
        """See `NSDSubject.session_betas`."""
        return self._reader.session_betas(session, self._normalize)

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """The SNR of the main experiment."""
        return self._reader.ncsnr()

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"]]:
        """See `NSDSubject.images`."""
        return list(self._reader.images(ids))

    def _read_sets(self) -> dict[str, Int64[np.ndarray, " _"]]:
        table = read_text_table(self._table, "the sets of an unseen experiment", sep="\t")
        shown = self._reader.trial_image_ids()
        if not {"nsdId", "set"} <= set(table) or set(table["nsdId"]) != set(shown.tolist()):
            raise InputError(
                f"{self._table} has {len(table)} rows in the columns "
                f"{', '.join(map(str, table))}; expected nsdId and set of each of the "
                f"{len(np.unique(shown))} images that were shown; copy the folder again."
            )
        sets = table.groupby("set", sort=False)["nsdId"]
        return {str(name): np.flatnonzero(np.isin(shown, ids)) for name, ids in sets}
