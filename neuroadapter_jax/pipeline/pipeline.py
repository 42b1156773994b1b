"""From responses to images: `NeuroAdapterPipeline`."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, UInt8

from neuroadapter_jax.adapter.guidance import advance_latents, clean_start, first_state
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.cortex.packing import make_packing, pack
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.images import to_model_range, to_uint8
from neuroadapter_jax.diffusion.prompt import empty_prompt
from neuroadapter_jax.diffusion.samplers import (
    SamplerState,
    advance,
    plan,
    skipped_steps,
    without_first,
)
from neuroadapter_jax.diffusion.sampling import Start
from neuroadapter_jax.diffusion.unet import with_sample_size
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    Backbone,
    from_tensors,
    load_pretrained,
    load_safetensors,
    read_config,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder, check_fits
from neuroadapter_jax.encoder.ranking import best_candidates, choose
from neuroadapter_jax.files import write_json
from neuroadapter_jax.ibbi.views import (
    DEFAULT_REDUCTION,
    LayerWeighting,
    Reduction,
    Views,
    combine_layers,
    prediction_with_views,
    validate_reduction,
)
from neuroadapter_jax.sharding import ROWS, make_mesh, replicate

_CONFIG, _WEIGHTS, _REGIONS = "config.json", "adapter.safetensors", "regions.npz"


class Candidates(NamedTuple):
    """Images drawn from the same responses, and which of them a brain encoder prefers.

    Attributes:
        images: [b, s, y, x, c], those that were drawn to the end.
        scores: correlation of the predicted with the measured response.
        chosen: index of the best of `images`; the first of equals.
        numbers: which candidate each of `images` is.
    """

    images: UInt8[np.ndarray, "b s y x c"]
    scores: Float[np.ndarray, "b s"]
    chosen: Int[np.ndarray, " b"]
    numbers: Int[np.ndarray, "b s"]


class Interpretation(NamedTuple):
    """Images and what the attention to the regions was while they were drawn.

    Attributes:
        images: [b, y, x, c].
        views: both views of every denoising step, [t, b, ...]; see `ibbi.views.Views`.
        timesteps: of the noise schedule, from most to least noise.
        shown: steps of which the next two are kept.
        noisy: the latents before each shown step, [k, b, y, x, c], scaled.
        predicted_clean: the clean images that the guided prediction implies there, [k, b, ...].
    """

    images: UInt8[np.ndarray, "b y x c"]
    views: Views
    timesteps: Int[np.ndarray, " t"]
    shown: tuple[int, ...]
    noisy: Float[np.ndarray, "k b _y _x _c"]
    predicted_clean: UInt8[np.ndarray, "k b y x c"]


class NeuroAdapterPipeline:
    """Draws images from cortical responses.

    Args:
        adapter: the trained adapter.
        backbone: the Stable Diffusion it was trained on.
        regions: the p regions its tokens stand for, in token order.
        backbone_name: how `save_pretrained` refers to the backbone; see `backbone_folder`.
        guidance_scale: used unless a call names another, as are the next three.
        sampler: see `__call__`.
        start: likewise.
        num_candidates: likewise.
        provenance: what the adapter was trained on, kept in config.json.
    """

    def __init__(
        self,
        adapter: NeuroAdapter,
        backbone: Backbone,
        regions: Parcellation,
        *,
        backbone_name: str,
        guidance_scale: float = 2.0,
        sampler: str = "ddim",
        start: Start = "noise",
        num_candidates: int = 1,
        provenance: dict[str, Any] | None = None,
    ):
        self.adapter, self.backbone, self.regions = adapter, backbone, regions
        self.backbone_name = str(backbone_name)
        self.guidance_scale, self.sampler = guidance_scale, sampler
        self.start, self.num_candidates = start, num_candidates
        self.provenance = provenance or {}
        if adapter.config.num_subjects != 1:
            raise ValueError(
                f"The adapter holds the projection banks of {adapter.config.num_subjects} "
                "subjects; take one out with adapter.of_subject(index)."
            )
        self.packing = make_packing(regions, adapter.config.max_vertices)
        if len(regions) != adapter.config.num_regions:
            raise ValueError(
                f"The adapter has {adapter.config.num_regions} regions but {len(regions)} were "
                "given; use the regions it was trained with."
            )
        self._text = empty_prompt(backbone)
        modules = {"adapter": adapter, "unet": backbone.unet, "vae": backbone.vae}
        self._graphs = {name: nnx.graphdef(module) for name, module in modules.items()}
        self._params = {name: nnx.state(module, nnx.Param) for name, module in modules.items()}
        self._placed: dict[int, Any] = {}
        static = ("sampler", "start", "num_steps", "eta", "span", "mesh")
        self._draw_jitted = jax.jit(self._draw, static_argnames=(*static, "skipped"))
        self._predict_jitted = jax.jit(self._predict, static_argnames="return_attention")
        watched = (*static[:-2], "reduction", "layer_weighting", "shown", "mesh")
        self._watch_jitted = jax.jit(self._watch, static_argnames=watched)
        self._effects_jitted = jax.jit(self._effects, static_argnames="mesh")
        self._decode_jitted = jax.jit(self._decode)
        self._encode_jitted = jax.jit(self._encode)

    @property
    def num_vertices(self) -> int:
        """n, vertices of both hemispheres that `fmri` must have."""
        return sum(self.regions.num_vertices)

    @classmethod
    def from_pretrained(cls, folder: str | Path, backbone: str | Path | None = None):
        """Load a folder written by `save_pretrained`, or one shipped in the package by name.

        Args:
            folder: the folder, or a shipped name such as "neuroadapter-simulated".
            backbone: another place of the backbone than config.json names.

        Raises:
            FileNotFoundError: a file of the folder, or the backbone, is not there.
            ValueError: the weights do not fit config.json; all differences are named.
        """
        folder = next((f for f in (Path(folder), ASSETS / folder) if f.is_dir()), Path(folder))
        for name in (_CONFIG, _WEIGHTS, _REGIONS):
            if not (folder / name).is_file():
                shipped = sorted(p.parent.name for p in ASSETS.glob("*/regions.npz"))
                raise FileNotFoundError(
                    f"{folder / name}: not found; expected a folder written by save_pretrained or "
                    f"launch/export.py, or one of the shipped {shipped}."
                )
        settings = json.loads((folder / _CONFIG).read_text())
        config = read_config(folder / _CONFIG, NeuroAdapterConfig)
        abstract = nnx.eval_shape(lambda: NeuroAdapter(config, rngs=nnx.Rngs(0)))
        path = folder / _WEIGHTS
        regions = Parcellation.load(folder / _REGIONS)
        if regions.fingerprint() != settings["regions_fingerprint"]:
            raise ValueError(
                f"{folder / _REGIONS}: not the regions that {_CONFIG} beside it names "
                "(regions_fingerprint), so the tokens would stand for others; copy the folder anew."
            )
        name = str(backbone or settings["backbone"])
        loaded = load_pretrained(name)
        # Folders of older versions lack the keys read here with `get`.
        size = settings.get("sample_size", loaded.unet.config.sample_size)
        sampling = ("sampler", "start", "num_candidates")
        return cls(
            from_tensors(abstract, load_safetensors(path), str(path), jnp.float32),
            loaded._replace(unet=with_sample_size(loaded.unet, size, jnp.float32)),
            regions,
            backbone_name=name,
            guidance_scale=settings["guidance_scale"],
            provenance=settings["provenance"],
            **{key: settings[key] for key in sampling if key in settings},
        )

    def save_pretrained(self, folder: str | Path, dtype: Any = np.float32) -> None:
        """Write config.json, adapter.safetensors and regions.npz; the backbone is named only."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(folder / _WEIGHTS, to_tensors(self.adapter, dtype))
        self.regions.save(folder / _REGIONS)
        config = dataclasses.asdict(self.adapter.config) | {
            "backbone": self.backbone_name,
            "sample_size": self.backbone.unet.config.sample_size,
            "guidance_scale": self.guidance_scale,
            "sampler": self.sampler,
            "start": self.start,
            "num_candidates": self.num_candidates,
            "regions_fingerprint": self.regions.fingerprint(),
            "provenance": self.provenance,
        }
        write_json(folder / _CONFIG, config)

    def __call__(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sampler: str | None = None,
        start: Start | None = None,
        num_steps: int = 50,
        guidance_scale: float | None = None,
        eta: float = 0.0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        keep: Bool[np.ndarray, "b k"] | None = None,
        low_level_start: Float[np.ndarray | Array, "b _y _x _c"] | None = None,
        strength: float = 0.8,
        encoder: BrainEncoder | None = None,
        halving: Sequence[tuple[int, int]] = (),
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images for a batch of responses, all from one jitted call.

        The images are shared among this process's devices, as many of them as divide their number.
        Candidate j of sample i starts from the noise of key (seed, sample_ids[i], j), so its image
        does not depend on what else is in the batch.

        Args:
            fmri: responses of the whole cortex, left then right hemisphere, normalised as in
                training (config.json says how).
            num_candidates: s, images per response.
            seed: of the noise.
            sampler: "ddim", "ddpm" or "dpmsolver++".
            start: "noise", or "grey" for a noised grey image, as in the released code.
            num_steps: denoising steps.
            guidance_scale: strength of classifier-free guidance; 1 means none.
            eta: noise of DDIM, 0 to 1.
            sample_ids: numbers that name the samples' noise; 0 ... b - 1 when None.
            keep: False silences a sample's token, as training does with those it drops.
            low_level_start: scaled latents that drawing begins from instead of `start`, such as a
                linear decoder's (`evaluation.linear_two_stage`) or `encode` of an image.
            strength: with `low_level_start`, the share of the steps that are taken, from its
                latents noised to that point on, as in diffusers' image-to-image pipelines. At 1
                it is not used at all (diffusers would keep what the first noise level leaves).
            encoder: only the candidate that it ranks first is returned, s = 1; see `candidates`.
            halving: with an encoder, see `candidates`.

        Raises:
            ValueError: another number of vertices, responses that are not finite, starting
                latents of another shape, strength out of range, or an encoder of another subject,
                surface or parcellation.
        """
        options = dict(
            num_candidates=num_candidates,
            seed=seed,
            sampler=sampler,
            start=start,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            eta=eta,
            sample_ids=sample_ids,
            keep=keep,
            low_level_start=low_level_start,
            strength=strength,
        )
        if encoder is not None:
            found = self.candidates(fmri, encoder, halving=halving, **options)
            return found.images[np.arange(len(found.images)), found.chosen][:, None]
        if halving:
            raise ValueError("halving needs an encoder, which decides what is kept.")
        reconstruct, numbers = self._drawing(fmri, **options)
        images, _ = reconstruct(numbers, None, None)
        return np.asarray(images)

    def candidates(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        encoder: BrainEncoder,
        *,
        halving: Sequence[tuple[int, int]] = (),
        num_steps: int = 50,
        low_level_start: Float[np.ndarray | Array, "b _y _x _c"] | None = None,
        strength: float = 0.8,
        **options: Any,
    ) -> Candidates:
        """All candidates of a call, and how well each one's predicted response fits.

        Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) saves most of the time:
        after some steps the clean images that the U-Net predicts at that point are ranked, and
        only the best candidates go on. What goes on is drawn exactly as without halving.

        Args:
            fmri: as in a call.
            encoder: of the same subject, surface and parcellation; see `BrainEncoder.rank`.
            halving: (steps taken, candidates kept) in order; () draws all to the end. Steps that
                `strength` leaves out do not count.
            num_steps: as in a call, like the other options.
            low_level_start: as in a call.
            strength: as in a call.
            options: as in a call.

        Raises:
            ValueError: as in a call, or steps or counts of `halving` that are out of order.
        """
        check_fits(encoder, self.regions, self.provenance)
        if low_level_start is not None:
            options |= {"low_level_start": low_level_start, "strength": strength}
        reconstruct, numbers = self._drawing(fmri, num_steps=num_steps, **options)
        measured = np.asarray(fmri, np.float32)
        left_out = 0 if low_level_start is None else skipped_steps(num_steps, strength)
        last = num_steps - left_out
        _check_halving(halving, last, numbers.shape[1])
        state, taken = None, 0
        for steps, kept in halving:
            images, state = reconstruct(numbers, state, (taken, steps))
            scores = encoder.rank(images, measured, self.regions)
            best = np.sort(best_candidates(scores, kept), axis=1)
            numbers, state = _candidates_at(best, (numbers, state))
            taken = steps
        images, _ = reconstruct(numbers, state, (taken, last))
        scores = encoder.rank(images, measured, self.regions)
        return Candidates(np.asarray(images), scores, choose(scores), numbers)

    def _drawing(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sampler: str | None = None,
        start: Start | None = None,
        num_steps: int = 50,
        guidance_scale: float | None = None,
        eta: float = 0.0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        keep: Bool[np.ndarray, "b k"] | None = None,
        low_level_start: Float[np.ndarray | Array, "b _y _x _c"] | None = None,
        strength: float = 0.8,
    ) -> tuple[Callable, Int[np.ndarray, "b s"]]:
        """A call's `_draw` as a function of (numbers, state, span), and all candidates' numbers."""
        fmri = self._whole_cortex(fmri)
        latents, skipped = self._low_level(low_level_start, strength, num_steps, len(fmri))
        keep = self._kept(keep, len(fmri))
        ids = np.arange(len(fmri)) if sample_ids is None else np.asarray(sample_ids)
        scale = self.guidance_scale if guidance_scale is None else float(guidance_scale)

        def reconstruct(numbers, state, span):
            mesh, params = self._placement(numbers.size)
            return self._draw_jitted(
                params,
                self._text,
                fmri,
                keep,
                jnp.asarray(ids, jnp.int32),
                jnp.asarray(numbers, jnp.int32),
                state,
                latents,
                jax.random.key(seed),
                None if scale == 1.0 else jnp.float32(scale),
                sampler=sampler or self.sampler,
                start=start or self.start,
                num_steps=num_steps,
                eta=eta,
                span=span,
                skipped=skipped,
                mesh=mesh,
            )

        count = num_candidates or self.num_candidates
        return reconstruct, np.tile(np.arange(count), (len(fmri), 1))

    def interpret(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        roi_weights: Float[np.ndarray | Array, "r p"],
        *,
        reduction: Reduction = DEFAULT_REDUCTION,
        layer_weighting: LayerWeighting = "queries",
        shown: Sequence[int] = (),
        candidate: int = 0,
        seed: int = 0,
        sampler: str | None = None,
        start: Start | None = None,
        num_steps: int = 50,
        guidance_scale: float | None = None,
        eta: float = 0.0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
    ) -> Interpretation:
        """The images of a call, and IBBI's views of every step they were drawn in.

        The attention of all cross-attention layers is reduced inside the sampler (conditional half
        of guidance only); what is kept grows with steps x (regions + areas x latent pixels).

        Args:
            fmri: as in a call.
            roi_weights: each area's weights over the model's regions; see `ibbi.rois`.
            reduction: see `ibbi.views.prediction_with_views`; "paper" is "attention" with layers
                weighted by queries.
            layer_weighting: see `ibbi.views.combine_layers`.
            shown: steps, from 0, whose noisy latents and predicted clean images are kept.
            candidate: which of a call's candidates.
            seed: as in a call, like the others.
            sampler: likewise.
            start: likewise.
            num_steps: likewise.
            guidance_scale: likewise.
            eta: likewise.
            sample_ids: likewise.

        Raises:
            ValueError: as in a call, weights of another number of regions, an unknown reduction,
                or steps out of range; or the tokens are learned queries, which stand for no region.
        """
        fmri = self._whole_cortex(fmri)
        if self.adapter.config.token_queries is not None:
            raise ValueError(
                "This model's tokens are learned queries over all regions; the views need one "
                "token per region (token_queries=None)."
            )
        if np.ndim(roi_weights) != 2 or np.shape(roi_weights)[1] != len(self.regions):
            raise ValueError(
                f"interest has shape {np.shape(roi_weights)}; expected [areas, {len(self.regions)}], "
                "a weight per region of the model."
            )
        if any(not 0 <= step < num_steps for step in shown):
            raise ValueError(f"shown is {tuple(shown)}; expected steps from 0 to {num_steps - 1}.")
        reduction, layer_weighting = validate_reduction(reduction, layer_weighting)
        scale = self.guidance_scale if guidance_scale is None else float(guidance_scale)
        ids = np.arange(len(fmri)) if sample_ids is None else np.asarray(sample_ids)
        sampler = sampler or self.sampler
        mesh, params = self._placement(len(fmri))
        images, views, noisy, clean = self._watch_jitted(
            params,
            self._text,
            fmri,
            jnp.asarray(roi_weights, jnp.float32),
            jnp.asarray(ids, jnp.int32),
            jnp.int32(candidate),
            jax.random.key(seed),
            None if scale == 1.0 else jnp.float32(scale),
            sampler=sampler,
            start=start or self.start,
            num_steps=num_steps,
            eta=eta,
            reduction=reduction,
            layer_weighting=layer_weighting,
            shown=tuple(shown),
            mesh=mesh,
        )
        timesteps = plan(self.backbone.schedule, sampler, num_steps, eta).timesteps
        found = jax.tree.map(np.asarray, (images, views))
        return Interpretation(*found, timesteps, tuple(shown), np.asarray(noisy), np.asarray(clean))

    def _watch(
        self,
        params,
        text,
        fmri,
        roi_weights,
        ids,
        candidate,
        key,
        guidance_scale,
        *,
        sampler,
        start,
        num_steps,
        eta,
        reduction,
        layer_weighting,
        shown,
        mesh,
    ):
        schedule = self.backbone.schedule
        adapter, unet, vae = (
            nnx.merge(self._graphs[name], params[name]) for name in ("adapter", "unet", "vae")
        )
        steps = plan(schedule, sampler, num_steps, eta)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), candidate))(ids)
        side = unet.config.sample_size
        brain = adapter(pack(fmri, self.packing))
        keys, streams = jax.lax.with_sharding_constraint(
            (keys, (brain.keys, brain.values)), NamedSharding(mesh, ROWS)
        )
        brain = Stream(*streams, brain.scale)
        guided = prediction_with_views(
            unet, text, brain, adapter.unconditional(), guidance_scale, roi_weights, reduction
        )

        def predict(x, timestep):
            out, layers = guided(x, timestep)
            # The latents of every step are small beside one layer's attention.
            return out, (combine_layers(layers, side, layer_weighting), x, out)

        state = first_state(unet, keys, steps, clean_start(vae, start, side))
        state, (views, noisy, out) = advance(predict, state, keys, steps, schedule.prediction_type)
        at = np.array(shown, int)
        noisy, timesteps = noisy[at], jnp.asarray(steps.timesteps[at])
        clean = schedule.predicted_clean(noisy, out[at], timesteps)
        scale = vae.config.scaling_factor
        decoded = [to_uint8(vae.decode(x / scale)) for x in clean]
        images = to_uint8(vae.decode(state.latents / scale))
        decoded = jnp.stack(decoded) if decoded else jnp.zeros((0, *images.shape), jnp.uint8)
        return images, views, noisy, decoded

    def effects(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        noisy: Float[np.ndarray | Array, "b y x c"],
        timestep: int,
        region_sets: Bool[np.ndarray, "r p"],
        *,
        alone: bool = False,
    ) -> Float[np.ndarray, "b r y x"]:
        """How much the noise prediction changes, and where, when a set's tokens are dropped.

        sum_c (eps(x_t, t, all tokens) - eps(x_t, t, all but the set's))^2, or, alone,
        sum_c (eps(x_t, t, no token) - eps(x_t, t, the set's))^2

        The direct test of what attention only suggests, for one step: one pass of the U-Net per
        set, without guidance.

        Args:
            fmri: as in a call.
            noisy: x_t, such as `Interpretation.noisy` of a step.
            timestep: t.
            region_sets: the regions of each set.
            alone: what a set does by itself, in place of what is lacking without it.

        Raises:
            ValueError: as in a call, or sets of another number of regions.
        """
        fmri = self._whole_cortex(fmri)
        if np.ndim(region_sets) != 2 or np.shape(region_sets)[1] != self.adapter.config.num_tokens:
            raise ValueError(
                f"sets have shape {np.shape(region_sets)}; expected [sets, "
                f"{self.adapter.config.num_tokens}], an entry per token."
            )
        mesh, params = self._placement(len(fmri))
        found = self._effects_jitted(
            params,
            self._text,
            fmri,
            jnp.asarray(noisy, jnp.float32),
            jnp.int32(timestep),
            jnp.asarray(region_sets, bool) if alone else ~jnp.asarray(region_sets, bool),
            jnp.asarray(not alone),
            mesh=mesh,
        )
        return np.asarray(found)

    def _effects(self, params, text, fmri, noisy, timestep, kept, rest, *, mesh):
        adapter, unet = (
            nnx.merge(self._graphs[name], params[name]) for name in ("adapter", "unet")
        )
        packed, noisy = jax.lax.with_sharding_constraint(
            (pack(fmri, self.packing), noisy), NamedSharding(mesh, ROWS)
        )
        timesteps = jnp.full(len(fmri), timestep)

        def predict(keep):
            keep = jnp.broadcast_to(keep, (len(fmri), kept.shape[1]))
            return unet(noisy, timesteps, [text, adapter(packed, keep)])

        base = predict(rest)

        def change(keep):
            return jnp.square(predict(keep) - base).sum(axis=-1)

        return jnp.moveaxis(jax.lax.map(change, kept), 0, 1)

    def decode(
        self, latents: Float[np.ndarray | Array, "b y x c"]
    ) -> UInt8[np.ndarray, "b _y _x _c"]:
        """The images of scaled latents, noisy ones too."""
        _, params = self._placement(1)
        return np.asarray(self._decode_jitted(params, jnp.asarray(latents)))

    def encode(
        self, images: UInt8[np.ndarray | Array, "b y x c"]
    ) -> Float[np.ndarray, "b _y _x _c"]:
        """The scaled latents of images: the mean of the VAE's posterior."""
        _, params = self._placement(1)
        return np.asarray(self._encode_jitted(params, jnp.asarray(images)))

    def _encode(self, params, images):
        vae = nnx.merge(self._graphs["vae"], params["vae"])
        return vae.config.scaling_factor * vae.encode(to_model_range(images))[0]

    def _decode(self, params, latents):
        vae = nnx.merge(self._graphs["vae"], params["vae"])
        return to_uint8(vae.decode(latents / vae.config.scaling_factor))

    def _placement(self, num_images: int) -> tuple[Mesh, Any]:
        """A mesh of as many devices as share the images evenly, and the weights on all of them."""
        devices = jax.local_devices()
        count = math.gcd(num_images, len(devices))
        mesh = make_mesh(devices=devices[:count])
        if count not in self._placed:
            self._placed = {count: replicate(self._params, mesh)}
        return mesh, self._placed[count]

    def predict_noise(
        self,
        fmri: Float[np.ndarray | Array, "b n"] | Float[np.ndarray | Array, "b p v"],
        latents: Float[np.ndarray | Array, "b c y x"],
        timesteps: int | Int[np.ndarray | Array, "..."],
        return_attention: bool = False,
    ) -> (
        Float[Array, "b c y x"]
        | tuple[Float[Array, "b c y x"], dict[str, Float[Array, "b _h _q p"]]]
    ):
        """What the U-Net predicts for noisy latents, without guidance.

        Args:
            fmri: responses of the whole cortex as in a call, or already packed [b, p, v], zero in
                empty slots.
            latents: scaled, noisy latents with channels first, as in diffusers.
            timesteps: from 0 to T - 1, one per sample or one for all.
            return_attention: also return the attention to the regions.

        Returns:
            The prediction [b, c, y, x]; if asked for, also {diffusers' layer name: softmax over
            regions of q k' / sqrt(d), [b, h, q, p]} of every cross-attention layer, in order of
            execution. The queries are the rows of the layer's feature map, one after the other.

        Raises:
            ValueError: responses as in a call, or latents that do not fit them or the U-Net.
        """
        config = self.backbone.unet.config
        multiple = 2 ** (len(config.block_out_channels) - 1)
        if np.ndim(fmri) == 3:
            expected = (len(fmri), *self.packing.index.shape)
            if fmri.shape != expected:
                raise ValueError(f"fmri has shape {fmri.shape}; expected {expected}, packed.")
            packed = _finite(fmri)
        else:
            packed = pack(self._whole_cortex(fmri), self.packing)
        if (
            np.ndim(latents) != 4
            or latents.shape[:2] != (len(packed), config.in_channels)
            or any(side % multiple for side in latents.shape[2:])
        ):
            raise ValueError(
                f"latents have shape {np.shape(latents)}; expected [{len(packed)}, "
                f"{config.in_channels}, rows, columns], rows and columns multiples of {multiple}."
            )
        out, probed = self._predict_jitted(
            self._params,
            self._text,
            packed,
            jnp.asarray(latents, jnp.float32),
            jnp.broadcast_to(jnp.asarray(timesteps, jnp.int32), len(packed)),
            return_attention=return_attention,
        )
        if not return_attention:
            return out
        names = [name for name, _ in self.backbone.unet.cross_attentions()]
        return out, dict(zip(names, probed, strict=True))

    def _predict(self, params, text, packed, latents, timesteps, *, return_attention):
        adapter, unet = (
            nnx.merge(self._graphs[name], params[name]) for name in ("adapter", "unet")
        )
        probe = (lambda weights: weights) if return_attention else None
        streams = [text, adapter(packed)]
        out = unet(jnp.moveaxis(latents, 1, -1), timesteps, streams, probe)
        out, probed = out if return_attention else (out, None)
        return jnp.moveaxis(out, -1, 1), probed

    def _whole_cortex(self, fmri: np.ndarray | Array) -> Float[Array, "b n"]:
        fmri = np.asarray(fmri)
        if fmri.ndim != 2 or fmri.shape[1] != self.num_vertices:
            raise ValueError(
                f"fmri has shape {fmri.shape}; expected [samples, {self.num_vertices}], all "
                "vertices of the left, then of the right hemisphere."
            )
        return _finite(fmri)

    def _low_level(
        self, latents: np.ndarray | Array | None, strength: float, num_steps: int, size: int
    ) -> tuple[Float[Array, "b y x c"] | None, int]:
        """The latents that drawing begins from, if any, and how many steps that leaves out."""
        if latents is None:
            return None, 0
        config = self.backbone.unet.config
        expected = (size, config.sample_size, config.sample_size, config.in_channels)
        if np.shape(latents) != expected:
            raise ValueError(
                f"low_level_start has shape {np.shape(latents)}; expected {expected}, the scaled "
                "latents of each response."
            )
        if not np.isfinite(latents).all():
            raise ValueError("low_level_start has NaN or infinite values.")
        skipped = skipped_steps(num_steps, strength)
        return (jnp.asarray(latents, jnp.float32), skipped) if strength < 1.0 else (None, 0)

    def _kept(
        self, keep: Bool[np.ndarray, "b k"] | None, size: int
    ) -> Bool[np.ndarray, "b k"] | None:
        expected = (size, self.adapter.config.num_tokens)
        if keep is not None and np.shape(keep) != expected:
            raise ValueError(
                f"keep has shape {np.shape(keep)}; expected {expected}, one entry per token."
            )
        return None if keep is None else np.asarray(keep, bool)

    def _draw(
        self,
        params,
        text,
        fmri,
        keep,
        ids,
        numbers,
        state,
        low_level,
        key,
        guidance_scale,
        *,
        sampler,
        start,
        num_steps,
        eta,
        span,
        skipped,
        mesh,
    ) -> tuple[UInt8[Array, "b s y x c"], SamplerState]:
        """Steps `span` of candidates `numbers` [b, s]; before the last the images are x0's."""
        schedule = self.backbone.schedule
        adapter, unet, vae = (
            nnx.merge(self._graphs[name], params[name]) for name in ("adapter", "unet", "vae")
        )
        num_candidates = numbers.shape[1]
        steps = without_first(plan(schedule, sampler, num_steps, eta), skipped)
        keys = jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(key, i), j))(
            jnp.repeat(ids, num_candidates), numbers.reshape(-1)
        )
        brain = adapter(pack(fmri, self.packing), keep)
        repeated = jax.tree.map(
            lambda x: jnp.repeat(x, num_candidates, axis=0), (brain.keys, brain.values)
        )
        if state is None:
            if low_level is None:
                clean = clean_start(vae, start, unet.config.sample_size)
            else:
                clean = jnp.repeat(low_level, num_candidates, axis=0)
            state = first_state(unet, keys, steps, clean)
        else:
            state = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state)
        keys, repeated, state = jax.lax.with_sharding_constraint(
            (keys, repeated, state), NamedSharding(mesh, ROWS)
        )
        state, _ = advance_latents(
            unet,
            text,
            Stream(*repeated, brain.scale),
            adapter.unconditional(),
            state,
            keys,
            steps,
            guidance_scale,
            schedule.prediction_type,
            span=span,
        )
        whole = span is None or span[1] == len(steps.timesteps)
        latents = state.latents if whole else state.clean
        images = to_uint8(vae.decode(latents / vae.config.scaling_factor))
        return jax.tree.map(lambda x: x.reshape(*numbers.shape, *x.shape[1:]), (images, state))


def _candidates_at(index: Int[np.ndarray, "b s"], tree: Any) -> Any:
    rows = np.arange(len(index))[:, None]
    return jax.tree.map(lambda x: x[rows, index], tree)


def _check_halving(halving: Sequence[tuple[int, int]], num_steps: int, num_candidates: int) -> None:
    taken, kept = 0, num_candidates
    for steps, count in halving:
        if not (taken < steps < num_steps and 1 <= count < kept):
            raise ValueError(
                f"halving is {tuple(halving)} with {num_candidates} candidates and {num_steps} "
                "steps; expected pairs of steps taken, rising and below the number of steps, and "
                "candidates kept, falling and at least 1."
            )
        taken, kept = steps, count


def _finite(fmri: np.ndarray | Array) -> Float[Array, "b ..."]:
    fmri = np.asarray(fmri)
    if not np.isfinite(fmri).all():
        bad = int((~np.isfinite(fmri)).any(axis=0).sum())
        raise ValueError(
            f"fmri has NaN or infinite values at {bad} vertices; replace them (0 is the mean "
            "of z-scored responses) before drawing."
        )
    return jnp.asarray(fmri, jnp.float32)
