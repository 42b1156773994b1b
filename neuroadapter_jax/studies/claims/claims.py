"""What the paper claims, and what of the cells tells whether it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from neuroadapter_jax.studies.claims.cells import FULL, NO_DROPOUT, Stored
from neuroadapter_jax.studies.claims.decoding import LOST

RECALL, PIXELS = "semantic_recall", "pixel_correlation"
# By how much something may be worse and still count as no worse.
RECALL_MARGIN, PIXEL_MARGIN = 0.03, 0.02
Table = Float[np.ndarray, "k b"]


@dataclass(frozen=True)
class Cells:
    """The finished cells, as tables of seeds and images.

    Attributes:
        found: cell -> its file.
        seeds: of the plan.
    """

    found: Mapping[str, Stored]
    seeds: tuple[int, ...]

    def results(self, *names: str) -> list[tuple[dict[str, Any], ...]]:
        """The results of the named rows or evaluations, of every seed that has them all."""
        wanted = [[f"{name}-seed{seed}" for name in names] for seed in self.seeds]
        return [
            tuple(self.found[cell]["result"] for cell in cells)
            for cells in wanted
            if all(cell in self.found for cell in cells)
        ]

    def table(
        self, names: tuple[str, ...], of: Callable[..., Float[np.ndarray, " b"]]
    ) -> Table | None:
        """`of` the results of each seed, as a table; None where no seed has them all."""
        rows = [of(*results) for results in self.results(*names)]
        return np.stack(rows) if rows else None


def score(result: Mapping[str, Any], scores: Mapping[str, Any], name: str) -> np.ndarray:
    """A score per image; objects found as shares, whose mean is the recall.

    Args:
        result: with the objects shown.
        scores: of the images.
        name: of the score.
    """
    values = np.array(scores[name], float)
    if name in ("semantic_recall", "object_identity"):
        return values / np.mean(result["shown"])
    return values


@dataclass(frozen=True)
class Claim:
    """A claim, and the number that is above 0 where it holds.

    Attributes:
        text: the claim.
        where: the paper makes it.
        how: it is tested.
        test: of the cells, the table whose mean is tested.
        margin: the claim is that something is no worse, by so much.
        figure: name of the figure that shows it.
    """

    text: str
    where: str
    how: str
    test: Callable[[Cells], Table | None]
    margin: float = 0.0
    figure: str = "effects"


def between_rows(better: str, worse: str, name: str, sign: float = 1.0) -> Callable:
    """Scores of one training less those of another, the same seed and image."""

    def test(cells: Cells) -> Table | None:
        return cells.table(
            (better, worse),
            lambda a, b: sign * (score(a, a["scores"], name) - score(b, b["scores"], name)),
        )

    return test


def _dropout_matters_most(cells: Cells) -> Table | None:
    """What leaving out token dropout costs, less what leaving out each other part costs."""
    others = ("p20", "p160", "no_min_snr")

    def cost(full: Any, without: Any, *rest: Any) -> np.ndarray:
        own = score(full, full["scores"], RECALL) - score(without, without["scores"], RECALL)
        each = [score(full, full["scores"], RECALL) - score(x, x["scores"], RECALL) for x in rest]
        each.append(score(full, full["scores"], RECALL) - score(full, full["mean_scores"], RECALL))
        return own - np.mean(each, axis=0)

    return cells.table((FULL, NO_DROPOUT, *others), cost)


def _robust(cells: Cells) -> Table | None:
    """Recall with regions lost less that with all, with dropout less without it."""

    def fall(result: Any, row: str) -> np.ndarray:
        whole, *lost = (
            score(result, result["scores"][f"{row}, unguided, {share}"], RECALL) for share in LOST
        )
        return np.mean(lost, axis=0) - whole

    return cells.table(("lost_regions",), lambda r: fall(r, FULL) - fall(r, NO_DROPOUT))


def _selected(name: str) -> Callable[[Cells], Table | None]:
    def test(cells: Cells) -> Table | None:
        return cells.table(
            ("selection",),
            lambda r: score(r, r["ways"]["chosen"], name) - score(r, r["ways"]["mean"], name),
        )

    return test


def _narrowed(result: Any) -> np.ndarray:
    """Entropy in the first third of the steps less that in the last."""
    own = result["entropy"]
    return np.array(own["first"], float) - np.array(own["last"], float)


def _beyond_habit(areas: tuple[str, ...] | None, change: bool) -> Callable[[Cells], Table | None]:
    """AUC of areas' maps beyond their mean maps', in the last third of the steps, or its rise.

    An image counts with the mean over the areas whose object it shows.
    """

    def of(result: Any) -> np.ndarray:
        found = result["beyond_habit"]
        names = [n for n in areas or found if n in found and (areas or n != "Scene")]
        if not names:
            return np.full(len(result["higher_over_early"]), np.nan)
        first, last = (np.array([found[n][x] for n in names], float) for x in ("first", "last"))
        values = last - first if change else last
        known = np.isfinite(values)
        count = known.sum(axis=0)
        mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        return np.where(count > 0, mean, np.nan)

    return lambda cells: cells.table(("attention",), of)


def _silenced(name: str, sign: float) -> Callable[[Cells], Table | None]:
    """Recall with a set silenced less that with its controls silenced; None if not matched."""

    def test(cells: Cells) -> Table | None:
        found = cells.results("silencing")
        if not all(m["is_matched"] for (r,) in found for m in r["sets"][name]["match"]):
            return None

        def of(result: Any) -> np.ndarray:
            own = result["sets"][name]
            pairs = zip(own["matched"], own["controls"], strict=True)
            return sign * np.mean(
                [score(result, a, RECALL) - score(result, b, RECALL) for a, b in pairs], axis=0
            )

        return cells.table(("silencing",), of)

    return test


def _unseen(which: str) -> Callable[[Cells], Table | None]:
    def of(result: Any) -> np.ndarray:
        own = result["sets"][which]
        return score(own, own["scores"], RECALL) - score(own, own["chance"], RECALL)

    return lambda cells: cells.table(("unseen",), of)


def _imagined(result: Any) -> np.ndarray:
    own = result["sets"]["imagery"]
    return np.array(own["scores"]["two_way_tiny_vit_pooled"], float) - 0.5


def _methods(better: str, worse: str) -> Callable[[Cells], Table | None]:
    def of(result: Any) -> np.ndarray:
        a, b = (score(result, result["scores"][name], PIXELS) for name in (better, worse))
        return a - b

    return lambda cells: cells.table(("low_level",), of)


ABLATION, SELECTION = "ablation", "ablation; encoder selection"
IBBI, SILENCE, REVIEW = "attention (IBBI)", "causal masking", "asked by its reviewers"
CLAIMS: tuple[Claim, ...] = (
    Claim("Token dropout helps, in meaning", ABLATION,
          "recall: full less without token dropout", between_rows(FULL, NO_DROPOUT, RECALL)),
    Claim("Token dropout matters most of all parts", ABLATION,
          "recall lost without it, less the mean loss without Min-SNR, without selection, with p a "
          "quarter and p double", _dropout_matters_most),
    Claim("A uniform drop rate beats a fixed one", "token dropout",
          "recall: full less drop rate 0.5", between_rows(FULL, "fixed_drop_rate", RECALL)),
    Claim("Token dropout makes decoding robust to lost regions", "token dropout",
          "fall of recall with 25 to 90 % of the regions lost, with dropout less without; no "
          "guidance", _robust, figure="lost"),
    Claim("Fewer regions are worse", ABLATION, "recall: p = 80 less p = 20",
          between_rows(FULL, "p20", RECALL), figure="regions"),
    Claim("Twice as many regions are worse, by their noise", ABLATION,
          "recall: p = 80 less p = 160", between_rows(FULL, "p160", RECALL), figure="regions"),
    Claim("Four times as many regions are worse", ABLATION, "recall: p = 80 less p = 320",
          between_rows(FULL, "p320", RECALL), figure="regions"),
    Claim("Min-SNR weights help", ABLATION, "recall: full less without Min-SNR",
          between_rows(FULL, "no_min_snr", RECALL)),
    Claim("Encoder selection helps, in meaning", SELECTION,
          "recall: the choice of 8 less the mean candidate", _selected(RECALL)),
    Claim("Encoder selection helps by an independent judge", SELECTION,
          "correlation of another encoder's predicted response: the choice less the mean candidate",
          _selected("judge")),
    Claim("Parcels beat random vertex sets of equal size (region structure)", ABLATION,
          "recall: full less vertices shuffled among the regions",
          between_rows(FULL, "no_region_structure", RECALL)),
    Claim("A linear projection per region is no worse than an MLP", REVIEW,
          f"recall: full less an MLP per region; no worse by {RECALL_MARGIN}",
          between_rows(FULL, "mlp", RECALL), RECALL_MARGIN),
    Claim("A loss over pixels helps the low level", "a wish of this project's, not the paper's",
          "pixel correlation: with the loss less full", between_rows("pixel_loss", FULL, PIXELS)),
    Claim("A loss over pixels costs no meaning", "a wish of this project's, not the paper's",
          f"recall: with the loss less full; no worse by {RECALL_MARGIN}",
          between_rows("pixel_loss", FULL, RECALL), RECALL_MARGIN),
    Claim("Higher areas dominate the attention", IBBI,
          "log of a region's share in higher areas over that in V1 to V4, mean over steps",
          lambda cells: cells.table(
              ("attention",), lambda r: np.array(r["higher_over_early"])),
          figure="attention"),
    Claim("Attention narrows over the steps", IBBI,
          "entropy of category areas' maps: first third of the steps less the last",
          lambda cells: cells.table(("attention",), _narrowed),
          figure="attention"),
    Claim("Attention moves to the relevant place", IBBI,
          "AUC of category areas' maps beyond their habit: last third of the steps less the first",
          _beyond_habit(None, True), figure="attention"),
    Claim("The faces' area looks at faces", IBBI,
          "AUC of its map on faces beyond its habit, last third of the steps",
          _beyond_habit(("Face",), False), figure="attention"),
    Claim("Scene areas look at the background", IBBI,
          "AUC of their map on pixels of no object beyond its habit, last third of the steps",
          _beyond_habit(("Scene",), False), figure="attention"),
    Claim("Silencing V1 to V3 leaves the meaning", SILENCE,
          "recall: with V1 to V3 silenced less with matched controls silenced; no worse by "
          f"{RECALL_MARGIN}", _silenced("early", 1.0), RECALL_MARGIN, "silencing"),
    Claim("Silencing category areas destroys the meaning", SILENCE,
          "recall: with matched controls silenced less with the areas silenced",
          _silenced("category", -1.0), figure="silencing"),
    Claim("It generalises to unseen objects", "other data sets (Deeprecon)",
          "recall on objects never trained on, less chance (another image's objects)",
          _unseen("unseen_objects"), figure="sets"),
    Claim("It generalises to new combinations", "other data sets (Deeprecon)",
          "recall on new combinations of objects and places, less chance",
          _unseen("new_combinations"), figure="sets"),
    Claim("It generalises to imagery", "other data sets (NSD-Imagery)",
          "two-way identification of twelve imagined targets by tiny-vit, less 0.5",
          lambda cells: cells.table(("imagery",), _imagined), figure="sets"),
    Claim("A low-level start raises the low level", "comparison with methods that have VDVAE",
          "pixel correlation: with the start less without",
          _methods("neuroadapter_low_level", "neuroadapter")),
    Claim("With it the gap to a decoder with a low-level path closes",
          "comparison with methods that have VDVAE",
          f"pixel correlation: NeuroAdapter with the start less the linear two-stage decoder with "
          f"it; no worse by {PIXEL_MARGIN}",
          _methods("neuroadapter_low_level", "linear_low_level"), PIXEL_MARGIN),
)  # fmt: skip
