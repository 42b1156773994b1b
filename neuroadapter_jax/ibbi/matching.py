"""Random sets of regions that are like a given one but for what they contain, and proof of it.

A set of regions of high SNR has no counterpart of lower SNR: what silencing it changes is then
compared with what silencing weaker regions changes, and the difference says nothing of what the
set stands for. So every set is checked here, and is called matched only where it is.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from neuroadapter_jax.cortex.parcellation import HEMISPHERES, MESHES, Parcellation
from neuroadapter_jax.cortex.selection import region_snr
from neuroadapter_jax.cortex.sphere import fsaverage5_sphere
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Positive, check_fields

_STARTS = 5  # random sets per wanted one
_EXCHANGES = 100  # of one region, per random set; a few suffice
_Numbers = np.ndarray | np.floating  # of one set, or an array of many


@dataclass(frozen=True)
class RegionTraits:
    """What regions are matched on.

    Attributes:
        snr: noise-ceiling SNR, mean over a region's vertices.
        num_vertices: of each region.
        hemispheres: "lh", "rh" or "both" of each region.
        centres: mean place of a region's vertices on the sphere of its hemisphere, in mm; None
            where it is not known, and distances are not matched.

    Raises:
        InputError: not one of each per region, or SNR that is not finite.
    """

    snr: Float[np.ndarray, " p"]
    num_vertices: Int[np.ndarray, " p"]
    hemispheres: tuple[str, ...]
    centres: Float[np.ndarray, "p 3"] | None = None

    def __post_init__(self):
        counts = {len(self.snr), len(self.num_vertices), len(self.hemispheres)}
        if len(counts | ({len(self.centres)} if self.centres is not None else set())) != 1:
            raise InputError(
                f"There are {len(self.snr)} values of SNR, {len(self.num_vertices)} numbers of "
                f"vertices and {len(self.hemispheres)} hemispheres; expected one per region."
            )
        if not np.isfinite(self.snr).all():
            raise InputError(
                f"{int((~np.isfinite(self.snr)).sum())} regions have no SNR; leave them out, or "
                "give the map of a subject whose responses were measured there."
            )

    @classmethod
    def of(cls, regions: Parcellation, ncsnr: Float[np.ndarray, " n"]) -> "RegionTraits":
        """The traits of a model's regions; places of FreeSurfer's average surfaces are known.

        Args:
            regions: the p regions.
            ncsnr: noise-ceiling SNR per vertex, left then right hemisphere, such as
                `PreparedDataset.ncsnr`.

        Raises:
            InputError: a map of another surface, or a region without any SNR.
        """
        sizes = np.array([len(own) for own in regions.vertices])
        return cls(region_snr(regions, ncsnr), sizes, regions.hemispheres, _centres(regions))


@dataclass(frozen=True)
class MatchRule:
    """How near a random set has to come, and to what of the given set.

    Attributes:
        mean_snr: difference of the mean SNR, as a share of the given set's mean.
        spread_snr: difference of the standard deviation of SNR over regions, as a share of the same
            mean.
        num_vertices: difference of the number of vertices, as a share of the given set's; None
            does not match it.
        distance: difference of the mean distance between regions of the same hemisphere, as a
            share of the given set's; None does not match it.
        hemisphere: whether as many regions have to lie in each hemisphere.
    """

    mean_snr: Positive = 0.1
    spread_snr: Positive = 0.1
    num_vertices: Positive | None = 0.1
    distance: Positive | None = 0.5
    hemisphere: bool = True

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class MatchedSets:
    """Random sets of regions, and how like the given one they are.

    Attributes:
        region_sets: the sets, without regions of the given one; those that are matched where any
            is, else the nearest that were found. No two are the same.
        matched: whether all of them meet the rule.
        report: JSON values: ``matched``, ``num_sets``, ``wanted``, ``num_regions``, ``rule``,
            ``failed`` (what the nearest set misses), and per trait (``mean_snr``,
            ``spread_snr``, ``num_vertices``, ``distance``, ``left_hemisphere``) the given set's
            value as ``own``, the sets' ``mean`` and their ``range``.
    """

    region_sets: Bool[np.ndarray, "k p"]
    matched: bool
    report: dict[str, Any]

    def require(self, what: str) -> Bool[np.ndarray, "k p"]:
        """The sets, where they are matched.

        Args:
            what: the given set, for the message, such as "V1 to V3".

        Raises:
            InputError: they are not, with the traits that differ.
        """
        if not self.matched:
            raise InputError(f"{what}: {self.sentence()}")
        return self.region_sets

    def in_turn(self, num_images: int, per_image: int) -> Bool[np.ndarray, "m b p"]:
        """The sets that each image is perturbed by, all of them in turn.

        So many sets are tried without that every image has to be reconstructed with each.

        Args:
            num_images: b.
            per_image: m, how many sets each image has; fewer where there are fewer.

        Raises:
            InputError: there is no matched set.
        """
        sets = self.require("The set")
        m = min(per_image, len(sets))
        which = (np.arange(num_images) * m + np.arange(m)[:, None]) % len(sets)
        return sets[which]

    def sentence(self) -> str:
        """What a reader has to know of the match, in a sentence."""
        return match_sentence(self.report)


def match_sentence(report: Mapping[str, Any]) -> str:
    """What a reader has to know of a match, in a sentence.

    Args:
        report: of `MatchedSets`, also as JSON holds it.
    """
    if report["matched"]:
        return f"{report['num_sets']} matched sets."
    told = "; ".join(
        f"{_WORDS[name]} {report[name]['own']:.3g} against {report[name]['mean']:.3g} of the "
        "nearest sets"
        for name in report["failed"]
    )
    reason = told or "fewer regions lie outside it than in it"
    return f"no set outside it is matched: {reason}."


_WORDS = {
    "mean_snr": "mean SNR",
    "spread_snr": "standard deviation of SNR",
    "num_vertices": "number of vertices",
    "distance": "mean distance between its regions",
    "left_hemisphere": "number of regions in the left hemisphere",
}


def match_sets(
    members: Bool[np.ndarray, " p"],
    traits: RegionTraits,
    num_sets: int,
    rule: MatchRule | None = None,
    seed: int = 0,
) -> MatchedSets:
    """Random sets of as many regions outside a set, matched in SNR, size, hemisphere and spread.

    Each starts from random regions outside the set; while the rule is not met, the exchange of one
    region that brings it nearest is made. Sets may share regions with each other.

    Args:
        members: True for the regions of the given set, at least one.
        traits: of all p regions.
        num_sets: how many are wanted, at least 1; fewer come back where fewer are found.
        rule: how near they have to come; the defaults when None.
        seed: of the random regions, at least 0.

    Returns:
        The sets and their report; see `MatchedSets`. Where as many regions do not lie outside the
        given set, there are none, and `matched` is False.

    Raises:
        InputError: the set is empty, or of another number of regions than the traits.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.matching import RegionTraits, match_sets
        >>> snr = np.array([1.0, 1.1, 1.0, 0.2, 1.1, 0.2])
        >>> traits = RegionTraits(snr, np.full(6, 30), ("lh",) * 6)
        >>> members = np.array([True, True, False, False, False, False])
        >>> found = match_sets(members, traits, num_sets=1)
        >>> found.matched, np.flatnonzero(found.region_sets[0]).tolist()
        (True, [2, 4])
        >>> strong = match_sets(np.array([True, True, True, False, True, False]), traits, 1)
        >>> strong.matched, strong.sentence()
        (False, 'no set outside it is matched: fewer regions lie outside it than in it.')
    """
    members, rule = np.asarray(members, bool), rule or MatchRule()
    if members.shape != np.shape(traits.snr) or not members.any():
        raise InputError(
            f"The set marks {int(members.sum())} of {members.size} regions, and traits are of "
            f"{len(traits.snr)}; expected a mark for each region and at least one in the set."
        )
    if num_sets < 1:
        raise InputError(f"num_sets is {num_sets}; expected at least 1.")
    score, rng = _Score(members, traits, rule), np.random.default_rng(seed)
    met: list[tuple[int, ...]] = []
    near: dict[tuple[int, ...], float] = {}
    if len(score.outside) >= members.sum():
        for _ in range(_STARTS * num_sets):
            chosen = score.search(rng)
            if (worst := score.worst(chosen)) > 1:
                near[chosen] = worst
            elif chosen not in met:
                met.append(chosen)
            if len(met) >= num_sets:
                break
    chosen_sets = met or sorted(near, key=lambda x: near[x])[:num_sets]
    region_sets = np.zeros((len(chosen_sets), len(members)), bool)
    for row, chosen in zip(region_sets, chosen_sets, strict=True):
        row[list(chosen)] = True
    report = score.report(chosen_sets) | {
        "matched": bool(met),
        "num_sets": len(met),
        "wanted": num_sets,
        "num_regions": int(members.sum()),
        "rule": dataclasses.asdict(rule),
    }
    return MatchedSets(region_sets, bool(met), report)


@dataclass(frozen=True)
class _Sums:
    """What the traits of a set are computed from, of one set or of many at once."""

    size: int
    snr: _Numbers
    squares: _Numbers
    vertices: _Numbers
    left: _Numbers
    apart: _Numbers  # sum of the distances of pairs in the same hemisphere
    pairs: _Numbers

    def traits(self) -> dict[str, _Numbers]:
        mean = self.snr / self.size
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = self.apart / self.pairs
        return {
            "mean_snr": mean,
            "spread_snr": np.sqrt(np.maximum(self.squares / self.size - mean**2, 0.0)),
            "num_vertices": self.vertices,
            "distance": distance,
            "left_hemisphere": self.left,
        }


class _Score:
    """How far sets of regions are from the given one, each trait in units of what is allowed."""

    def __init__(self, members: np.ndarray, traits: RegionTraits, rule: MatchRule):
        side = np.array(traits.hemispheres)
        self.snr = traits.snr.astype(np.float64)
        self.vertices = traits.num_vertices.astype(np.float64)
        self.left = (side == HEMISPHERES[0]).astype(np.float64)
        self.together = ((side[:, None] == side) & ~np.eye(len(side), dtype=bool)).astype(float)
        self.apart = np.zeros_like(self.together)
        if traits.centres is not None:
            apart = np.linalg.norm(traits.centres[:, None] - traits.centres[None], axis=-1)
            self.apart = apart * self.together
        self.outside = np.flatnonzero(~members)
        own = self.of(np.flatnonzero(members))
        if traits.centres is None or not own["distance"] > 0:
            del own["distance"]
        self.own = {name: float(value) for name, value in own.items()}
        allowed = {
            "mean_snr": rule.mean_snr * abs(self.own["mean_snr"]),
            "spread_snr": rule.spread_snr * abs(self.own["mean_snr"]),
            "num_vertices": (rule.num_vertices or np.inf) * self.own["num_vertices"],
            "distance": (rule.distance or np.inf) * self.own.get("distance", 1.0),
            "left_hemisphere": 0.5 if rule.hemisphere else np.inf,
        }
        self.allowed = {
            name: max(allowed[name], 1e-12) for name in self.own if np.isfinite(allowed[name])
        }

    def sums(self, chosen: np.ndarray) -> _Sums:
        """Of one set."""
        square = np.ix_(chosen, chosen)
        return _Sums(
            len(chosen),
            self.snr[chosen].sum(),
            np.square(self.snr[chosen]).sum(),
            self.vertices[chosen].sum(),
            self.left[chosen].sum(),
            self.apart[square].sum(),
            self.together[square].sum(),
        )

    def of(self, chosen: np.ndarray) -> dict[str, _Numbers]:
        """The traits of one set."""
        return self.sums(chosen).traits()

    def exchanged(self, chosen: np.ndarray, free: np.ndarray) -> dict[str, _Numbers]:
        """The traits of every set in which one chosen region [rows] gives way to a free one."""
        now = self.sums(chosen)

        def swap(values: np.ndarray) -> np.ndarray:
            return values[free] - values[chosen][:, None]

        def swap_pairs(pairs: np.ndarray) -> np.ndarray:
            # A pair counts twice in a sum over rows and columns.
            gained = pairs[np.ix_(free, chosen)].sum(axis=1) - pairs[np.ix_(chosen, free)]
            return 2.0 * (gained - pairs[np.ix_(chosen, chosen)].sum(axis=1)[:, None])

        return _Sums(
            now.size,
            now.snr + swap(self.snr),
            now.squares + swap(np.square(self.snr)),
            now.vertices + swap(self.vertices),
            now.left + swap(self.left),
            now.apart + swap_pairs(self.apart),
            now.pairs + swap_pairs(self.together),
        ).traits()

    def deviations(self, found: dict[str, _Numbers]) -> dict[str, _Numbers]:
        """Trait -> difference from the given set over what is allowed; at most 1 is met."""
        off = {n: np.abs(found[n] - self.own[n]) / size for n, size in self.allowed.items()}
        return {n: np.where(np.isfinite(value), value, 1e6) for n, value in off.items()}

    def cost(self, found: dict[str, _Numbers]) -> _Numbers:
        """What an exchange has to lower; 0 where the rule is met with a little to spare."""
        off = np.stack(list(self.deviations(found).values()))
        cost: _Numbers = np.square(np.maximum(off - 0.75, 0.0)).sum(axis=0)
        return cost

    def worst(self, chosen: tuple[int, ...]) -> float:
        """The largest deviation of a set; at most 1 where it is matched."""
        return float(max(self.deviations(self.of(np.array(chosen))).values()))

    def search(self, rng: np.random.Generator) -> tuple[int, ...]:
        """A random set outside the given one, brought near by exchanges of one region."""
        size = len(self.snr) - len(self.outside)
        chosen = rng.choice(self.outside, size, replace=False)
        cost = float(self.cost(self.of(chosen)))
        for _ in range(_EXCHANGES):
            free = self.outside[~np.isin(self.outside, chosen)]
            if cost == 0 or not len(free):
                break
            costs = np.asarray(self.cost(self.exchanged(chosen, free)))
            if not costs.min() < cost - 1e-12:
                break
            row, column = np.unravel_index(
                rng.choice(np.flatnonzero(costs == costs.min())), costs.shape
            )
            chosen[row], cost = free[column], float(costs[row, column])
        return tuple(sorted(int(i) for i in chosen))

    def report(self, chosen_sets: list[tuple[int, ...]]) -> dict[str, Any]:
        """Of each trait the given set's value, and the sets' mean and range; what they miss."""
        traits = [self.of(np.array(chosen)) for chosen in chosen_sets]
        result: dict[str, Any] = {}
        for name, own in self.own.items():
            values = np.array([each[name] for each in traits], np.float64)
            known = values[np.isfinite(values)]
            result[name] = {
                "own": own,
                "mean": float(known.mean()) if len(known) else None,
                "range": [float(known.min()), float(known.max())] if len(known) else None,
            }
        # The nearest set stands first.
        nearest = self.deviations(traits[0]) if traits else {}
        return result | {"failed": [name for name, value in nearest.items() if value > 1]}


def _centres(regions: Parcellation) -> Float[np.ndarray, "p 3"] | None:
    """Mean places of regions on nilearn's sphere of fsaverage5; None where they are not on it.

    A finer average surface begins with the vertices of fsaverage5, which stand for a region there.
    """
    known = MESHES["fsaverage5"]
    left, right = regions.num_vertices
    coarse = [own[own < known] for own in regions.vertices]
    if left != right or left not in MESHES.values() or not all(map(len, coarse)):
        return None
    points = dict(zip(HEMISPHERES, fsaverage5_sphere(), strict=True))
    return np.stack(
        [points[h][own].mean(axis=0) for h, own in zip(regions.hemispheres, coarse, strict=True)]
    )
