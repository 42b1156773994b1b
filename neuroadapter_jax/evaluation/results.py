"""Scores as files: a row per image, tables beside published numbers, paired differences."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Real

from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.evaluation.features import PUBLISHED_NETWORKS
from neuroadapter_jax.evaluation.old_names import NEW_NAMES, with_new_names
from neuroadapter_jax.evaluation.protocol import less_is_better, metric_labels
from neuroadapter_jax.evaluation.selection import selection_table
from neuroadapter_jax.files import write_json, write_text
from neuroadapter_jax.metrics.colour import COLOUR_METRICS
from neuroadapter_jax.metrics.depth import DEPTH_METRICS
from neuroadapter_jax.metrics.statistics import bootstrap_ratio
from neuroadapter_jax.readers import read_json, read_text
from neuroadapter_jax.tables import MISSING, markdown_table

RESULTS, PER_IMAGE, TABLE = "results.json", "per_image.csv", "results.md"
PUBLISHED = ASSETS / "published" / "nsd.csv"
# Scores that are a ratio of sums over images, by the columns of both sums.
RATIOS = {
    "semantic_recall": ("objects_read_rightly", "objects_shown"),
    "object_identity": ("objects_identified", "objects_shown"),
}


@dataclass(frozen=True)
class PerImage:
    """One value per image and score.

    Attributes:
        image_ids: of the stimuli, in the order of the folder.
        columns: score -> values; NaN where an image has none.
    """

    image_ids: Int[np.ndarray, " b"]
    columns: Mapping[str, Real[np.ndarray, " b"]]


def read_results(path: str | Path) -> dict[str, Any]:
    """The results.json of a scored folder; one of version 0.1.0 comes with today's names.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        MissingFileError: it is not there.
    """
    path = results_file(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path} is not there; score the folder first: neuroadapter evaluate {path.parent}"
        )
    return with_new_names(read_json(path, "scores of `neuroadapter evaluate`"))


def results_file(path: str | Path) -> Path:
    """The results.json of a folder, or the file itself."""
    path = Path(path)
    return path / RESULTS if path.is_dir() else path


def write_per_image(path: Path, table: PerImage) -> None:
    """Write a CSV: image_id, then a column per score; values are exact (shortest repr).

    Args:
        path: the CSV file.
        table: to write.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", *table.columns])
    for row, image_id in enumerate(table.image_ids.tolist()):
        writer.writerow([image_id, *(x[row].item() for x in table.columns.values())])
    write_text(path, text.getvalue())


def read_per_image(path: Path) -> PerImage:
    """Read what `write_per_image` wrote; a file of version 0.1.0 comes with today's names.

    Args:
        path: the CSV file.

    Raises:
        MissingFileError: it is not there.
        InputError: it is no such table.
    """
    if not path.is_file():
        raise MissingFileError(
            f"{path} is not there; score the folder first: neuroadapter evaluate {path.parent}"
        )
    text = read_text(path, "a table of `neuroadapter evaluate`")
    with reading(path, "a table of `neuroadapter evaluate`"):
        head, *rows = csv.reader(text.splitlines())
    if head[:1] != ["image_id"] or not rows or any(len(row) != len(head) for row in rows):
        raise InputError(
            f"{path} is no table of `neuroadapter evaluate`: expected a column image_id and rows "
            f"of one length, found {', '.join(head)}; score the folder again."
        )
    ids, *values = zip(*rows, strict=True)
    with reading(path, "a table of numbers"):
        columns = {
            NEW_NAMES.get(name, name): np.array(x, np.float64)
            for name, x in zip(head[1:], values, strict=True)
        }
        return PerImage(np.array(ids, np.int64), columns)


def published_rows(path: Path = PUBLISHED) -> list[dict[str, Any]]:
    """Published numbers on NSD: method, subjects, num_images, source, and a number per metric.

    Identification is a share, not a percentage; None is what was not published.

    Args:
        path: the table; the one that the package ships by default.

    Examples:
        >>> from neuroadapter_jax.evaluation.results import published_rows
        >>> rows = published_rows()
        >>> {"method", "subjects", "num_images", "source", "pixcorr"} <= set(rows[0])
        True
    """
    words = ("method", "subjects", "source")
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {
                key: text if key in words else int(text) if key == "num_images" else _number(text)
                for key, text in row.items()
            }
            for row in csv.DictReader(file)
        ]


def score_cell(metric: str, value: float | None) -> str:
    """A score as papers print it: shares in percent, the rest with three digits.

    Args:
        metric: its name, such as "two_way_clip".
        value: the score; None where there is none.

    Examples:
        >>> from neuroadapter_jax.evaluation.results import score_cell
        >>> score_cell("two_way_clip", 0.934), score_cell("pixcorr", 0.1234)
        ('93.40%', '0.123')
    """
    if value is None:
        return MISSING
    return f"{value:.2%}" if metric.startswith("two_way") or metric in RATIOS else f"{value:.3f}"


def markdown(results: Mapping[str, Any], *, title: str, comparable: bool) -> str:
    """The scores of a folder as Markdown, and published numbers beside them.

    Published rows stand in one table per size of the test set: a two-way score depends on how many
    images there are to be mistaken for, so 515, 982 and 1000 images do not share a column.

    Args:
        results: of `score_folder`.
        title: heading.
        comparable: whether the images are NSD's, so that our row stands in the published tables.
    """
    labels, how = metric_labels(), results["convention"]
    first = how["first_side"]
    lines = [
        f"# {title}",
        "",
        f"{results['num_images']} images; convention: {how['name']} ("
        + (f"everything resized to {first} x {first} first, " if first else "")
        + ("antialiased" if how["antialias"] else "not antialiased")
        + (f"; 8 bits for {', '.join(how['eight_bit'])}" if how["eight_bit"] else "")
        + f"; two-way identification by {how['orientation']}). Means with 95 % bootstrap intervals "
        "over images.",
        "",
    ]
    scores = []
    for name, label in labels.items():
        if name in results["metrics"]:
            cell = _with_interval(name, results["metrics"][name])
        elif name in results["missing"]:
            cell = f"missing: {results['missing'][name]}"
        else:
            continue
        scores.append([label, _better(name), cell])
    for name, entry in results.get("set_level", {}).items():
        cell = _with_interval(name, entry)
        scores.append([f"{labels[name]}, whole sets of candidates", "more", cell])
    scores += [list(row) for row in further_rows(results)]
    lines.append(markdown_table(["metric", "better", "value [95 % interval]"], scores).rstrip())
    if "selection" in results:
        lines += [
            "",
            "## What the encoder's choice gives",
            "",
            "One of the candidates; oracle: the one of the best pixel correlation, which no "
            "encoder can know. Behind the value the gain over the mean candidate, paired, with its "
            "95 % bootstrap interval over images.",
            "",
            selection_table(results["selection"], labels).rstrip(),
        ]
    names = ["pixcorr", "ssim", *(m.name for x in PUBLISHED_NETWORKS for m in x.metrics)]
    arrows = [f"{labels[x]} {'↓' if less_is_better(x) else '↑'}" for x in names]
    rows = published_rows()
    note = (
        "Compare within one table only, and with the same convention."
        if comparable
        else "These images are not NSD's, so the numbers above do not compare with these."
    )
    lines += ["", "## Published, on the Natural Scenes Dataset", "", note]
    for count in sorted({row["num_images"] for row in rows}):
        lines += ["", f"### {count} test images", ""]
        entries = []
        if comparable and results["num_images"] == count:
            found = results["metrics"]
            cells = [score_cell(x, found.get(x, {}).get("value")) for x in names]
            entries.append(["**these**", "", count, *cells])
        for row in rows:
            if row["num_images"] == count:
                cells = [score_cell(x, row[x]) for x in names]
                entries.append([row["method"], row["subjects"], count, *cells])
        head = ["method", "subjects", "test images", *arrows]
        lines.append(markdown_table(head, entries).rstrip())
        sources = sorted({row["source"] for row in rows if row["num_images"] == count})
        lines += ["", "Source: " + "; ".join(sources) + "."]
    return "\n".join(lines) + "\n"


def summary_lines(results: Mapping[str, Any]) -> list[str]:
    """The scores of a folder as lines for the terminal, with what is missing and why."""
    labels, count = metric_labels(), results["num_images"]
    few = "; so few say little, whatever the intervals" if count < 20 else ""
    lines = [f"{count} images{few}"]
    lines += [f"{labels[x]}: {_with_interval(x, e)}" for x, e in results["metrics"].items()]
    for name in ("semantic_recall", "object_identity", "recall_relative_to_readout"):
        if results.get(name, {}).get("value") is not None:
            lines.append(f"{name.replace('_', ' ')}: {results[name]['value']:.3f}")
    lines += [f"{label}: {cell}" for label, _, cell in further_rows(results)]
    reasons: dict[str, list[str]] = {}
    for name, reason in results["missing"].items():
        reasons.setdefault(reason, []).append(labels[name])
    return lines + [f"missing: {', '.join(x)}: {reason}" for reason, x in reasons.items()]


def further_rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Label, which way is better, and value [interval] of what published tables rarely have.

    Colours are always there; depth and retrieval where a decoder left what they need, see
    `score_files.file_scores`.

    Args:
        results: of `score_folder`.
    """
    rows = [
        (label, _better(name), _with_interval(name, results[name]))
        for name, label in (COLOUR_METRICS | DEPTH_METRICS).items()
        if name in results
    ]
    if (found := results.get("retrieval_top1")) is not None:
        ways = {"forward": "the image by the embedding", "backward": "the embedding by the image"}
        for way, what in ways.items():
            value, (low, high) = found[way]["value"], found[way]["interval"]
            label = (
                f"Top-1 retrieval of {what} among {found['pool']} (chance {found['chance']:.1%})"
            )
            rows.append((label, "more", f"{value:.1%} [{low:.1%}, {high:.1%}]"))
    return rows


def paired_differences(a: str | Path, b: str | Path, seed: int = 0) -> dict[str, Any]:
    """What folder b scores more than folder a, image by image, with bootstrap intervals.

    The difference of a mean is the mean of differences; that of a ratio of sums over images has
    the same denominator in both. The images are resampled together.

    Args:
        a: folder that `score_folder` scored.
        b: another, of the same images by the same convention.
        seed: of the resampling.

    Returns:
        "a", "b": the folders; "convention"; "num_images"; "scores": name -> {"a", "b",
        "difference": {"value", "interval"}}; "one_sided": scores that one folder alone has.

    Raises:
        MissingFileError: a folder has not been scored.
        InputError: other images, another order, or another convention.
    """
    folders = [Path(a), Path(b)]
    tables = [read_per_image(folder / PER_IMAGE) for folder in folders]
    ids = [table.image_ids for table in tables]
    if not np.array_equal(ids[0], ids[1]):
        what = "another order" if set(ids[0]) == set(ids[1]) else "other images"
        raise InputError(
            f"{b} holds {what} than {a} ({len(ids[1])} and {len(ids[0])} rows in {PER_IMAGE}); "
            "only the same images in the same order make pairs."
        )
    names = [_convention(folder) for folder in folders]
    if names[0] != names[1]:
        raise InputError(
            f"{a} was scored by the convention {names[0]}, {b} by {names[1]}; score one of them "
            "again with --convention."
        )
    columns = [_scores(table) for table in tables]
    scores = {}
    for name, (top, below) in columns[0].items():
        if name not in columns[1]:
            continue
        other_top, other_below = columns[1][name]
        if not np.array_equal(below, other_below):
            raise InputError(
                f"{PER_IMAGE} of {a} and {b} disagree on how many objects images show; score both "
                "again with the same --root."
            )
        scores[name] = {
            "a": float(top.sum() / below.sum()),
            "b": float(other_top.sum() / below.sum()),
            "difference": bootstrap_ratio(other_top - top, below, seed),
        }
    return {
        "a": str(a),
        "b": str(b),
        "convention": names[0],
        "num_images": len(ids[0]),
        "scores": scores,
        "one_sided": sorted(set(columns[0]) ^ set(columns[1])),
    }


def compare_folders(a: str | Path, b: str | Path, out: str | Path | None = None) -> str:
    """What folder b scores more than folder a, as Markdown.

    Args:
        a: folder that `score_folder` scored.
        b: another, of the same images by the same convention.
        out: folder that gets comparison.json and comparison.md; nothing is written when None.

    Raises:
        MissingFileError: a folder has not been scored.
        InputError: other images, another order, or another convention.
    """
    differences = paired_differences(a, b)
    table = difference_table(differences)
    if out is not None:
        write_text(Path(out) / "comparison.md", table)
        write_json(Path(out) / "comparison.json", differences)
    return table


def difference_table(differences: Mapping[str, Any]) -> str:
    """`paired_differences` as Markdown.

    Args:
        differences: from `paired_differences`.
    """
    labels = metric_labels() | COLOUR_METRICS | DEPTH_METRICS
    lines = [
        f"a: {differences['a']}, b: {differences['b']}; {differences['num_images']} images, "
        f"convention: {differences['convention']}.",
        "",
    ]
    rows = []
    for name, entry in differences["scores"].items():
        cells = [score_cell(name, entry[side]) for side in "ab"]
        value, (low, high) = entry["difference"]["value"], entry["difference"]["interval"]
        difference = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append([labels.get(name, name), _better(name), *cells, difference])
    head = ["score", "better", "a", "b", "b - a [95 % interval]"]
    lines.append(markdown_table(head, rows).rstrip())
    if differences["one_sided"]:
        lines += ["", f"In one folder alone: {', '.join(differences['one_sided'])}."]
    return "\n".join(lines) + "\n"


def _scores(table: PerImage) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Score -> numerator and denominator per image; a mean's denominator is 1."""
    of_ratios = {name for pair in RATIOS.values() for name in pair}
    plain = {
        name: (values, np.ones_like(values))
        for name, values in table.columns.items()
        if name not in of_ratios
    }
    ratios = {
        name: (table.columns[top], table.columns[below])
        for name, (top, below) in RATIOS.items()
        if top in table.columns and below in table.columns
    }
    return plain | ratios


def _convention(folder: Path) -> str:
    return read_results(folder / RESULTS)["convention"]["name"]


def _better(metric: str) -> str:
    return "less" if less_is_better(metric) else "more"


def _with_interval(metric: str, entry: Mapping[str, Any]) -> str:
    cells = [score_cell(metric, x) for x in (entry["value"], *entry["interval"])]
    return f"{cells[0]} [{cells[1]}, {cells[2]}]"


def _number(text: str) -> float | None:
    return float(text) if text else None
