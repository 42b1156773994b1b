"""The study from a pipeline and a simulated subject to results, a document and its figures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuroadapter_jax.figures.causal import change_figure, deletion_figure, loss_figure
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.files import refuse_foreign, write_json, write_text
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.studies.attention_truth.document import document
from neuroadapter_jax.studies.attention_truth.models import (
    RANDOMISED,
    TRAINED,
    model_table,
    randomised,
)
from neuroadapter_jax.studies.attention_truth.settings import AttentionTruthSettings
from neuroadapter_jax.studies.attention_truth.study import Study, correct_tests
from neuroadapter_jax.studies.attention_truth.tables import tables

CATEGORY_PIECES = {
    "silence": "silence",
    "silence-largest": "silence, largest share",
    "mean": "mean",
    "swap": "swap",
}
# Each takes at most 90 minutes on one core at the default numbers of images.
PIECES = ("maps", "models", "ranks", "deletion", *CATEGORY_PIECES, "changes")
THIS = "this one"


@runs_alone("out", "a study of attention")
def run_attention_truth(
    pipeline: NeuroAdapterPipeline,
    prepared: str | Path,
    root: str | Path,
    out: str | Path,
    settings: AttentionTruthSettings | None = None,
    *,
    others: Mapping[str, NeuroAdapterPipeline] | None = None,
    only: Sequence[str] = PIECES,
) -> dict[str, Any] | None:
    """The views against the simulated subject, whose truth is known; a killed call goes on.

    Where the views look under every reduction (pointing game, area under the ROC curve), with
    other adapters and with adapters that have not learned, whether shares of attention rank regions
    as their effects do, deletion and insertion of regions, and what silencing, averaging or
    exchanging ROIs changes.

    Args:
        pipeline: trained on the simulated subject.
        prepared: folder of prepared records of the simulated subject.
        root: its folder, with truth.npz.
        out: gets the views, parts/ (a JSON file per piece), results.json, tables.md, document.md
            and images/.
        settings: how many images; the defaults when None.
        others: name -> the same model trained with another seed.
        only: of `PIECES`, those to compute in this call; the rest is taken where it is there.

    Returns:
        What results.json holds, or None where `only` leaves pieces out: then only parts/ is
        written.

    Raises:
        MissingFileError, InputError: the folders are not there, belong to other data or another
            surface, `out` holds views of other settings, or a piece is unknown.
    """
    settings, out = settings or AttentionTruthSettings(), Path(out)
    check_pieces(only)
    names = ("results.json", "tables.md", "document.md", "images")
    refuse_foreign(out, names, ours=(out / "parts").is_dir())
    study = Study.open(pipeline, prepared, root, out, settings)
    compute: dict[str, Callable[[], Any]] = {
        "maps": study.localise,
        "models": lambda: _models(study, others or {}),
        "ranks": study.rank,
        "deletion": study.delete,
        "changes": study.change,
    }
    for piece, test in CATEGORY_PIECES.items():
        compute[piece] = functools.partial(study.lose_categories, test)
    found = {piece: compute[piece]() for piece in PIECES if piece in only}
    if len(found) < len(PIECES):
        return None
    results = _results(study, found)
    write_json(out / "results.json", results)
    write_text(out / "tables.md", tables(results))
    write_text(out / "document.md", document(results))
    counts = results["counts"]
    figures = {
        "deletion": deletion_figure(results["deletion"]),
        "categories": loss_figure(results["categories"], counts["categories"]),
        "silencing": change_figure(results["changes"], counts["changes"]),
    }
    for name, figure in figures.items():
        save_picture(out / "images" / f"{name}.png", figure)
    return results


def check_pieces(only: Sequence[str]) -> None:
    """Refuse unknown pieces.

    Args:
        only: names of pieces.

    Raises:
        SettingError: one is none of `PIECES`, or there are none.
    """
    for piece in only or ("nothing",):
        if piece not in PIECES:
            raise SettingError("only", piece, f"some of {', '.join(PIECES)}")


def _models(study: Study, others: Mapping[str, NeuroAdapterPipeline]) -> dict[str, Any]:
    found = {THIS: study.look_with(THIS, study.pipeline, TRAINED)}
    found |= {name: study.look_with(name, each, TRAINED) for name, each in others.items()}
    for how in RANDOMISED:
        found[how] = study.look_with(how, randomised(study.pipeline, how, study.settings.seed), how)
    return model_table(found)


def _results(study: Study, found: Mapping[str, Any]) -> dict[str, Any]:
    tests = study.category_tests
    categories = {test: found[piece] for piece, test in CATEGORY_PIECES.items()}
    families = correct_tests(categories, found["changes"])
    return {
        "num_images": len(study.ids),
        "data": study.split.origin.data,
        **found["maps"],
        "models": found["models"],
        "ranks": found["ranks"],
        "deletion": found["deletion"],
        "categories": categories,
        "changes": found["changes"],
        "families": families,
        "counts": {
            "effects": study.num_ranked,
            "changes": min(len(study.ids), study.settings.num_moved),
            "categories": {name: test[2] for name, test in tests.items()},
            "random": {name: test[3] for name, test in tests.items()},
        },
    }
