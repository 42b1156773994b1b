"""Every decoder in one harness: fitted on the same records, asked with the same noise, one table.

Every method's images lie in their own folder, as `neuroadapter reconstruct` writes them.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from neuroadapter_jax.adapter.from_embedding import CEILING_GUIDANCE, images_from_embedding
from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.captions import captions_of
from neuroadapter_jax.decoders.contract import BrainDecoder
from neuroadapter_jax.decoders.linear_two_stage import LinearLatents
from neuroadapter_jax.decoders.low_level_start import save_low_level_start
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.methods import METHODS
from neuroadapter_jax.decoders.retrieval import Gallery, gallery_of_records, refuse_stimuli
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import INPUTS, write_json, write_text
from neuroadapter_jax.fingerprints import of_tree
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import (
    LowLevelStart,
    Ranking,
    ReconstructionSettings,
    load_reconstructions,
    reconstruct_split,
    write_reconstructions,
)
from neuroadapter_jax.pipeline.contract import recorded_sampling
from neuroadapter_jax.pipeline.reconstruction_folder import SaveGrid
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.simulation.nsd_writer import load_truth
from neuroadapter_jax.simulation.truth import truth_fingerprint
from neuroadapter_jax.studies.decoders.acceptance import judged
from neuroadapter_jax.studies.decoders.checks import (
    SETTINGS,
    digest,
    require_choices,
    require_own_folder,
    require_same_data,
)
from neuroadapter_jax.studies.decoders.costs import Costs, PeakMemory, timed
from neuroadapter_jax.studies.decoders.scores import make_score, permuted_rows, summarise
from neuroadapter_jax.studies.decoders.settings import CEILINGS, DecoderSettings
from neuroadapter_jax.studies.decoders.tables import tables
from neuroadapter_jax.studies.decoders.validation import ValidationImages, choose_on_validation

SHARED = "fitted"  # folder of what is fitted, below that of the comparison


def simulated_captions(root: str | Path) -> dict[int, list[str]]:
    """The captions of all images of a simulated root, by id."""
    return {i: [text] for i, text in enumerate(load_truth(root)["captions"].tolist())}


@runs_alone("out", "a comparison of decoders")
def run_decoders(
    material: Material,
    out: str | Path,
    settings: DecoderSettings | None = None,
    *,
    gallery: Gallery | None = None,
    root: str | Path | None = None,
    save_grid: SaveGrid | None = None,
) -> dict[str, Any]:
    """Fits, reconstructs and scores every method on the test images; a killed call goes on.

    Decoders are fitted on training images; strength and guidance are chosen on validation images
    (see `choose_on_validation`); test images are reconstructed once.

    Args:
        material: what all are fitted on; its shared folder is replaced by one below `out`.
        out: gets a folder of reconstructions per method, fitted/, low_level_test.npz, costs.json,
            validation.json, results.json and table.md.
        settings: see `DecoderSettings`; the defaults when None.
        gallery: reference set of the retrieval baseline; the training images when None.
        root: the simulated subject's folder, for semantic scores.
        save_grid: called with each finished folder and its reconstructions.

    Returns:
        What results.json holds.

    Raises:
        InputError: `out` holds another run; model, encoder, records and `root` are not of the
            same data; strength or guidance is neither given nor can be chosen; a stimulus is in the
            gallery; or captions or responses are missing.
    """
    settings, out = settings or DecoderSettings(), Path(out)
    material = dataclasses.replace(material, shared=out / SHARED, prepared=Path(material.prepared))
    missing = settings.missing(
        {name for name in ("captions", "encoder", "image_adapter") if _has(material, name)}
    )
    wanted = [name for name in (*METHODS, *CEILINGS) if name in settings.methods]
    wanted = [name for name in wanted if name not in missing]
    pipeline = material.pipeline
    sampling = settings.sampling or pipeline.sampling.replace(sampler="dpmsolver++", num_steps=10)
    known = _known(material, settings, sampling, gallery, root, wanted)
    require_choices(settings, root, wanted)
    require_own_folder(out, known)
    material.train[0]  # raises where index and records do not belong together
    test = Split.read(PreparedDataset(material.prepared, "test"))
    validation = Split.read(material.validation)
    if "retrieval" in wanted and gallery is not None:
        refuse_stimuli(gallery, test.stimuli, test.dataset.image_ids)
    decoders = _fit([name for name in wanted if name in METHODS], material, gallery)
    started = [name for name in decoders if METHODS[name].low_level]
    low: dict[str, np.ndarray] = {}
    if started:
        latents = LinearLatents.fit(material, out / SHARED).latents
        low = {"test": latents(test.fmri), "validation": latents(validation.fmri)}
    # Now that responses and captions were found to be usable, the folder is this run's.
    write_json(out / SETTINGS, known)
    if started:
        save_low_level_start(out / "low_level_test.npz", test.dataset.image_ids, low["test"])
    samplings = _samplings(decoders, settings, sampling)
    score = None if root is None else make_score(validation.stimuli, validation.ids, root)
    chosen = choose_on_validation(
        {METHODS[name].fitted: decoder.adapt(validation.fmri) for name, decoder in decoders.items()
         if METHODS[name].low_level or _guided(name, settings)},
        {METHODS[name].fitted: each for name, each in samplings.items()},
        ValidationImages(validation.fmri, low.get("validation"), score),
        settings,
        out / "validation.json",
        guided=sorted({METHODS[name].fitted for name in decoders if _guided(name, settings)}),
        started=sorted({METHODS[name].fitted for name in started}),
        progress=material.progress,
    )  # fmt: skip
    maker = _Maker(
        material, decoders, samplings, chosen, low.get("test"), test, sampling, out, settings,
        save_grid, Costs(out / "costs.json"),
    )  # fmt: skip
    score = make_score(test.stimuli, test.ids, root)
    scores, permuted = {}, {}
    order = permuted_rows(len(test.stimuli), settings.seed)
    bar = Bar(wanted, desc="Methods", unit="method", disable=not material.progress)
    for name in bar:
        bar.set_postfix_str(name)
        maker.make(name)
        best = load_reconstructions(out / name).best
        scores[name], permuted[name] = score(best), score(best[order])
    results: dict[str, Any] = {
        "num_images": len(test.stimuli),
        "split": "test",
        "gallery": {
            "name": (gallery or gallery_of_records(material.train)).name,
            "images": len(gallery or material.train),
        },
        "settings": known["settings"],
        "chosen_on_validation": chosen,
        "missing": missing,
        "costs": maker.costs.rows,
        "deviations": {
            name: list(decoder.deviations)
            for name, decoder in decoders.items()
            if decoder.deviations
        },
        **summarise(scores, permuted, settings.seed),
    }
    results["expected"] = judged(results["methods"])
    write_json(out / "results.json", results)
    write_text(out / "table.md", tables(results))
    return results


@dataclass(frozen=True)
class Split:
    """The records of a split in memory.

    Attributes:
        dataset: the records.
        fmri: responses, repeats averaged.
        latents: means of the stimuli's latents, not scaled.
        stimuli: 0 to 255.
    """

    dataset: PreparedDataset
    fmri: Float[np.ndarray, "b n"]
    latents: Float[np.ndarray, "b y x c"]
    stimuli: UInt8[np.ndarray, "b Y X 3"]

    @classmethod
    def read(cls, dataset: PreparedDataset) -> "Split":
        """Read all of it."""
        found = read_split(dataset, "betas", "latent_mean", "image")
        return cls(dataset, found["betas"].astype(np.float32), found["latent_mean"], found["image"])

    @property
    def ids(self) -> np.ndarray:
        """Of the stimuli."""
        return self.dataset.image_ids


def _has(material: Material, name: str) -> bool:
    return getattr(material, name) is not None


def _guided(name: str, settings: DecoderSettings) -> bool:
    """Whether a row's guidance scale is the one chosen, or given, for decoders of its kind."""
    method = METHODS[name]
    return method.choose_guidance and (settings.preset is None or method.preset != settings.preset)


def _fit(
    names: Iterable[str], material: Material, gallery: Gallery | None
) -> dict[str, BrainDecoder]:
    """The decoder of each row; rows that ask the same one share it, and its compiled programs."""
    fitted: dict[str, BrainDecoder] = {}
    found = {}
    for name in names:
        method = METHODS[name]
        settings = gallery if name == "retrieval" else method.settings
        if method.fitted not in fitted:
            folder = material.shared / method.fitted
            fitted[method.fitted] = method.decoder.fit(material, folder, settings)
        found[name] = fitted[method.fitted]
    return found


def _samplings(
    decoders: Mapping[str, BrainDecoder], settings: DecoderSettings, sampling: Sampling
) -> dict[str, Sampling]:
    """Of each decoder, before anything is chosen."""
    found = {}
    for name, decoder in decoders.items():
        found[name] = sampling
        if _guided(name, settings):
            scale = settings.linear_guidance_scale or 1.0
            found[name] = sampling.replace(guidance_scale=scale, start="noise")
        elif METHODS[name].choose_guidance:
            found[name] = decoder.sampling
    return found


def _known(
    material: Material,
    settings: DecoderSettings,
    sampling: Sampling,
    gallery: Gallery | None,
    root: str | Path | None,
    wanted: list[str],
) -> dict[str, Any]:
    """What decides all numbers, as settings.json holds it; refuses what does not go together."""
    pipeline, encoder, train = material.pipeline, material.encoder, material.train
    other_data = require_same_data(pipeline, encoder, train, root, settings.allow_other)
    plan(pipeline.backbone.schedule, sampling)
    if any(name in METHODS and "captions" in METHODS[name].needs for name in wanted):
        captions_of(material.captions or {}, train.image_ids)
    adapter = None
    if any("image_adapter" in METHODS[n].needs for n in wanted if n in METHODS) or (
        "true_embedding" in wanted
    ):
        adapter = material.image_path[1].fingerprint
    gallery = gallery or gallery_of_records(train)
    splits = (train, material.validation, PreparedDataset(material.prepared, "test"))
    captions = None if material.captions is None else digest(material.captions)
    return {
        "model": pipeline.provenance,
        "encoder": None if encoder is None else encoder.provenance,
        "prepared": train.provenance["request"],
        "gallery": [gallery.name, len(gallery)],
        "captions": captions,
        "settings": settings.of_reconstruction(recorded_sampling(pipeline, sampling)),
        **({"other_data": other_data} if other_data else {}),
        INPUTS: {
            "prepared": [split.fingerprint for split in splits],
            "weights": pipeline.fingerprint,
            "gallery": gallery.fingerprint,
            **({} if encoder is None else {"encoder_weights": encoder.fingerprint}),
            **({} if adapter is None else {"image_encoder": adapter}),
            **({} if root is None else {"root": truth_fingerprint(root)}),
        },
    }


@dataclass(frozen=True)
class _Maker:
    """Everything that the rows need to make their folders of test images."""

    material: Material
    decoders: Mapping[str, BrainDecoder]
    samplings: Mapping[str, Sampling]
    chosen: Mapping[str, Any]
    low: Float[np.ndarray, "b y x c"] | None
    test: Split
    sampling: Sampling
    out: Path
    settings: DecoderSettings
    save_grid: SaveGrid | None
    costs: Costs

    def make(self, name: str) -> None:
        """The folder of a row; what is there already is not made again."""
        if name == "autoencoder":
            scale = self.material.backbone.vae.config.scaling_factor
            self._write(name, self._decode(scale * self.test.latents))
        elif name == "true_embedding":
            self._true_embedding(name)
        else:
            self._reconstruct(name)

    def _reconstruct(self, name: str) -> None:
        method, peak = METHODS[name], PeakMemory()
        sampling = self.samplings[name]
        if _guided(name, self.settings):
            guidance = self.chosen["guidance_scale"][method.fitted]
            sampling = sampling.replace(guidance_scale=guidance)
        low_level = None
        if method.low_level:
            strength = self.chosen["strength"][method.fitted]
            if self.low is None or strength is None:
                raise InputError(f"{name} needs a low-level start, but there is none.")
            low_level = LowLevelStart(self.low, strength)
        encoder = self.material.encoder
        decoder = timed(self.decoders[name].adapt(self.test.fmri))
        reconstruct_split(
            decoder,
            self.test.dataset,
            self.out / name,
            ReconstructionSettings(
                sampling=sampling,
                num_candidates=self.settings.num_candidates if method.chosen else 1,
                seed=self.settings.seed,
                batch_size=self.settings.batch_size,
                allow_other=self.settings.allow_other,
            ),
            low_level=low_level,
            ranking=Ranking(encoder) if method.chosen and encoder is not None else None,
            save_grid=self.save_grid,
            progress=self.material.progress,
        )
        self.costs.add(name, decoder, peak.read())

    def _true_embedding(self, name: str) -> None:
        if (self.out / name / "index.json").is_file():
            return
        adapter, embedder = self.material.image_path
        sampling = self.sampling.replace(guidance_scale=CEILING_GUIDANCE, start="noise")
        images = images_from_embedding(
            self.material.backbone,
            adapter,
            embedder(self.test.stimuli),
            embedder.of_no_image(),
            sampling,
            seed=self.settings.seed,
            batch_size=self.settings.batch_size,
        )
        weights = [of_tree(nnx.state(adapter, nnx.Param)), embedder.fingerprint]
        self._write(name, images, sampling=sampling.to_dict(), **{INPUTS: {"weights": weights}})

    def _write(self, name: str, images: UInt8[np.ndarray, "b y x c"], **settings: Any) -> None:
        known = {"method": name, "seed": self.settings.seed, **settings}
        write_reconstructions(self.out / name, self.test.dataset, images, known, self.save_grid)

    def _decode(self, scaled: Float[np.ndarray, "b _y _x _c"]) -> UInt8[np.ndarray, "b y x c"]:
        size, decode = min(self.settings.batch_size, len(scaled)), self.material.pipeline.decode
        return map_batches(lambda rows: decode(scaled[rows]), len(scaled), size)
