"""Tables of the study "does attention tell the truth?"."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.evaluation.appearance import MEASURES
from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.studies.attention_truth.maps import CATEGORY_OF_ROI
from neuroadapter_jax.tables import MISSING, interval_cell, markdown_table


def model_rows(results: Mapping[str, Any]) -> str:
    """Where the attention of each adapter looks, as Markdown; "" where only one was looked at.

    Args:
        results: what `run_attention_truth` returns.
    """
    found = results.get("models")
    if not found:
        return ""
    above = ("auc_above_mean_map", "auc_above_permuted")
    rows = [
        [
            name,
            each["kind"],
            interval_cell(each["objects"]),
            interval_cell(each["pointing_over_chance"]),
            interval_cell(each["auc"], ".3f"),
            *(f"{interval_cell(each[test], '.3f')}{p_cell(each[test])}" for test in above),
        ]
        for name, each in found["models"].items()
    ]
    over = found["over_trained"]
    if over["auc"]["runs"] > 1:
        forms = {"pointing_over_chance": ".2f", "auc": ".3f", **dict.fromkeys(above, ".3f")}
        cells = [interval_cell(over[score], form) for score, form in forms.items()]
        rows.append([f"mean of {over['auc']['runs']} seeds", "trained", "–", *cells])
    head = ["adapter", "kind", "objects reconstructed", "pointing / chance", "AUC"]
    return markdown_table([*head, "AUC - mean map", "AUC - permuted"], rows)


def p_cell(test: Mapping[str, Any] | None) -> str:
    """A test's corrected probability, such as ", p < 0.001"."""
    if test is None or test.get("p_holm") is None:
        return ""
    p = test["p_holm"]
    return ", p < 0.001" if p < 0.001 else f", p = {p:.3f}"


def match_rows(results: Mapping[str, Any]) -> str:
    """How like its random sets each perturbed set is, as Markdown.

    Args:
        results: what `run_attention_truth` returns.
    """
    reports: dict[str, Mapping[str, Any]] = {}
    for perturbation, own in results["categories"].items():
        rule = "largest share" if "largest" in perturbation else "more than half"
        for roi, entry in own.items():
            if "match" in entry:
                reports.setdefault(f"{roi} ({rule})", entry["match"])
    for own in results["changes"].values():
        for name, entry in own.items():
            if "match" in entry:
                reports.setdefault(name, entry["match"])

    def cell(trait: Mapping[str, Any] | None, form: str) -> str:
        if trait is None:
            return MISSING
        if trait["mean"] is None:
            return f"{trait['own']:{form}} / {MISSING}"
        low, high = trait["range"]
        return f"{trait['own']:{form}} / {trait['mean']:{form}} [{low:{form}}, {high:{form}}]"

    rows = [
        [
            name,
            str(report["num_regions"]),
            f"{report['num_sets']} sets" if report["matched"] else "**not matched**",
            *(
                cell(report.get(trait), form)
                for trait, form in (
                    ("mean_snr", ".2f"),
                    ("spread_snr", ".2f"),
                    ("num_vertices", ".0f"),
                    ("distance", ".0f"),
                    ("left_hemisphere", ".0f"),
                )
            ),
        ]
        for name, report in reports.items()
    ]
    head = ["set", "regions", "match", "mean SNR", "SD of SNR", "vertices", "distance (mm)"]
    return markdown_table([*head, "regions in lh"], rows) if rows else ""


def less_random_rows(results: Mapping[str, Any]) -> str:
    """How much further a set moves reconstructions than its matched sets, as Markdown.

    Args:
        results: what `run_attention_truth` returns.
    """
    measures = (*MEASURES, "pixel_correlation", "recall")
    rows = [
        [
            perturbation,
            name,
            *(f"{interval_cell(less[m])}{p_cell(less[m])}" for m in measures),
        ]
        for perturbation, own in results["changes"].items()
        for name, entry in own.items()
        if (less := entry.get("less_random"))
    ]
    return markdown_table(["perturbation", "set", *measures], rows) if rows else ""


def tables(results: Mapping[str, Any]) -> str:
    """The results as Markdown, a section per question.

    Args:
        results: what `run_attention_truth` returns, or the results.json of version 0.1.0.
    """
    results = with_new_names(results)
    ways = results["localisation"]
    pointing = ["pointing / chance", "AUC"]
    controls = ("mean map", "permuted")
    pooled = []
    for way, own in ways.items():
        scores = own["all ROIs"]
        blocks = (scores, scores["mean_map"], scores["permuted"])
        pooled.append(
            [way]
            + [
                text
                for block in blocks
                for text in (
                    interval_cell(block["pointing_over_chance"]),
                    interval_cell(block["auc"], ".3f"),
                )
            ]
            + [interval_cell(scores.get(f"auc_above_{x}"), ".3f") for x in ("mean_map", "permuted")]
        )
    per_roi = [
        [
            roi,
            CATEGORY_OF_ROI[roi],
            str(results["regions"][roi]),
            str(scores["num_images"]),
            f"{scores['chance']:.3f}",
            interval_cell(scores["pointing"]),
            interval_cell(scores["pointing_over_chance"], ".1f"),
            interval_cell(scores["auc"], ".3f"),
            *(
                f"{interval_cell(scores.get(test), '.3f')}{p_cell(scores.get(test))}"
                for test in ("auc_above_mean_map", "auc_above_permuted")
            ),
        ]
        for roi, scores in ways["attention"].items()
        if roi in CATEGORY_OF_ROI
    ]
    retinotopy = [
        [roi, *(interval_cell(own[roi], ".3f") for own in results["retinotopy"].values())]
        for roi in results["retinotopy"]["attention"]
    ]
    ranks = [
        [reduction, pair, interval_cell(entry), f"{entry['of_means']:.2f}"]
        for reduction, own in results["ranks"].items()
        for pair, entry in own.items()
        # What does not hold the brain view is the same for all reductions.
        if pair.startswith("brain view") or reduction == "attention"
    ]
    losses = [
        [
            perturbation,
            roi,
            str(entry.get("regions", "")),
            str(entry["objects"]),
            interval_cell(entry["changed"]),
            interval_cell(entry["changed_by_random_sets"]),
            _difference_cell(entry),
        ]
        for perturbation, own in results["categories"].items()
        for roi, entry in own.items()
    ]
    moved = [
        [
            perturbation,
            name,
            str(entry["regions"]),
            *(interval_cell(entry[m], ".3f") for m in MEASURES),
        ]
        for perturbation, own in results["changes"].items()
        for name, entry in own.items()
    ]
    left = [
        [
            perturbation,
            name,
            interval_cell(entry["pixel_correlation"]),
            interval_cell(entry["recall"]),
        ]
        for perturbation, own in results["changes"].items()
        for name, entry in own.items()
    ]
    deletion = [
        [
            name,
            *(
                interval_cell(
                    own[way][measure]["area_under_curve"] if way != "gain" else own[way][measure],
                    ".3f",
                )
                for measure in ("pixel_correlation", "recall")
                for way in ("deletion", "insertion", "gain")
            ),
        ]
        for name, own in results["deletion"]["curves"].items()
    ]
    counts = results["counts"]
    tested = ", ".join(
        f"{kind}: {n} images and {counts['random'][kind]} random sets per ROI"
        for kind, n in counts["categories"].items()
    )
    return "\n".join(
        [
            f"{results['num_images']} test images where nothing else is said; [95 % intervals over "
            "images: exact for shares, else bootstrap]. Maps are means over all steps, effects "
            "over the shown ones. p is corrected by Holm over the family that is named.\n",
            "## Where the maps of the category ROIs look\n",
            "Pooled over ROIs; one row per reduction, raw and relative to its mean over images:\n",
            markdown_table(
                ["map", *pointing]
                + [f"{x}, {c}" for c in controls for x in pointing]
                + [f"AUC - {c}" for c in controls],
                pooled,
            ),
            "By ROI, `attention` (p over the ROIs and both controls):\n",
            markdown_table(
                ["ROI", "category", "regions", "images", "chance", "pointing", *pointing]
                + [f"AUC - {c}" for c in controls],
                per_roi,
            ),
            "Share of a map in the half of the image opposite to the hemisphere (chance 0.5):\n",
            markdown_table(["ROI", *results["retinotopy"]], retinotopy),
            "## Other adapters\n",
            model_rows(results),
            "## Which region matters\n",
            f"Spearman's correlation over regions, {counts['effects']} images:\n",
            markdown_table(["reduction", "between", "per image", "of means"], ranks),
            "## Deletion and insertion\n",
            f"Area under the curve over the share of regions, {results['deletion']['num_images']} "
            "images; r is the pixel correlation with the stimulus:\n",
            markdown_table(
                ["ranking"]
                + [
                    f"{measure}, {way}"
                    for measure in ("r", "recall")
                    for way in ("deletion", "insertion", "insertion - deletion")
                ],
                deletion,
            ),
            "## Silencing and replacing\n",
            "Objects that were reconstructed right and are not any more, with a category's ROI "
            "perturbed "
            f"({tested}):\n",
            markdown_table(
                [
                    "perturbation",
                    "ROI",
                    "regions",
                    "objects",
                    "changed",
                    "random sets",
                    "difference",
                ],
                losses,
            ),
            "The match of the random sets, given set / mean of its sets [range]:\n",
            match_rows(results),
            "Distance from the intact reconstruction, as a share of another image's "
            f"({counts['changes']} images; 0: the same, 1: as unlike as another image's):\n",
            markdown_table(["perturbation", "set", "regions", *MEASURES], moved),
            "What is left of the intact reconstruction's pixel correlation with the stimulus and "
            "of its recall (the same images):\n",
            markdown_table(["perturbation", "set", "pixel correlation", "recall"], left),
            "The same of a set less its matched random sets:\n",
            less_random_rows(results),
        ]
    )


def _difference_cell(entry: Mapping[str, Any]) -> str:
    difference = entry.get("difference")
    if difference is None:
        return MISSING
    return interval_cell(difference) + (p_cell(difference) or f", p = {difference['p']:.3f}")
