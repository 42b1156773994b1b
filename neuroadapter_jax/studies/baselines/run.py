"""Floors, retrieval, a linear decoder, NeuroAdapter and the ceiling in one table.

Every method's images lie in their own folder, as `neuroadapter reconstruct` writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.captions import captions_of
from neuroadapter_jax.decoders.floors import mean_image, random_rows
from neuroadapter_jax.decoders.linear_map import LinearMap, fit_latents, fit_states
from neuroadapter_jax.decoders.linear_two_stage import LinearTwoStage
from neuroadapter_jax.decoders.low_level_start import save_low_level_start
from neuroadapter_jax.decoders.retrieval import Gallery, gallery_of_records, retrieve
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import (
    INPUTS,
    write_json,
    write_text,
)
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import (
    Decoder,
    LowLevelStart,
    NeuroAdapterPipeline,
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
from neuroadapter_jax.studies.baselines.checks import (
    SETTINGS,
    digest,
    require_choices,
    require_own_folder,
    require_same_data,
)
from neuroadapter_jax.studies.baselines.methods import BaselineSettings
from neuroadapter_jax.studies.baselines.scores import make_score, summarise
from neuroadapter_jax.studies.baselines.tables import tables
from neuroadapter_jax.studies.baselines.validation import ValidationImages, choose_on_validation


def simulated_captions(root: str | Path) -> dict[int, list[str]]:
    """The captions of all images of a simulated root, by id."""
    return {i: [text] for i, text in enumerate(load_truth(root)["captions"].tolist())}


@runs_alone("out", "a comparison of baselines")
def run_baselines(
    pipeline: NeuroAdapterPipeline,
    prepared: str | Path,
    out: str | Path,
    settings: BaselineSettings | None = None,
    *,
    encoder: BrainEncoder,
    captions: Mapping[int, Sequence[str]] | None = None,
    gallery: Gallery | None = None,
    root: str | Path | None = None,
    save_grid: SaveGrid | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Fits, reconstructs and scores every method on the test images; a killed call goes on.

    Maps are fitted on training images, strength and the linear decoder's guidance are chosen on
    validation images (see `choose_on_validation`), and test images are reconstructed once.

    Args:
        pipeline: NeuroAdapter.
        prepared: folder of prepared records.
        out: gets a folder of reconstructions per method, linear/ (the maps), retrieval.npz,
            low_level_test.npz, validation.json, results.json and table.md.
        settings: see `BaselineSettings`; the defaults when None.
        encoder: retrieves, and chooses among candidates.
        captions: of training images by id; without them the linear two-stage decoder is missing.
        gallery: reference set of the retrieval baseline; the training images when None.
        root: the simulated subject's folder, for semantic scores.
        save_grid: called with each finished folder and its reconstructions.
        progress: show bars.

    Returns:
        What results.json holds.

    Raises:
        InputError: `out` holds another run; model, encoder, records and `root` are not of the
            same data; strength or guidance is neither given nor can be chosen; a stimulus is in the
            gallery; or captions or responses are missing.
    """
    settings = settings or BaselineSettings()
    wanted = settings.wanted(captions is not None)
    missing = {
        name: "no captions were given for the training images"
        for name in settings.methods
        if name not in wanted
    }
    sampling = settings.sampling or pipeline.sampling.replace(sampler="dpmsolver++", num_steps=10)
    how, out = settings.of_reconstruction(recorded_sampling(pipeline, sampling)), Path(out)
    train, validation, held_out = (
        PreparedDataset(prepared, split) for split in ("train", "validation", "test")
    )
    other_data = require_same_data(pipeline, encoder, train, root, settings.allow_other)
    plan(pipeline.backbone.schedule, sampling)
    with_text = bool({"linear", "linear_low_level"} & set(wanted))
    if captions is not None and with_text:
        captions_of(captions, train.image_ids)
    require_choices(settings, root, wanted)
    gallery = gallery or gallery_of_records(train)
    known = {
        "model": pipeline.provenance,
        "encoder": encoder.provenance,
        "prepared": train.provenance["request"],
        "gallery": [gallery.name, len(gallery)],
        "captions": None if captions is None else digest(captions),
        **how,
        **({"other_data": other_data} if other_data else {}),
        INPUTS: {
            "prepared": [split.fingerprint for split in (train, validation, held_out)],
            "weights": pipeline.fingerprint,
            "encoder_weights": encoder.fingerprint,
            "gallery": gallery.fingerprint,
            **({} if root is None else {"root": truth_fingerprint(root)}),
        },
    }
    require_own_folder(out, known)
    train[0]  # raises where index and records do not belong together
    test, chosen_on = _Split.read(held_out), _Split.read(validation)
    with_start = any(name.endswith("_low_level") for name in wanted)
    latents = low = None
    if with_start or "linear_latents" in wanted:
        latents = fit_latents(prepared, pipeline, out / "linear", progress=progress)
        low = latents(test.fmri)
    decoders: dict[str, Decoder] = {"neuroadapter": pipeline}
    samplings = {"neuroadapter": sampling}
    if captions is not None and with_text:
        states = fit_states(prepared, pipeline, captions, out / "linear", progress=progress)
        scale = settings.linear_guidance_scale or 1.0
        samplings["linear"] = sampling.replace(guidance_scale=scale, start="noise")
        fitted = {"fitted_on": len(states.image_ids), "data": train.provenance["request"]}
        decoders["linear"] = LinearTwoStage(
            pipeline.backbone,
            pipeline.regions,
            states,
            sampling=samplings["linear"],
            provenance=fitted,
        )
    # Now that responses and captions were found to be usable, the folder is this run's.
    write_json(out / SETTINGS, known)
    if low is not None:
        save_low_level_start(out / "low_level_test.npz", test.dataset.image_ids, low)
    chosen = choose_on_validation(
        decoders,
        samplings,
        _validation_images(chosen_on, latents if with_start else None, root),
        settings,
        out / "validation.json",
        progress=progress,
    )
    if "linear" in samplings:
        guidance = chosen["linear_guidance_scale"]
        samplings["linear"] = samplings["linear"].replace(guidance_scale=guidance)
    methods = _Methods(
        pipeline=pipeline,
        decoders=decoders,
        samplings=samplings,
        strengths=chosen["strength"],
        encoder=encoder,
        gallery=gallery,
        training=gallery_of_records(train),
        test=test,
        low=low,
        out=out,
        settings=settings,
        save_grid=save_grid,
        progress=progress,
    )
    score = make_score(test.stimuli, test.dataset.image_ids, root)
    scores = {}
    bar = Bar(wanted, desc="Methods", unit="method", disable=not progress)
    for name in bar:
        bar.set_postfix_str(name)
        methods.make(name)
        scores[name] = score(load_reconstructions(out / name).best)
    results = {
        "num_images": len(test.stimuli),
        "split": "test",
        "gallery": {"name": gallery.name, "images": len(gallery)},
        "settings": how,
        "chosen_on_validation": chosen,
        "missing": missing,
        **summarise(scores, settings.seed),
    }
    write_json(out / "results.json", results)
    write_text(out / "table.md", tables(results))
    return results


@dataclass(frozen=True)
class _Split:
    dataset: PreparedDataset
    fmri: Float[np.ndarray, "b n"]
    latents: Float[np.ndarray, "b y x c"]
    stimuli: UInt8[np.ndarray, "b Y X 3"]

    @classmethod
    def read(cls, dataset: PreparedDataset) -> "_Split":
        found = read_split(dataset, "betas", "latent_mean", "image")
        return cls(dataset, found["betas"].astype(np.float32), found["latent_mean"], found["image"])


def _validation_images(
    split: _Split, latents: LinearMap | None, root: str | Path | None
) -> ValidationImages:
    low = None if latents is None else latents(split.fmri)
    score = None if root is None else make_score(split.stimuli, split.dataset.image_ids, root)
    return ValidationImages(split.fmri, low, score)


@dataclass(frozen=True, kw_only=True)
class _Methods:
    """Everything that the methods need to make their folders of test images.

    Attributes:
        pipeline: NeuroAdapter.
        decoders: "neuroadapter" and, where captions are known, "linear".
        samplings: of each decoder.
        strengths: of each decoder's low-level start.
        encoder: retrieves and chooses.
        gallery: what is retrieved from.
        training: the training images.
        test: the test split.
        low: latents of the low-level start.
        out: folder of all methods' folders.
        settings: of the study.
        save_grid: called with each finished folder.
        progress: show bars.
    """

    pipeline: NeuroAdapterPipeline
    decoders: Mapping[str, Decoder]
    samplings: Mapping[str, Sampling]
    strengths: Mapping[str, float | None]
    encoder: BrainEncoder
    gallery: Gallery
    training: Gallery
    test: _Split
    low: Float[np.ndarray, "b y x c"] | None
    out: Path
    settings: BaselineSettings
    save_grid: SaveGrid | None
    progress: bool

    def make(self, name: str) -> None:
        """The folder of one of `METHODS`; what is there already is not made again."""
        if name.startswith(("linear", "neuroadapter")) and name != "linear_latents":
            self._reconstruct(name)
        else:
            {
                "mean_image": self._mean_image,
                "random_image": self._random_image,
                "retrieval": self._retrieval,
                "linear_latents": self._linear_latents,
                "autoencoder": self._autoencoder,
            }[name]()

    def _reconstruct(self, name: str) -> None:
        which, choose = name.split("_")[0], "chosen" in name
        low_level = None
        if name.endswith("_low_level"):
            strength = self.strengths[which]
            if self.low is None or strength is None:
                raise InputError(f"{name} needs a low-level start, but there is none.")
            low_level = LowLevelStart(self.low, strength)
        reconstruct_split(
            self.decoders[which],
            self.test.dataset,
            self.out / name,
            ReconstructionSettings(
                sampling=self.samplings[which],
                num_candidates=self.settings.num_candidates if choose else 1,
                seed=self.settings.seed,
                batch_size=self.settings.batch_size,
                allow_other=self.settings.allow_other,
            ),
            low_level=low_level,
            ranking=Ranking(self.encoder) if choose else None,
            save_grid=self.save_grid,
            progress=self.progress,
        )

    def _write(self, name: str, images: UInt8[np.ndarray, "b y x c"], **settings: Any) -> None:
        known = {"method": name, "seed": self.settings.seed, **settings}
        write_reconstructions(self.out / name, self.test.dataset, images, known, self.save_grid)

    def _decode(self, scaled: Float[np.ndarray, "b _y _x _c"]) -> UInt8[np.ndarray, "b y x c"]:
        size = min(self.settings.batch_size, len(scaled))
        return map_batches(lambda rows: self.pipeline.decode(scaled[rows]), len(scaled), size)

    def _mean_image(self) -> None:
        count = len(self.test.stimuli)
        self._write("mean_image", np.repeat(mean_image(self.training)[None], count, axis=0))

    def _random_image(self) -> None:
        rows = random_rows(self.training, len(self.test.stimuli), self.settings.seed)
        self._write("random_image", self.training.read(rows))

    def _retrieval(self) -> None:
        found = retrieve(
            self.encoder,
            self.gallery,
            self.test.fmri,
            self.test.stimuli,
            self.test.dataset.image_ids,
            self.pipeline.regions,
            state=self.out / "retrieval.npz",
            progress=self.progress,
        )
        images = self.gallery.read(found.rows)
        inputs = {"gallery": self.gallery.fingerprint, "encoder_weights": self.encoder.fingerprint}
        gallery = {"gallery": self.gallery.name, "size": len(self.gallery)}
        self._write("retrieval", images, **gallery, **{INPUTS: inputs})

    def _linear_latents(self) -> None:
        if self.low is None:
            raise InputError("linear_latents needs the linear map to latents, but there is none.")
        self._write("linear_latents", self._decode(self.low))

    def _autoencoder(self) -> None:
        scale = self.pipeline.backbone.vae.config.scaling_factor
        self._write("autoencoder", self._decode(scale * self.test.latents))
