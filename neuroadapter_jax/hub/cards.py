"""Model cards: what a published model is, in words for people and in metadata for the Hub."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neuroadapter_jax
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.hub.kinds import Kind
from neuroadapter_jax.hub.licences import check_licence
from neuroadapter_jax.tables import markdown_table

LIBRARY = "neuroadapter-jax"
REPORT = "interpretation/report.html"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PAPER = (
    "Feng, Adeli, Guo, Cheng, Hwang and Kriegeskorte, *Towards Interpretable Visual Decoding with "
    "Attention to Brain Representations*, ICLR 2026 ([arXiv:2509.23566]"
    "(https://arxiv.org/abs/2509.23566))."
)


@dataclass(frozen=True)
class Score:
    """One score of a model on a test set.

    Attributes:
        metric: its name in results.json.
        label: its name for people.
        value: the mean over images.
        interval: its 95 % interval.
    """

    metric: str
    label: str
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class CardScores:
    """The scores of a model, as `evaluation.card_scores` reads them from results.json.

    Attributes:
        scores: of the metadata.
        num_images: of the test set.
        split: of the prepared records.
        dataset: whose images they are; None where results.json does not say.
        text: Markdown for people.
        model: provenance of the model that they are of; None where results.json does not say.
    """

    scores: tuple[Score, ...]
    num_images: int
    split: str
    dataset: str | None
    text: str
    model: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CardDetails:
    """What a model's folder cannot say about itself.

    Attributes:
        licence: of the model, the Hub's identifier (cc-by-4.0, mit, ...), or "other".
        licence_name: of another licence.
        licence_link: to the text of another licence.
        base_model: `owner/model` of the backbone, where config.json names a folder of this machine.
        datasets: the Hub's names of the data, where they are there.
        scores: see `evaluation.card_scores`; None leaves them out.

    Raises:
        InputError: a licence that the Hub does not know, or a base model that is none of the Hub.
    """

    licence: str
    licence_name: str | None = None
    licence_link: str | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    scores: CardScores | None = None

    def __post_init__(self):
        check_licence(self.licence, self.licence_name, self.licence_link)
        if self.base_model is not None and not _HUB_ID.fullmatch(self.base_model.split("@")[0]):
            raise InputError(
                f"base_model is {self.base_model!r}; expected a model of the Hub, owner/model."
            )


def dataset_of(config: Mapping[str, Any]) -> str | None:
    """The data that a config.json says its model was trained on, such as "nsd"."""
    data = _section(config, "data")
    name = data.get("dataset")
    if not isinstance(name, str):
        return None
    return f"simulated-{name}" if data.get("simulation") else name


def model_card(
    repo: str,
    kind: Kind,
    config: Mapping[str, Any],
    details: CardDetails,
    facts: Sequence[Sequence[str]] = (),
    files: Sequence[str] = (),
) -> str:
    """The text of README.md: metadata in YAML, then the card.

    Args:
        repo: `owner/model`, where the model will be.
        kind: of the model.
        config: its config.json, as it is published.
        details: what that does not say.
        facts: rows of two cells, such as those of the export's own card; from config.json when
            empty.
        files: names of all that is published; the page of the interpretation is linked, and the
            first of its pictures shown.
    """
    from huggingface_hub import ModelCard

    name = repo.rpartition("/")[2]
    rows = [list(row) for row in facts] or facts_of(kind, config)
    parts = [
        f"# {name}: {kind.what}",
        kind.use,
        "## How to load it",
        f"```console\n$ pip install {LIBRARY}\n```",
        f"```python\n{kind.code.format(repo=repo)}\n```",
        "## What it was trained on",
        markdown_table(["", ""], rows).rstrip(),
        "config.json holds every setting of the training and the fingerprints of its data.",
    ]
    if details.scores is not None:
        parts += ["## Scores", details.scores.text.rstrip()]
    if REPORT in files:
        parts += ["## Which region drives the image", _interpretation(repo, files)]
    parts += [
        "## Limits",
        "\n".join(f"- {limit}" for limit in kind.limits),
        "## Licence",
        _licence(details, kind.backbone_of(config)),
        "## Method and software",
        f"The method is that of {_PAPER} It was published with {LIBRARY} "
        f"{neuroadapter_jax.__version__}.",
    ]
    metadata = _metadata(name, kind, config, details).to_yaml()
    return str(ModelCard(f"---\n{metadata}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _metadata(name: str, kind: Kind, config: Mapping[str, Any], details: CardDetails) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    scores, trained_on = details.scores, dataset_of(config)
    dataset = trained_on or "unknown"
    if scores is not None:
        dataset = scores.dataset or dataset
    results = [
        EvalResult(
            task_type="other",
            task_name="Image reconstruction from fMRI",
            dataset_type=details.datasets[0] if details.datasets else dataset,
            dataset_name=dataset,
            dataset_split=scores.split,
            metric_type=each.metric,
            metric_name=each.label,
            metric_value=each.value,
            metric_args={"interval_95": list(each.interval), "num_images": scores.num_images},
        )
        for each in (() if scores is None else scores.scores)
        if scores is not None
    ]
    return ModelCardData(
        license=details.licence,
        license_name=details.licence_name,
        license_link=details.licence_link,
        library_name=LIBRARY,
        base_model=base_model_of(kind, config),
        datasets=list(details.datasets) or ([trained_on] if trained_on else None),
        metrics=sorted({each.metric for each in scores.scores}) if scores else None,
        tags=list(kind.tags),
        model_name=name,
        eval_results=results or None,
    )


def base_model_of(kind: Kind, config: Mapping[str, Any]) -> str | None:
    """The Hub's name of the backbone, without a revision; None where it is none of the Hub."""
    name = kind.backbone_of(config).partition("@")[0]
    return name if _HUB_ID.fullmatch(name) else None


def facts_of(kind: Kind, config: Mapping[str, Any]) -> list[list[str]]:
    """What config.json says of the training, as rows of two cells."""
    data, training = _section(config, "data"), _section(config, "training")
    provenance = config.get("provenance")
    step = provenance.get("step") if isinstance(provenance, Mapping) else None
    found = {
        "backbone": kind.backbone_of(config),
        "dataset": dataset_of(config),
        "subject": data.get("subject"),
        "surface": data.get("space"),
        "normalisation": data.get("normalize") and f"per {data['normalize']}",
        "beta version": data.get("beta_version"),
        "regions": config.get("num_regions") or _section(config, "encoder", "").get("num_regions"),
        "batch size": training.get("batch_size"),
        "peak learning rate": training.get("learning_rate"),
        "step": step,
    }
    return [[key, str(value)] for key, value in found.items() if value not in (None, "")]


def table_of_card(path: Path) -> list[list[str]]:
    """The rows of the first table of two columns in a card of `neuroadapter export`, if any."""
    if not path.is_file():
        return []
    rows: list[list[str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|") or len(cells) != 2:
            if rows:
                break
            continue
        rows.append([cell.replace("\\|", "|") for cell in cells])
    return rows[2:] if rows[:1] == [["", ""]] else []


def _section(config: Mapping[str, Any], name: str, inside: str = "provenance") -> dict[str, Any]:
    outer = config.get(inside) if inside else config
    found = outer.get(name) if isinstance(outer, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _interpretation(repo: str, files: Sequence[str]) -> str:
    link = f"https://huggingface.co/{repo}/resolve/main/{REPORT}?download=true"
    text = (
        f"[{REPORT}]({link}) is a page that works offline: download it and open it in a browser. "
        "It shows for each denoising step which regions drove which part of the image."
    )
    pictures = [name for name in files if name.startswith("interpretation/figures/")]
    if shown := [name for name in pictures if name.endswith(".png")][:1]:
        text += f"\n\n![From the interpretation: {Path(shown[0]).stem}]({shown[0]})"
    return text


def _licence(details: CardDetails, backbone: str) -> str:
    named = f"`{details.licence}`"
    if details.licence_name:
        named = f"[{details.licence_name}]({details.licence_link})"
    return (
        f"The files of this repository are under {named}. The backbone, {backbone}, is not part of "
        "it and has its own licence, and so have the data that the model was trained on."
    )
