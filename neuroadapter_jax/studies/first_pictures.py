"""Reconstructions and the interpretation page from what the package ships, in a few minutes."""

from pathlib import Path

from neuroadapter_jax.datasets.prepared.excerpt import write_excerpt
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.figures.grids import image_grid
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.files import refuse_foreign, write_json
from neuroadapter_jax.ibbi.roi import assign_regions
from neuroadapter_jax.pipeline import NeuroAdapterPipeline, load_reconstructions
from neuroadapter_jax.studies.interpretation import subject_rois
from neuroadapter_jax.studies.resume import RunStage

SHIPPED = "neuroadapter-simulated"
SAMPLING = ("--sampler", "dpmsolver++", "--num_steps", "19")
LICENCE = "Scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0."
EXTRA_ATLAS = "simulated-vtc"
RESPONSES = ASSETS / "simulated-responses"
_ROIS = RESPONSES / "rois.json"
_COUNT = 8


def first_pictures(out: str | Path, run_stage: RunStage) -> tuple[Path, Path]:
    """Reconstruct the shipped responses with the shipped adapter, and draw both views.

    Args:
        out: the folder.
        run_stage: runs a command once.

    Returns:
        The picture of the reconstructions, and the page.

    Raises:
        InputError: a command fails.
    """
    out = Path(out)
    refuse_foreign(out, ["reconstructions.png"], ours=(out / "seconds.json").is_file())
    own, views, picture = out / "own", out / "interpretation", out / "reconstructions.png"
    known = ["--model", SHIPPED, "--prepared", RESPONSES.name, *SAMPLING]
    run_stage(out / "seconds.json", own / "index.json", "reconstruct", *known, "--out", str(own))
    found = load_reconstructions(own)
    save_picture(picture, image_grid({"Stimulus": found.stimuli, "Reconstruction": found.best}))
    rois = ["--rois", str(_ROIS), "--licence", LICENCE, "--out", str(views)]
    page = views / "report.html"
    run_stage(out / "seconds.json", page, "interpret", *known, *rois)
    return picture, page


def write_shipped_responses(
    prepared: str | Path,
    root: str | Path,
    out: Path = RESPONSES,
    *,
    model: str | Path = SHIPPED,
) -> None:
    """Write the shipped folder again, from the demo's simulated subject.

    Args:
        prepared: its prepared records.
        root: its folder in NSD's layout, whose label files name the ROIs of the adapter's regions.
        out: the folder; it must not exist.
        model: the adapter.
    """
    regions = NeuroAdapterPipeline.from_pretrained(model).regions
    rois = assign_regions(regions, subject_rois(root, 1, (EXTRA_ATLAS,)), 0.5)
    named = {
        name: [own for own, belongs in zip(regions.names, members, strict=True) if belongs]
        for name, members in zip(rois.names, rois.members, strict=True)
        if members.any()
    }
    write_excerpt(prepared, "test", _COUNT, out)
    write_json(out / _ROIS.name, named)
