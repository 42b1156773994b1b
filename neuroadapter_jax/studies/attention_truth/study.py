"""What the pieces of the study share, and each piece: numbers from a pipeline and the truth."""

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
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.appearance import make_appearance
from neuroadapter_jax.evaluation.scene_reader import SceneReader, load_scene_reader, read_scenes
from neuroadapter_jax.files import INPUTS
from neuroadapter_jax.ibbi.matching import RegionTraits
from neuroadapter_jax.ibbi.perturbation import Perturbation
from neuroadapter_jax.ibbi.roi import ROIAssignment, assign_regions, by_hemisphere, concatenate
from neuroadapter_jax.ibbi.views import Reduction
from neuroadapter_jax.metrics.comparisons import correct_family
from neuroadapter_jax.pipeline import (
    InterpretationSettings,
    NeuroAdapterPipeline,
    interpret_split,
    load_views,
)
from neuroadapter_jax.simulation.truth import load_truth, truth_fingerprint
from neuroadapter_jax.studies.attention_truth.categories import category_table
from neuroadapter_jax.studies.attention_truth.maps import (
    CATEGORY_OF_ROI,
    RETINOTOPIC,
    category_masks,
    localisation_tables,
    retinotopy_tables,
)
from neuroadapter_jax.studies.attention_truth.models import objects_found
from neuroadapter_jax.studies.attention_truth.ranks import (
    planted_influence,
    rank_agreement,
    region_effects,
)
from neuroadapter_jax.studies.attention_truth.settings import AttentionTruthSettings
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
# Raised where the same inputs give other numbers than before.
STATISTICS = 2
RegionSets = Mapping[str, Bool[np.ndarray, " p"]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What the pieces of the study share; views and responses are read when a piece needs them.

    Attributes:
        pipeline: the model.
        split: the test images.
        out: folder of the study.
        settings: of the study.
        truth: of the simulated subject, see `load_truth`.
        all_rois: whole ROIs and halves of the retinotopic ones, as in the views.
        whole: ROI -> regions that lie in it by more than half.
        largest: ROI -> regions that lie in it by the largest share.
        ids: of the images.
        traits: of the regions.
        inputs: fingerprints of what every piece depends on.
    """

    pipeline: NeuroAdapterPipeline
    split: PreparedDataset
    out: Path
    settings: AttentionTruthSettings
    truth: Mapping[str, np.ndarray]
    all_rois: ROIAssignment
    whole: RegionSets
    largest: RegionSets
    ids: Int[np.ndarray, " b"]
    traits: RegionTraits
    inputs: Mapping[str, Any]

    @classmethod
    def open(
        cls,
        pipeline: NeuroAdapterPipeline,
        prepared: str | Path,
        root: str | Path,
        out: Path,
        settings: AttentionTruthSettings,
    ) -> "Study":
        """Reads the truth of the subject that the records are of, and its ROIs."""
        split, regions = PreparedDataset(prepared, "test"), pipeline.regions
        require_same_root(root, split)
        subject = split.origin.data.get("subject", 1)
        if not isinstance(subject, int):
            raise InputError(
                f"{prepared}: the subject is {subject!r}; expected a number, as simulated subjects "
                "have them."
            )
        masks = subject_rois(root, subject, ("simulated-vtc",))
        whole = assign_regions(regions, masks)
        # Any overlap at all: a region goes to the ROI that holds most of its labelled vertices.
        largest = assign_regions(regions, masks, threshold=0.0)
        early = {name: masks[name] for name in RETINOTOPIC if name in masks}
        halves = assign_regions(regions, by_hemisphere(early, regions.num_vertices))
        return cls(
            pipeline=pipeline,
            split=split,
            out=out,
            settings=settings,
            truth=load_truth(root, subject),
            all_rois=concatenate(whole, halves),
            whole=dict(zip(whole.names, whole.members, strict=True)),
            largest=dict(zip(largest.names, largest.members, strict=True)),
            ids=split.image_ids[: settings.num_images],
            traits=RegionTraits.of(regions, split.ncsnr),
            inputs={
                "prepared": split.fingerprint,
                "weights": pipeline.fingerprint,
                "root": truth_fingerprint(root, subject),
            },
        )

    def views_of(
        self, pipeline: NeuroAdapterPipeline, reduction: Reduction, folder: Path, effects: bool
    ) -> xarray.Dataset:
        """The views of all images under one reduction, written where they are not there yet."""
        settings = InterpretationSettings(
            sampling=self.sampling,
            reduction=reduction,
            seed=self.settings.seed,
            num_images=self.settings.num_images,
            num_shown=3,
            group_size=self.settings.batch_size,
            effects=effects,
            allow_other=self.settings.allow_other,
        )
        return load_views(interpret_split(pipeline, self.split, folder, self.all_rois, settings))

    @functools.cached_property
    def views(self) -> list[xarray.Dataset]:
        """One dataset per reduction."""
        return [self.attention_views] + [
            self.views_of(self.pipeline, reduction, self.out / reduction, False)
            for reduction in REDUCTIONS[1:]
        ]

    @functools.cached_property
    def attention_views(self) -> xarray.Dataset:
        """The first of the views, which also hold the stimuli and the reconstructions."""
        return self.views_of(self.pipeline, REDUCTIONS[0], self.out / REDUCTIONS[0], True)

    @functools.cached_property
    def betas(self) -> Float[np.ndarray, "b n"]:
        """Responses."""
        found = read_split(self.split, "betas", num_images=len(self.ids))
        return found["betas"].astype(np.float32)

    @functools.cached_property
    def reader(self) -> SceneReader:
        """The scene reader."""
        return load_scene_reader()

    @functools.cached_property
    def reconstruct(self) -> Reconstruct:
        """See `perturbed_reconstructions`."""
        size, seed = self.settings.batch_size, self.settings.seed
        return perturbed_reconstructions(
            self.pipeline, self.betas, self.sampling, batch_size=size, seed=seed
        )

    @property
    def sampling(self) -> Sampling:
        """Settings of every reconstruction of the study."""
        return self.pipeline.sampling.replace(sampler=SAMPLER, num_steps=NUM_STEPS)

    @property
    def stimuli(self) -> UInt8[np.ndarray, "b y x c"]:
        """What was shown."""
        return self.attention_views["stimulus"].values

    @property
    def intact(self) -> UInt8[np.ndarray, "b y x c"]:
        """Reconstructions with nothing perturbed."""
        return self.attention_views["image"].values

    @property
    def categories(self) -> Int[np.ndarray, "b slot"]:
        """Category in each slot of the stimuli, -1 for empty."""
        return self.truth["categories"][self.ids]

    @property
    def num_ranked(self) -> int:
        """Images for the effect of every region."""
        return min(len(self.ids), self.settings.num_ranked)

    def piece(self, name: str, compute: Callable[[], Any], **more: Any) -> Any:
        """A piece's result, from parts/NAME.json where an earlier call computed it."""
        settings = {
            "model": self.pipeline.provenance,
            "seed": self.settings.seed,
            "batch_size": self.settings.batch_size,
            "statistics": STATISTICS,
            INPUTS: dict(self.inputs),
            "images": self.ids.tolist(),
            **more,
        }
        return cached(self.out / "parts" / f"{name}.json", settings, compute)

    def localise(self) -> dict[str, Any]:
        """Where the maps look: "localisation", "retinotopy", and "regions" of each ROI."""
        names, members = self.all_rois.names, self.all_rois.members
        sizes = {name: int(own.sum()) for name, own in zip(names, members, strict=True)}

        def compute() -> dict[str, Any]:
            masks, seed = category_masks(self.truth, self.ids), self.settings.seed
            found: dict[str, dict[str, Any]] = {"localisation": {}, "retinotopy": {}}
            for each in self.views:
                found["localisation"] |= localisation_tables(each, masks, seed)
                found["retinotopy"] |= retinotopy_tables(each, seed)
            return found | {"regions": sizes}

        found: dict[str, Any] = self.piece("maps", compute)
        return found

    def look_with(self, name: str, pipeline: NeuroAdapterPipeline, kind: str) -> dict[str, Any]:
        """Where another adapter's attention looks, and how many objects it reconstructs."""

        def compute() -> dict[str, Any]:
            own = pipeline is self.pipeline
            folder = self.out / "models" / name.replace("/", "+")
            views = (
                self.attention_views if own else self.views_of(pipeline, "attention", folder, False)
            )
            masks = category_masks(self.truth, self.ids)
            ways = localisation_tables(views, masks, self.settings.seed)
            read = read_scenes(self.reader, views["image"].values)
            return {
                "kind": kind,
                "objects": objects_found(read, self.categories),
                "localisation": ways["attention"],
            }

        which = {"other": pipeline.fingerprint, "kind": kind}
        found: dict[str, Any] = self.piece(f"model, {name.replace('/', '+')}", compute, **which)
        return found

    def shares(self, count: int) -> dict[str, Float[np.ndarray, "b p"]]:
        """Reduction -> each region's share of the attention, mean over steps."""
        return {
            x.attrs["reduction"]: x["brain_view"].values.mean(axis=1)[:count] for x in self.views
        }

    def effects(self) -> dict[str, Float[np.ndarray, "b p"]]:
        """What dropping every single region changes."""
        count, size, seed = self.num_ranked, self.settings.batch_size, self.settings.seed

        def compute() -> dict[str, list]:
            found = region_effects(self.pipeline, self.betas[:count], size, seed, self.sampling)
            return {name: values.tolist() for name, values in found.items()}

        stored = self.piece("effects", compute, num_images=count)
        return {name: np.array(values) for name, values in stored.items()}

    def rank(self) -> dict[str, Any]:
        """How shares of attention agree with the regions' effects."""
        count, seed = self.num_ranked, self.settings.seed

        def compute() -> dict[str, Any]:
            influence = planted_influence(self.truth, self.pipeline.regions)
            effects = self.effects()
            return {
                name: rank_agreement(share, effects, influence, seed)
                for name, share in self.shares(count).items()
            }

        found: dict[str, Any] = self.piece("ranks", compute, num_images=count)
        return found

    def delete(self) -> dict[str, Any]:
        """Deletion and insertion in the order of shares, of effects, and of what was planted."""
        count = min(self.num_ranked, self.settings.num_ordered)

        def compute() -> dict[str, Any]:
            influence = planted_influence(self.truth, self.pipeline.regions)
            rankings = self.shares(count) | {
                "effect": self.effects()["effect"][:count],
                "planted": np.tile(influence, (count, 1)),
            }
            return deletion_table(
                self.reconstruct,
                self.stimuli[:count],
                self.categories[:count],
                self.reader,
                rankings,
                seed=self.settings.seed,
            )

        found: dict[str, Any] = self.piece("deletion", compute, num_images=count)
        return found

    @property
    def category_tests(self) -> dict[str, tuple[Perturbation, RegionSets, int, int]]:
        """What is done, to which sets, on how many images, with how many random sets each."""
        count, random = len(self.ids), self.settings.num_random
        fewer = min(count, self.settings.num_replaced)
        return {
            "silence": ("silence", self.whole, count, random),
            "silence, largest share": ("silence", self.largest, count, random),
            "mean": ("mean", self.whole, fewer, random),
            "swap": ("swap", self.whole, fewer, random),
        }

    def lose_categories(self, name: str) -> dict[str, Any]:
        """What perturbing the ROIs of categories loses, of one of `category_tests`."""
        kind, region_sets, n, random = self.category_tests[name]

        def compute() -> dict[str, Any]:
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

        more = {"num_images": n, "num_random": random}
        found: dict[str, Any] = self.piece(f"categories, {name}", compute, **more)
        return found

    def change(self) -> dict[str, Any]:
        """How far perturbing early and category ROIs moves a reconstruction."""
        count = min(len(self.ids), self.settings.num_moved)

        def union(assigned: RegionSets, wanted: Sequence[str]) -> Bool[np.ndarray, " p"]:
            return np.logical_or.reduce([assigned[name] for name in wanted if name in assigned])

        groups = {"V1 to V3": EARLY, "category ROIs": tuple(CATEGORY_OF_ROI)}
        rules = {"more than half": self.whole, "largest share": self.largest}
        region_sets = {
            f"{label} ({rule})": union(assigned, wanted)
            for label, wanted in groups.items()
            for rule, assigned in rules.items()
        }

        def compute() -> dict[str, Any]:
            return change_table(
                self.reconstruct,
                self.stimuli[:count],
                self.intact[:count],
                self.categories[:count],
                {name: own for name, own in region_sets.items() if own.any()},
                self.traits,
                make_appearance(self.pipeline.backbone.vae, load_dinov2("tiny-vit"), self.reader),
                seed=self.settings.seed,
            )

        found: dict[str, Any] = self.piece("changes", compute, num_images=count)
        return found


def correct_tests(categories: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, int]:
    """Writes ``p_holm`` into the tests of two families, and says how many each has.

    Args:
        categories: perturbation -> ROI -> see `category_table`; all its single ROIs are a family.
        changes: see `change_table`; all its ``less_random`` are one.
    """
    of_rois = [
        each["difference"]
        for own in categories.values()
        for roi, each in own.items()
        if roi != "all ROIs" and each["difference"] is not None
    ]
    of_sets = [
        test
        for own in changes.values()
        for each in own.values()
        for test in each.get("less_random", {}).values()
    ]
    return {"categories": correct_family(of_rois), "changes": correct_family(of_sets)}
