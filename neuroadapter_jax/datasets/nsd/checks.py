"""What was read, beside what is published: the table that preparation prints, and refuses by."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from neuroadapter_jax.cortex.noise_ceiling import explainable_variance
from neuroadapter_jax.cortex.surface_files import read_mgh
from neuroadapter_jax.datasets.belonging import simulation_of
from neuroadapter_jax.datasets.nsd import published
from neuroadapter_jax.datasets.nsd.files import HEMISPHERES, fetch_command, mask_path
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.session_agreement import SessionAgreement
from neuroadapter_jax.errors import InputError

_NONE = "-"
_RESEMBLES = "of NSD, which the simulation is to resemble"


@dataclasses.dataclass(frozen=True)
class Check:
    """One row: what, what was found, what is published, and "equal", "differs" or "" (neither)."""

    what: str
    found: str
    published: str = _NONE
    verdict: str = ""


def check_subject(
    source: NSDSubject, split: str, image_ids: dict[str, Int64[np.ndarray, " _"]]
) -> list[Check]:
    """Counts, first images and median ncsnr of a subject, before any response is read.

    Published values apply to NSD's own design. Another one, such as the simulated subject's, is
    recognised by its sizes, and then nothing is compared.

    Args:
        source: the subject.
        split: the split's name.
        image_ids: the images of its parts.
    """
    applies, rows = is_published_design(source), []

    def row(what: str, found: Any, value: Any = None, compare: bool = True) -> None:
        if value is None or not (applies and compare):
            rows.append(Check(what, _text(found)))
        else:
            verdict = "equal" if found == value else "differs"
            rows.append(Check(what, _text(found), _text(value), verdict))

    s, design = source.subject, source.design
    size = (len(design.order), *design.image_of.shape, len(design.shared))
    rows.append(
        Check(
            "design: trials, subjects, images each, shared",
            _text(size),
            _text(_DESIGN_SIZE),
            "equal" if applies else "another experiment; no published value applies",
        )
    )
    row("images in the stimulus file", source.num_images, published.NUM_IMAGES)
    row("sessions listed", len(source.listed_sessions), published.SESSIONS.get(s))
    row("sessions used", len(source.sessions))
    row("trials per session", source.trials_per_session, published.TRIALS_PER_SESSION)
    row("trials used", len(source.trial_numbers))
    ids = source.trial_image_ids()
    row("images used", len(np.unique(ids)))
    shown = _shown(source, s, source.listed_sessions[-1])
    values, counts = np.unique(shown, return_counts=True)
    for k in (1, 2, 3):
        found = int(np.sum(counts >= k))
        row(f"images listed at least {k}x", found, published.IMAGES_SEEN[k].get(s))
    found = int(np.isin(values, design.shared).sum())
    row("shared images listed", found, published.SHARED_SEEN.get(s))
    if applies:
        for k, value in _shared_by_all(source).items():
            row(f"shared images all subjects saw {k}x", value, published.SHARED_SEEN_BY_ALL[k])
        subjects = [_shown(source, i, n) for i, n in published.SESSIONS.items()]
        found = len(np.unique(np.concatenate(subjects)))
        row("images of all subjects", found, published.DISTINCT_IMAGES)
        ends = (int(design.shared[0]) + 1, int(design.shared[-1]) + 1)
        row("smallest and largest shared 73k ID", ends, published.SHARED_RANGE)
    first = tuple(int(i) for i in shown[:10])
    row("first images (73k ids from 0)", first, published.FIRST_IMAGES.get(s))
    rows.append(_split_row(source, split, image_ids, applies))
    rows += _ncsnr_rows(source, applies)
    return rows


def check_responses(
    source: NSDSubject,
    recomputed: Float32[np.ndarray, " n"],
    test_repeats: Int64[np.ndarray, " images"],
    nan_vertices: dict[str, int],
    agreement: SessionAgreement,
) -> list[Check]:
    """What is known once all responses were read: ncsnr from the repeats, noise ceilings, NaN.

    Files of exchanged hemispheres or sessions have a verdict, see `refuse_strangers`.

    Args:
        source: the subject.
        recomputed: ncsnr from the repeats.
        test_repeats: trials of each test image.
        nan_vertices: per session, vertices without data.
        agreement: of the sessions with one another.
    """
    mask = nsdgeneral(source)
    where = "all vertices" if mask is None else "nsdgeneral"
    inside = np.ones(len(recomputed), bool) if mask is None else mask
    file = source.ncsnr()
    chosen = inside & np.isfinite(file) & np.isfinite(recomputed)
    rows = [
        Check(
            "vertices without data, set to 0, by session",
            ", ".join(f"{k}: {v}" for k, v in nan_vertices.items()) or "none",
        )
    ]
    rows += _session_rows(source, agreement)
    if not chosen.any():
        return [*rows, Check("ncsnr from the repeats", "no image was shown three times")]
    a, b = file[chosen].astype(np.float64), recomputed[chosen].astype(np.float64)
    rows += [
        Check(f"median ncsnr from the repeats, {where}", f"{np.median(b):.3f}"),
        _correlation_row(source, recomputed, inside),
        Check("  its median difference to the file's", f"{np.median(b - a):+.4f}"),
    ]
    cases = {f"of {k}": np.array([k]) for k in (1, 2, 3)} | {"of the test images": test_repeats}
    for name, repeats in cases.items():
        ceiling = 100 * np.median(explainable_variance(a, repeats))
        rows.append(Check(f"noise ceiling of an average {name}, {where}", f"{ceiling:.1f} %"))
    return rows


def nsdgeneral(source: NSDSubject) -> Bool[np.ndarray, " n"] | None:
    """The vertices of the region "nsdgeneral"; None where its label files are not there.

    Raises:
        InputError: a label file of another surface.
    """
    parts = []
    for hemisphere, count in zip(HEMISPHERES, source.num_vertices, strict=True):
        path = source.root / mask_path(source.space, hemisphere)
        if not path.exists():
            return None
        labels = read_mgh(path).reshape(-1)
        if len(labels) != count:
            raise InputError(
                f"{path} has {len(labels)} vertices, but the betas of its hemisphere have "
                f"{count}; get it by "
                f"`{fetch_command(mask_path(source.space, hemisphere), source.root)}`."
            )
        parts.append(labels > 0)
    return np.concatenate(parts)


def is_published_design(source: NSDSubject) -> bool:
    """Whether the design has the sizes of NSD's."""
    design = source.design
    return (len(design.order), *design.image_of.shape, len(design.shared)) == _DESIGN_SIZE


def resembles_nsd(source: NSDSubject) -> bool:
    """Whether the subject is simulated, and with the SNR of NSD's subject of its number."""
    return (simulation_of(source.root) or {}).get("noise") == "nsd_like"


def table_of(rows: Iterable[Check]) -> list[str]:
    """The rows as lines of text."""
    cells = [("check", "found", "published", "")]
    cells += [(r.what, r.found, r.published, r.verdict) for r in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in cells
    ]


def refuse_differences(rows: Sequence[Check], root: object, accepted: bool) -> None:
    """Raises where a value differs from the published one, unless that was accepted.

    Raises:
        InputError: naming each difference.
    """
    wrong = [r for r in rows if r.verdict == "differs"]
    if wrong and not accepted:
        named = "; ".join(f"{r.what}: {r.found}, published {r.published}" for r in wrong)
        raise InputError(
            f"The files in {root} disagree with what is published on {len(wrong)} counts "
            f"({named}); check subject and root and download what is damaged, or give "
            f"--accept_differences to prepare them as they are."
        )


def refuse_strangers(rows: Sequence[Check], root: object, accepted: bool) -> None:
    """Raises where responses belong to another hemisphere or session than their files say.

    Raises:
        InputError: naming what was found.
    """
    wrong = [r for r in rows if r.verdict == "differs"]
    if wrong and not accepted:
        named = "; ".join(f"{r.what.strip()}: {r.found}, expected {r.published}" for r in wrong)
        raise InputError(
            f"The files in {root} do not belong together ({named}), as when hemispheres, sessions "
            f"or subjects are exchanged; compare the files of lh and rh and of each session with "
            f"their source, or give --accept_differences to prepare them as they are."
        )


# Files of all sessions give 1.00; those of exchanged hemispheres or sessions 0.2 to 0.6.
_LEAST_CORRELATION = 0.9
_MARGIN = 0.05  # of chance, between correlations with two files
_FEWEST_VERTICES = 100  # over fewer a correlation is chance


def _correlation_row(
    source: NSDSubject, recomputed: Float32[np.ndarray, " n"], inside: Bool[np.ndarray, " n"]
) -> Check:
    """The correlation of ncsnr from the repeats with the file's, by hemisphere.

    With all sessions that are listed it has to be high. With a part of them it is lower by chance;
    then the hemispheres must not both fit the other's file better than their own.
    """
    left = source.num_vertices[0]
    cut = [np.s_[:left], np.s_[left:]]
    file = source.ncsnr()
    own = [_correlation(file[h], recomputed[h], inside[h]) for h in cut]
    found = ", ".join(
        f"{h} {'none' if r is None else f'{r:.4f}'}" for h, r in zip(HEMISPHERES, own, strict=True)
    )
    what = "  correlation of the repeats' ncsnr with the file's"
    if None in own:
        return Check(what, found)
    if source.sessions == source.listed_sessions:
        fits = min(r for r in own if r is not None) >= _LEAST_CORRELATION
        expected = f"at least {_LEAST_CORRELATION}"
    elif source.num_vertices[0] == source.num_vertices[1]:
        other = [
            _correlation(file[cut[1 - i]], recomputed[h], inside[h]) for i, h in enumerate(cut)
        ]
        fits = not all(
            a is not None and b is not None and b > a + _MARGIN
            for a, b in zip(own, other, strict=True)
        )
        expected = "not less than with the other hemisphere's"
    else:
        return Check(what, found)
    return Check(what, found, expected, "equal" if fits else "differs")


def _correlation(
    a: Float32[np.ndarray, " n"], b: Float32[np.ndarray, " n"], inside: Bool[np.ndarray, " n"]
) -> float | None:
    """Of finite values; None over too few vertices, or constant ones."""
    known = inside & np.isfinite(a) & np.isfinite(b)
    x, y = a[known].astype(np.float64), b[known].astype(np.float64)
    if len(x) < _FEWEST_VERTICES or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _session_rows(source: NSDSubject, agreement: SessionAgreement) -> list[Check]:
    """How well each session fits the others, and those that do not."""
    means, strange = agreement.means(), agreement.strangers()
    rows = []
    for side, hemisphere in enumerate(HEMISPHERES):
        known = means[side][np.isfinite(means[side])]
        if not len(known):
            continue
        median = float(np.median(known))
        what = f"sessions' agreement on the same images, {hemisphere}"
        lost = [s for h, s in strange if h == side]
        if lost:
            found = ", ".join(f"session {source.sessions[s]} {means[side][s]:.3f}" for s in lost)
            rows.append(Check(what, found, f"{median:.3f}, the median", "differs"))
        else:
            rows.append(Check(what, f"{known.min():.3f} to {known.max():.3f}"))
    return rows


_DESIGN_SIZE = (
    published.DESIGN_TRIALS,
    published.DESIGN_SUBJECTS,
    published.DESIGN_IMAGES,
    published.NUM_SHARED,
)


def _split_row(
    source: NSDSubject, split: str, image_ids: dict[str, Int64[np.ndarray, " _"]], applies: bool
) -> Check:
    what = f"{split}: training, validation, test images"
    train, validation, test = (len(image_ids[k]) for k in ("train", "validation", "test"))
    found = _text((train, validation, test))
    expected: tuple[Any, ...] | None = None
    whole = source.sessions == tuple(range(1, 41))
    if split == "special515" and whole:
        expected, same = published.SPECIAL515, (train, validation, test) == published.SPECIAL515
    elif split in ("shared", "shared1000") and whole:
        expected = ("9,000 together", published.NUM_SHARED)
        same = (train + validation, test) == (9_000, published.NUM_SHARED)
    elif split == "shared982" and source.sessions == tuple(range(1, 38)):
        others, shared = published.SHARED982_OF_37_SESSIONS
        expected = (f"{others:,} together", shared)
        same = (train + validation, test) == (others, shared)
    if expected is None or not applies:
        return Check(what, found)
    return Check(what, found, _text(expected), "equal" if same else "differs")


def _ncsnr_rows(source: NSDSubject, applies: bool) -> list[Check]:
    values, mask = source.ncsnr(), nsdgeneral(source)
    if mask is None:
        paths = [mask_path(source.space, h) for h in HEMISPHERES]
        rows = [Check("median ncsnr, all vertices", f"{np.nanmedian(values):.3f}")]
        if applies:
            fetch = "; ".join(fetch_command(path, source.root) for path in paths)
            verdict = f"not checked: the label files are missing, get them by `{fetch}`"
            rows.append(Check("median ncsnr, nsdgeneral", "unknown", verdict=verdict))
        return rows
    median = float(np.nanmedian(values[mask]))
    same_betas = (source.space, source.beta_version) == ("fsaverage", "betas_fithrf_GLMdenoise_RR")
    if resembles_nsd(source):
        value, three = (
            x[source.subject] for x in (published.MEDIAN_NCSNR, published.MEDIAN_CEILING)
        )
        of_three = 100 * float(explainable_variance(np.array([median]), np.array([3]))[0])
        return [
            Check("vertices of nsdgeneral", _text(int(mask.sum()))),
            Check("median ncsnr, nsdgeneral", f"{median:.3f}", f"{value:.3f}", _RESEMBLES),
            Check(
                "noise ceiling of 3 at the median ncsnr",
                f"{of_three:.1f} %",
                f"{three:.1f} %",
                _RESEMBLES,
            ),
        ]
    if not (applies and same_betas):
        return [
            Check("vertices of nsdgeneral", _text(int(mask.sum()))),
            Check("median ncsnr, nsdgeneral", f"{median:.3f}"),
        ]
    s, vertices = source.subject, int(mask.sum())
    ceiling = 100 * float(explainable_variance(np.array([median]), np.array([3]))[0])

    def close(found: float, value: float, digits: int) -> str:
        return "equal" if abs(found - value) < 0.6 * 10**-digits else "differs"

    return [
        Check(
            "vertices of nsdgeneral",
            _text(vertices),
            _text(published.NSDGENERAL_VERTICES),
            "equal" if vertices == published.NSDGENERAL_VERTICES else "differs",
        ),
        Check(
            "median ncsnr, nsdgeneral",
            f"{median:.3f}",
            f"{published.MEDIAN_NCSNR[s]:.3f}",
            close(median, published.MEDIAN_NCSNR[s], 3),
        ),
        Check(
            "  noise ceiling of three trials there",
            f"{ceiling:.1f} %",
            f"{published.MEDIAN_CEILING[s]:.1f} %",
            close(ceiling, published.MEDIAN_CEILING[s], 1),
        ),
    ]


def _shown(source: NSDSubject, subject: int, sessions: int) -> Int64[np.ndarray, " trials"]:
    return source.design.images(subject)[: sessions * source.trials_per_session]


def _shared_by_all(source: NSDSubject) -> dict[int, int]:
    shared = source.design.shared
    least = np.full(len(shared), 3)
    for subject, sessions in published.SESSIONS.items():
        ids, counts = np.unique(_shown(source, subject, sessions), return_counts=True)
        times = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        least = np.minimum(least, [times.get(i, 0) for i in shared.tolist()])
    return {k: int(np.sum(least >= k)) for k in (1, 2, 3)}


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
