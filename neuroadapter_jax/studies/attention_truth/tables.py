"""Tables of the study "does attention tell the truth?"."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.evaluation.appearance import MEASURES
from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.studies.attention_truth.maps import CATEGORY_OF_ROI
from neuroadapter_jax.tables import interval_cell, markdown_table


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
            interval_cell(entry["over_random"], ".1f") if entry["over_random"]["value"] else "–",
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
            f"{results['num_images']} test images where nothing else is said; [95 % bootstrap "
            "intervals over images]. Maps are means over all steps, effects over the shown ones.\n",
            "## Where the maps of the category ROIs look\n",
            "Pooled over ROIs; one row per reduction, raw and relative to its mean over images:\n",
            markdown_table(
                ["map", *pointing] + [f"{x}, {c}" for c in controls for x in pointing], pooled
            ),
            "By ROI, `attention`:\n",
            markdown_table(
                ["ROI", "category", "regions", "images", "chance", "pointing", *pointing],
                per_roi,
            ),
            "Share of a map in the half of the image opposite to the hemisphere (chance 0.5):\n",
            markdown_table(["ROI", *results["retinotopy"]], retinotopy),
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
                ["perturbation", "ROI", "regions", "objects", "changed", "random sets", "ratio"],
                losses,
            ),
            "Distance from the intact reconstruction, as a share of another image's "
            f"({counts['changes']} images; 0: the same, 1: as unlike as another image's):\n",
            markdown_table(["perturbation", "set", "regions", *MEASURES], moved),
            "What is left of the intact reconstruction's pixel correlation with the stimulus and "
            "of its recall (the same images):\n",
            markdown_table(["perturbation", "set", "pixel correlation", "recall"], left),
        ]
    )
