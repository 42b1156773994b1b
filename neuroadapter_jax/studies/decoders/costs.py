"""What each row costs: parameters, seconds of training and per image, and memory."""

import contextlib
import resource
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from neuroadapter_jax.decoders.contract import BrainDecoder
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.files import write_json
from neuroadapter_jax.pipeline import Candidates
from neuroadapter_jax.readers import read_json


class TimedDecoder:
    """A decoder whose calls are timed; everything else of it is as it is.

    Args:
        decoder: to call.
    """

    def __init__(self, decoder: BrainDecoder):
        self.decoder = decoder
        self.regions, self.provenance = decoder.regions, decoder.provenance
        self.sampling, self.num_candidates = decoder.sampling, decoder.num_candidates
        self.calls: list[tuple[float, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    @property
    def fingerprint(self) -> Any:
        """Of the decoder."""
        return self.decoder.fingerprint

    def __call__(
        self, fmri: np.ndarray, sampling: Sampling | None = None, **options: Any
    ) -> np.ndarray:
        """See `BrainDecoder.__call__`."""
        return self._timed(self.decoder, len(fmri), fmri, sampling, **options)

    def _timed(self, function: Any, size: int, *arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        found = function(*arguments, **options)
        self.calls.append((time.monotonic() - began, size))
        return found

    def seconds_per_image(self) -> float | None:
        """Of one response, without the first call, which compiles; None where it was the only one.

        With the encoder's choice all candidates of a response count as its cost.
        """
        later = self.calls[1:]
        return sum(s for s, _ in later) / sum(n for _, n in later) if later else None


class TimedRankingDecoder(TimedDecoder):
    """A timed decoder that ranks its candidates itself."""

    def candidates(self, fmri: np.ndarray, *arguments: Any, **options: Any) -> Candidates:
        """See `RankingDecoder.candidates`."""
        ranked = self.decoder.candidates  # type: ignore[attr-defined]
        return self._timed(ranked, len(fmri), fmri, *arguments, **options)


def timed(decoder: BrainDecoder) -> TimedDecoder:
    """A decoder whose calls are timed.

    Args:
        decoder: which may rank its candidates itself.
    """
    ranks = hasattr(decoder, "candidates")
    return TimedRankingDecoder(decoder) if ranks else TimedDecoder(decoder)


class PeakMemory:
    """The most memory that was held since this was made.

    On an accelerator the device's own count, which JAX never sets back, so that a row's number is
    at most the largest so far. On CPU that of the whole process, set back where Linux allows it.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """Bytes."""
        stats = jax.local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            return int(stats["peak_bytes_in_use"])
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(x.split()[1]) for x in lines if x.startswith("VmHWM"))
        except (OSError, StopIteration):
            return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Costs:
    """What each row cost, kept in a JSON file, so that a killed call loses none.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        form = dict[str, dict[str, Any]]
        expected = "costs of `neuroadapter decoders`"
        self.rows = read_json(path, expected, form, f"delete {path}") if path.is_file() else {}

    def add(self, name: str, decoder: TimedDecoder, peak: int) -> None:
        """Note what a row cost in this call; a row whose images were all there keeps its own.

        Args:
            name: of the row.
            decoder: after its last call.
            peak: bytes.
        """
        row = self.rows.setdefault(name, {})
        row["parameters"] = decoder.decoder.num_parameters
        row["training_seconds"] = decoder.decoder.training_seconds
        if decoder.calls:
            row["peak_bytes"] = max(peak, row.get("peak_bytes", 0))
            row["seconds_per_image"] = decoder.seconds_per_image() or row.get("seconds_per_image")
        write_json(self.path, self.rows)
