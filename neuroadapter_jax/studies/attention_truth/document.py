"""The document of the study: what was asked, what came out, and every table and figure."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.ibbi.matching import match_sentence
from neuroadapter_jax.studies.attention_truth.tables import tables
from neuroadapter_jax.tables import interval_cell

_TITLE = """# Does attention tell the truth?

IBBI reads two things from the attention to the regions: which region drives the image (brain view)
and where in the image an ROI looks (image view). On real data nobody can check either. On the
simulated subject every ROI has a written response model and every object a mask, and the image can
be reconstructed again with a region silenced. This page is written by one command:

```console
$ neuroadapter attention-truth --model {model} --prepared PREPARED --root ROOT --out OUT
```
"""

_HOW = """## How to read the numbers

* **Controls of maps.** Each ROI's map is compared with that ROI's own mean map over all images (its
  habit) and with its own map of another image, and then the ROIs are averaged. Controls that mix
  ROIs would make a habit look like chance.
* **Images are the unit** of every interval and test: the ROIs of one image are not independent.
* **Shares of objects** have Clopper and Pearson's exact interval for the effective number of
  objects; differences of shares have Newcombe's. There are no ratios to a handful of events.
* **Random sets** have as many regions as the set, as many of them in each hemisphere, and come
  within 10 % of its mean SNR, of the standard deviation of its SNR (in units of the mean) and of
  its number of vertices, and within half of the mean distance between its regions. Up to 20 of them
  take turns over the images. Where no such set exists, the comparison is not made, and the table
  says what differs.
* **Families.** p is of a sign-flip test over images, corrected by Holm's method. The families:
  {families}.
"""


def document(results: Mapping[str, Any]) -> str:
    """The whole document as Markdown; figures are expected in images/ beside it.

    Args:
        results: what `run_attention_truth` returns.
    """
    maps = results["localisation"]["attention"]
    per_way = next(iter(maps.values())).get("family", 0)
    models = results["models"]
    families = "; ".join(
        [
            f"{per_way} tests of ROIs against both controls, for each kind of map",
            f"{models['family']} tests of adapters",
            f"{results['families']['categories']} of categories lost with their ROI",
            f"{results['families']['changes']} of how far sets move reconstructions",
        ]
    )
    data = results.get("data") or {}
    noise = (data.get("simulation") or {}).get("noise", "clean")
    about = (
        f"The simulated subject is number {data.get('subject', 1)} with `{noise}` noise; "
        f"{results['num_images']} test images, DPM-Solver++ with 19 steps.\n"
    )
    figures = {
        "deletion": "Pixel correlation and recall as regions are silenced or added, by ranking",
        "categories": "Objects lost with the ROI of their category and with matched random sets",
        "silencing": "What silencing and replacing move, in units of another reconstruction",
    }
    return "\n".join(
        [
            _TITLE.format(model="MODEL"),
            about,
            "## In short\n",
            "\n".join(f"* {line}" for line in conclusions(results)) + "\n",
            _HOW.format(families=families),
            tables(results),
            "## Figures\n",
            *(f"![{text}](images/{name}.png)\n" for name, text in figures.items()),
        ]
    )


def conclusions(results: Mapping[str, Any]) -> list[str]:
    """What the numbers say, a sentence or two per question.

    Args:
        results: what `run_attention_truth` returns.
    """
    pooled = results["localisation"]["attention"]["all ROIs"]
    return [
        _maps(pooled),
        *_models(results["models"]),
        _ranks(results),
        _categories(results["categories"]["silence"]),
        *_early(results["changes"]["silence"]),
    ]


def _side(entry: Mapping[str, Any]) -> int:
    """Whether an interval lies above 0 (1), below it (-1), or holds it (0)."""
    low, high = entry["interval"]
    return 1 if low > 0 else -1 if high < 0 else 0


def _maps(pooled: Mapping[str, Any]) -> str:
    above = [pooled["auc_above_mean_map"], pooled["auc_above_permuted"]]
    verdict = "can be believed" if min(map(_side, above)) > 0 else "is not shown to follow content"
    return (
        f"**Where an ROI looks {verdict}.** The highest pixel of a category ROI's map is in the "
        f"mask of its object {interval_cell(pooled['pointing_over_chance'], '.1f')} times as often "
        f"as chance, AUC {interval_cell(pooled['auc'], '.3f')}. Its own mean map reaches "
        f"{interval_cell(pooled['mean_map']['auc'], '.3f')}, its map of another image "
        f"{interval_cell(pooled['permuted']['auc'], '.3f')}: this image's content adds "
        f"{interval_cell(above[0], '.3f')} and {interval_cell(above[1], '.3f')}."
    )


def _models(models: Mapping[str, Any]) -> list[str]:
    lines = []
    over = models["over_trained"]["auc"]
    if over["runs"] > 1:
        above = interval_cell(models["over_trained"]["auc_above_permuted"], ".3f")
        lines.append(
            f"**Over {over['runs']} trainings** of different seeds the AUC is "
            f"{interval_cell(over, '.3f')} and {above} above that of another image's map "
            "(Student's interval over seeds)."
        )
    trained = models["over_trained"]["auc_above_permuted"]["value"]
    told = []
    for name, each in models["models"].items():
        if each["kind"] == "trained":
            continue
        above = each["auc_above_permuted"]
        lost = _side(above) < 1 or above["value"] < 0.1 * trained
        told.append(
            f"{name}: AUC less that of another image's map {interval_cell(above, '.3f')}, "
            f"{'lost' if lost else 'not lost'}"
        )
    if told:
        verdict = "does not always lose it" if "not lost" in "; ".join(told) else "loses it"
        lines.append(
            f"**An adapter that has not learned where to look {verdict}** "
            f"({'; '.join(told)}; the trained ones: {trained:.3f})."
        )
    return lines


def _ranks(results: Mapping[str, Any]) -> str:
    told = []
    for reduction in ("attention", "gradient"):
        agreement = results["ranks"][reduction]["brain view and effect"]
        gain = results["deletion"]["curves"][reduction]["gain"]["recall"]
        told.append(
            f"{reduction}: {interval_cell(agreement)} within an image, {agreement['of_means']:.2f} "
            f"of the means over images, insertion less deletion of recall {interval_cell(gain)}"
        )
    random = results["deletion"]["curves"]["random"]["gain"]["recall"]
    return (
        "**How much a region is attended against what dropping it changes**, as Spearman's "
        f"correlation over regions: {'; '.join(told)} (a random order: {interval_cell(random)})."
    )


def _categories(own: Mapping[str, Any]) -> str:
    refused = [
        roi for roi, entry in own.items() if "match" in entry and not entry["match"]["matched"]
    ]
    without = f" No set is matched to {', '.join(refused)}, so these were not compared."
    if "all ROIs" not in own:
        return "**Silencing a category's ROI** could not be compared." + (
            without if refused else ""
        )
    pooled = own["all ROIs"]
    difference = pooled["difference"]
    verdict = "is specific" if _side(difference) > 0 else "is not shown to be specific"
    return (
        f"**Silencing a category's ROI {verdict}.** It loses {interval_cell(pooled['changed'])} of "
        f"{pooled['objects']} objects of that category that were reconstructed right, matched "
        f"random sets {interval_cell(pooled['changed_by_random_sets'])}; the difference is "
        f"{interval_cell(difference)}.{without if refused else ''}"
    )


def _early(own: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, entry in own.items():
        if "match" not in entry:
            continue
        moved = (
            f"**Silencing {name}** moves structure by {interval_cell(entry['structure'])} and "
            f"category by {interval_cell(entry['category'])} of the distance between two images"
        )
        if less := entry["less_random"]:
            moved += (
                f"; less its matched sets {interval_cell(less['structure'])} and "
                f"{interval_cell(less['category'])}."
            )
        else:
            moved += f"; {match_sentence(entry['match'])}"
        lines.append(moved)
    return lines
