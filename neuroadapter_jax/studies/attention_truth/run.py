"""The study from a pipeline and a simulated subject to results, tables and figures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from jaxtyping import Bool, Float, Int, UInt8

from neuroadapter_jax.datasets.belonging import require_same_root
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.evaluation.appearance import make_appearance
from neuroadapter_jax.evaluation.scene_reader import SceneReader, load_scene_reader
from neuroadapter_jax.figures.causal import change_figure, deletion_figure, loss_figure
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.files import INPUTS, refuse_foreign, write_json, write_text
from neuroadapter_jax.ibbi.matching import RegionTraits
from neuroadapter_jax.ibbi.perturbation import Perturbation
from neuroadapter_jax.ibbi.roi import ROIAssignment, assign_regions, by_hemisphere, concatenate
from neuroadapter_jax.ibbi.views import Reduction
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import (
    InterpretationSettings,
    NeuroAdapterPipeline,
    interpret_split,
    load_views,
)
from neuroadapter_jax.ranges import Count, Seed, check_fields
from neuroadapter_jax.simulation.nsd_writer import load_truth
from neuroadapter_jax.simulation.truth import truth_fingerprint
from neuroadapter_jax.studies.attention_truth.categories import category_table
from neuroadapter_jax.studies.attention_truth.maps import (
    CATEGORY_OF_ROI,
    RETINOTOPIC,
    category_masks,
    localisation_tables,
    retinotopy_tables,
)
from neuroadapter_jax.studies.attention_truth.ranks import (
    planted_influence,
    rank_agreement,
    region_effects,
)
from neuroadapter_jax.studies.attention_truth.tables import tables
from neuroadapter_jax.studies.causal_tests import (
    Reconstruct,
    change_table,
    deletion_table,
    perturbed_reconstructions,
)
from neuroadapter_jax.studies.interpretation import subject_rois
from neuroadapter_jax.studies.resume import cached

REDUCTIONS: tuple[Reduction, ...] = ("attention", "value_norm", "difference", "gradient")
SAMPLER, NUM_STEPS = "dpmsolver++", 19
EARLY = ("V1", "V2", "V3")
RegionSets = Mapping[str, Bool[np.ndarray, " p"]]


@dataclass(frozen=True)
class AttentionTruthSettings:
    """How many images each part of the study takes.

    Attributes:
        num_images: test images.
        num_ranked: of these, for the effect of every region.
        num_ordered: of those, for deletion and insertion.
        num_replaced: for replacing the responses of a category's ROI.
        num_moved: for what early and category ROIs change.
        num_random: matched random sets beside each silenced ROI.
        batch_size: images per call.
        seed: of noise, random sets and bootstrap.
        allow_other: what may differ between the data of the model and of the records; see
            `datasets.belonging.made_for`.
    """

    num_images: Count = 200
    num_ranked: Count = 40
    num_ordered: Count = 16
    num_replaced: Count = 60
    num_moved: Count = 30
    num_random: Count = 2
    batch_size: Count = 40
    seed: Seed = 0
    allow_other: tuple[str, ...] = ()

    def __post_init__(self):
        check_fields(self)


@runs_alone("out", "a study of attention")
def run_attention_truth(
    pipeline: NeuroAdapterPipeline,
    prepared: str | Path,
    root: str | Path,
    out: str | Path,
    settings: AttentionTruthSettings | None = None,
) -> dict[str, Any]:
    """The views against the simulated subject, whose truth is known; a killed call goes on.

    Where the views look under every reduction (pointing game, area under the ROC curve), whether
    shares of attention rank regions as their effects do, deletion and insertion of regions, and
    what silencing, averaging or exchanging ROIs changes.

    Args:
        pipeline: trained on the simulated subject.
        prepared: folder of prepared records of the simulated subject.
        root: its folder, with truth.npz.
        out: gets the views, parts/, results.json, tables.md and figures/.
        settings: how many images; the defaults when None.

    Returns:
        What results.json holds.

    Raises:
        MissingFileError, InputError: the folders are not there, belong to other data or another
            surface, or `out` holds views of other settings.
    """
    settings, out = settings or AttentionTruthSettings(), Path(out)
    names = ("results.json", "tables.md", "figures")
    refuse_foreign(out, names, ours=(out / "parts").is_dir())
    study = _Study.prepare(pipeline, prepared, root, out, settings)
    few = min(len(study.ids), settings.num_ranked)
    results: dict[str, Any] = {"num_images": len(study.ids)}
    results |= study.localise()
    effects, results["ranks"] = study.rank(few)
    results["deletion"] = study.delete(effects, min(few, settings.num_ordered))
    results["categories"], counts = study.lose_categories()
    moved = min(len(study.ids), settings.num_moved)
    results["changes"] = study.change(moved)
    results["counts"] = {"effects": few, "changes": moved, **counts}
    write_json(out / "results.json", results)
    write_text(out / "tables.md", tables(results))
    figures = {
        "deletion": deletion_figure(results["deletion"]),
        "categories": loss_figure(results["categories"], results["counts"]["categories"]),
        "changes": change_figure(results["changes"], moved),
    }
    for name, figure in figures.items():
        save_picture(out / "figures" / f"{name}.png", figure)
    return results


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What the parts of the study share.

    Attributes:
        pipeline: the model.
        out: folder of the study.
        settings: of the study.
        truth: of the simulated subject, see `load_truth`.
        views: one dataset per reduction.
        all_rois: whole ROIs and halves of the retinotopic ones, as in the views.
        whole: ROI -> regions that lie in it by more than half.
        largest: ROI -> regions that lie in it by the largest share.
        ids: of the images.
        betas: responses.
        reconstruct: see `perturbed_reconstructions`.
        reader: the scene reader.
        traits: of the regions.
        inputs: fingerprints of what every part depends on.
    """

    pipeline: NeuroAdapterPipeline
    out: Path
    settings: AttentionTruthSettings
    truth: Mapping[str, np.ndarray]
    views: Sequence[xarray.Dataset]
    all_rois: ROIAssignment
    whole: RegionSets
    largest: RegionSets
    ids: Int[np.ndarray, " b"]
    betas: Float[np.ndarray, "b n"]
    reconstruct: Reconstruct
    reader: SceneReader
    traits: RegionTraits
    inputs: Mapping[str, Any]

    @classmethod
    def prepare(
        cls,
        pipeline: NeuroAdapterPipeline,
        prepared: str | Path,
        root: str | Path,
        out: Path,
        settings: AttentionTruthSettings,
    ) -> "_Study":
        """Reads everything and writes the views of all reductions."""
        split, truth, regions = (
            PreparedDataset(prepared, "test"),
            load_truth(root),
            pipeline.regions,
        )
        require_same_root(root, split)
        masks = subject_rois(root, 1, ("simulated-vtc",))
        whole = assign_regions(regions, masks)
        # Any overlap at all: a region goes to the ROI that holds most of its labelled vertices.
        largest = assign_regions(regions, masks, threshold=0.0)
        early = {name: masks[name] for name in RETINOTOPIC}
        halves = assign_regions(regions, by_hemisphere(early, regions.num_vertices))
        all_rois = concatenate(whole, halves)
        sampling = pipeline.sampling.replace(sampler=SAMPLER, num_steps=NUM_STEPS)
        views = [
            load_views(
                interpret_split(
                    pipeline,
                    split,
                    out / reduction,
                    all_rois,
                    InterpretationSettings(
                        sampling=sampling,
                        reduction=reduction,
                        seed=settings.seed,
                        num_images=settings.num_images,
                        num_shown=3,
                        group_size=settings.batch_size,
                        effects=reduction == "attention",
                        allow_other=settings.allow_other,
                    ),
                )
            )
            for reduction in REDUCTIONS
        ]
        ids = views[0]["sample"].values
        betas = read_split(split, "betas", num_images=len(ids))["betas"].astype(np.float32)
        return cls(
            pipeline=pipeline,
            out=out,
            settings=settings,
            truth=truth,
            views=views,
            all_rois=all_rois,
            whole=dict(zip(whole.names, whole.members, strict=True)),
            largest=dict(zip(largest.names, largest.members, strict=True)),
            ids=ids,
            betas=betas,
            reconstruct=perturbed_reconstructions(
                pipeline, betas, sampling, batch_size=settings.batch_size, seed=settings.seed
            ),
            reader=load_scene_reader(),
            traits=RegionTraits.of(regions, split.ncsnr),
            inputs={
                "prepared": split.fingerprint,
                "weights": pipeline.fingerprint,
                "root": truth_fingerprint(root),
            },
        )

    @property
    def sampling(self) -> Sampling:
        """Settings of every reconstruction of the study."""
        return self.pipeline.sampling.replace(sampler=SAMPLER, num_steps=NUM_STEPS)

    @property
    def stimuli(self) -> UInt8[np.ndarray, "b y x c"]:
        """What was shown."""
        return self.views[0]["stimulus"].values

    @property
    def intact(self) -> UInt8[np.ndarray, "b y x c"]:
        """Reconstructions with nothing perturbed."""
        return self.views[0]["image"].values

    @property
    def categories(self) -> Int[np.ndarray, "b slot"]:
        """Category in each slot of the stimuli, -1 for empty."""
        return self.truth["categories"][self.ids]

    def part(self, name: str, compute: Callable[[], Any], **more: Any) -> Any:
        """A part's result, from parts/NAME.json where an earlier call computed it."""
        settings = {
            "model": self.pipeline.provenance,
            "seed": self.settings.seed,
            "batch_size": self.settings.batch_size,
            INPUTS: dict(self.inputs),
            "images": self.ids.tolist(),
            **more,
        }
        return cached(self.out / "parts" / f"{name}.json", settings, compute)

    def localise(self) -> dict[str, Any]:
        """Where the maps look: "localisation", "retinotopy", and "regions" of each ROI."""
        masks, seed = category_masks(self.truth, self.ids), self.settings.seed
        found: dict[str, dict[str, Any]] = {"localisation": {}, "retinotopy": {}}
        for each in self.views:
            found["localisation"] |= localisation_tables(each, masks, seed)
            found["retinotopy"] |= retinotopy_tables(each, seed)
        names, members = self.all_rois.names, self.all_rois.members
        sizes = {name: int(own.sum()) for name, own in zip(names, members, strict=True)}
        return found | {"regions": sizes}

    @property
    def shares(self) -> dict[str, Float[np.ndarray, "b p"]]:
        """Reduction -> each region's share of the attention, mean over steps."""
        return {x.attrs["reduction"]: x["brain_view"].values.mean(axis=1) for x in self.views}

    def rank(self, count: int) -> tuple[dict[str, Float[np.ndarray, "b p"]], dict[str, Any]]:
        """The regions' effects, and how shares of attention agree with them."""
        seed, size = self.settings.seed, self.settings.batch_size

        def compute() -> dict[str, list]:
            found = region_effects(self.pipeline, self.betas[:count], size, seed, self.sampling)
            return {name: values.tolist() for name, values in found.items()}

        stored = self.part("effects", compute, num_images=count)
        effects = {name: np.array(values) for name, values in stored.items()}
        influence = planted_influence(self.truth, self.pipeline.regions)
        return effects, {
            name: rank_agreement(share[:count], effects, influence, seed)
            for name, share in self.shares.items()
        }

    def delete(self, effects: Mapping[str, np.ndarray], count: int) -> dict[str, Any]:
        """Deletion and insertion in the order of shares, of effects, and of what was planted."""
        rankings = {name: share[:count] for name, share in self.shares.items()}
        influence = planted_influence(self.truth, self.pipeline.regions)
        rankings |= {"effect": effects["effect"][:count], "planted": np.tile(influence, (count, 1))}
        return self.part(
            "deletion",
            lambda: deletion_table(
                self.reconstruct,
                self.stimuli[:count],
                self.categories[:count],
                self.reader,
                rankings,
                seed=self.settings.seed,
            ),
            num_images=count,
        )

    def lose_categories(self) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
        """What perturbing the ROIs of categories loses, and on how many images and sets."""
        count = len(self.ids)
        fewer = min(count, self.settings.num_replaced)
        # What is done, to which sets, on how many images, with how many random sets beside each.
        tests: dict[str, tuple[Perturbation, RegionSets, int, int]] = {
            "silence": ("silence", self.whole, count, self.settings.num_random),
            "silence, largest share": ("silence", self.largest, count, 1),
            "mean": ("mean", self.whole, fewer, 1),
            "swap": ("swap", self.whole, fewer, 1),
        }

        def compute(kind: Perturbation, region_sets: RegionSets, n: int, random: int) -> Any:
            return category_table(
                self.reconstruct,
                self.intact[:n],
                self.categories[:n],
                self.truth["category_names"].tolist(),
                region_sets,
                self.traits,
                self.reader,
                kind,
                num_random=random,
                seed=self.settings.seed,
            )

        found = {
            name: self.part(
                f"categories, {name}",
                functools.partial(compute, *test),
                num_images=test[2],
                num_random=test[3],
            )
            for name, test in tests.items()
        }
        counts = {
            "categories": {name: test[2] for name, test in tests.items()},
            "random": {name: test[3] for name, test in tests.items()},
        }
        return found, counts

    def change(self, count: int) -> dict[str, Any]:
        """How far perturbing early and category ROIs moves a reconstruction."""

        def union(assigned: RegionSets, wanted: Sequence[str]) -> Bool[np.ndarray, " p"]:
            return np.logical_or.reduce([assigned[name] for name in wanted if name in assigned])

        groups = {"V1 to V3": EARLY, "category ROIs": tuple(CATEGORY_OF_ROI)}
        rules = {"more than half": self.whole, "largest share": self.largest}
        region_sets = {
            f"{label} ({rule})": union(assigned, wanted)
            for label, wanted in groups.items()
            for rule, assigned in rules.items()
        }
        vae, vit = self.pipeline.backbone.vae, load_dinov2("tiny-vit")
        return self.part(
            "changes",
            lambda: change_table(
                self.reconstruct,
                self.stimuli[:count],
                self.intact[:count],
                self.categories[:count],
                region_sets,
                self.traits,
                make_appearance(vae, vit, self.reader),
                seed=self.settings.seed,
            ),
            num_images=count,
        )
