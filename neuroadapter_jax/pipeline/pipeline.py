"""From responses to images: `NeuroAdapterPipeline`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import make_packing
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder, check_fits
from neuroadapter_jax.ibbi.views import (
    DEFAULT_REDUCTION,
    LayerWeighting,
    Reduction,
    validate_reduction,
)
from neuroadapter_jax.pipeline import checks, effects, reconstruct, saving
from neuroadapter_jax.pipeline.interpret import Interpretation, sample_with_views
from neuroadapter_jax.pipeline.networks import Networks, Placement, Request, as_sample_ids
from neuroadapter_jax.pipeline.rank import Candidates, ranked
from neuroadapter_jax.pipeline.reconstruct import LowLevelStart, SampleSpan, Steps, span_sampler


class NeuroAdapterPipeline:
    """Images from cortical responses.

    The class checks what it is given, fills in what is not, and calls the pure functions of this
    package, which take the networks as one pytree.

    Args:
        adapter: the trained adapter.
        backbone: the Stable Diffusion it was trained on.
        regions: the p regions its tokens stand for, in token order.
        backbone_name: how `save_pretrained` refers to the backbone; see `backbone_folder`.
        sampling: used unless a call gives another.
        num_candidates: images per response, used unless a call gives another number.
        provenance: what the adapter was trained on, kept in config.json.

    Raises:
        ValueError: the adapter holds the banks of several subjects, or the regions are not as many
            as it has.
    """

    def __init__(
        self,
        adapter: NeuroAdapter,
        backbone: Backbone,
        regions: Parcellation,
        *,
        backbone_name: str,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        num_candidates: int = 1,
        provenance: dict[str, Any] | None = None,
    ):
        self.adapter, self.backbone, self.regions = adapter, backbone, regions
        self.backbone_name = str(backbone_name)
        self.sampling, self.num_candidates = sampling, num_candidates
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
        self.networks = Networks.of(adapter, backbone, self.packing)
        self.place = Placement(self.networks)

    @property
    def num_vertices(self) -> int:
        """n, vertices of both hemispheres that `fmri` must have."""
        return sum(self.regions.num_vertices)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, backbone: str | Path | None = None
    ) -> "NeuroAdapterPipeline":
        """Load a folder written by `save_pretrained`, or one shipped in the package by name.

        Args:
            folder: the folder, or a shipped name such as "neuroadapter-simulated".
            backbone: another place of the backbone than config.json names.

        Raises:
            FileNotFoundError: a file of the folder, or the backbone, is not there.
            ValueError: the weights do not fit config.json; all differences are named.
        """
        saved = saving.load(folder, backbone)
        return cls(
            saved.adapter,
            saved.backbone,
            saved.regions,
            backbone_name=saved.backbone_name,
            sampling=saved.sampling,
            num_candidates=saved.num_candidates,
            provenance=saved.provenance,
        )

    def save_pretrained(self, folder: str | Path, dtype: Any = np.float32) -> None:
        """Write config.json, adapter.safetensors and regions.npz; the backbone is named only.

        Args:
            folder: to write.
            dtype: of the written weights.
        """
        saving.save(
            folder,
            self.adapter,
            self.regions,
            dtype,
            backbone=self.backbone_name,
            sample_size=self.backbone.unet.config.sample_size,
            sampling=self.sampling.to_dict(),
            num_candidates=self.num_candidates,
            provenance=self.provenance,
        )

    def __call__(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        sampling: Sampling | None = None,
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        keep: Bool[np.ndarray, "b k"] | None = None,
        low_level: LowLevelStart | None = None,
        encoder: BrainEncoder | None = None,
        halving: Sequence[tuple[int, int]] = (),
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Reconstructions of a batch of responses, all from one jitted call.

        The images are shared among this process's devices, as many of them as divide their number.
        Candidate j of sample i starts from the noise of key (seed, sample_ids[i], j), so its image
        does not depend on what else is in the batch.

        Args:
            fmri: responses of the whole cortex, left then right hemisphere, normalised as in
                training (config.json says how).
            sampling: the pipeline's own when None; `pipe.sampling.replace(num_steps=20)` changes
                single settings.
            num_candidates: s, images per response; the pipeline's own when None.
            seed: of the noise.
            sample_ids: numbers that name the samples' noise; 0 ... b - 1 when None.
            keep: False silences a sample's token, as training does with those it drops.
            low_level: where sampling begins instead of the start that the settings name.
            encoder: only the candidate that it ranks first is returned, s = 1; see `candidates`.
            halving: with an encoder, see `candidates`.

        Raises:
            ValueError: another number of vertices, responses that are not finite, starting
                latents of another shape, strength out of range, or an encoder of another subject,
                surface or parcellation.
        """
        if encoder is None and halving:
            raise ValueError("halving needs an encoder, which decides what is kept.")
        options = (fmri, sampling, num_candidates, seed, sample_ids, keep, low_level)
        if encoder is not None:
            return self._rank(encoder, halving, *options).best[:, None]
        sample, numbers, _ = self._sampler(*options)
        return np.asarray(sample(numbers, None, None)[0])

    def candidates(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        encoder: BrainEncoder,
        sampling: Sampling | None = None,
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        keep: Bool[np.ndarray, "b k"] | None = None,
        low_level: LowLevelStart | None = None,
        halving: Sequence[tuple[int, int]] = (),
    ) -> Candidates:
        """All candidates of `__call__`, and how well each one's predicted response fits.

        Args:
            fmri: responses of the whole cortex, see `__call__`.
            encoder: of the same subject, surface and parcellation; see `BrainEncoder.rank`.
            sampling: see `__call__`.
            num_candidates: see `__call__`.
            seed: of the noise.
            sample_ids: see `__call__`.
            keep: see `__call__`.
            low_level: see `__call__`.
            halving: (steps taken, candidates kept) in order, see `rank.ranked`; () samples all
                candidates to the end. Steps that the low-level start leaves out do not count.

        Raises:
            ValueError: see `__call__`; or steps or counts of `halving` that are out of order.
        """
        options = (fmri, sampling, num_candidates, seed, sample_ids, keep, low_level)
        return self._rank(encoder, halving, *options)

    def interpret(
        self,
        fmri: Float[np.ndarray | Array, "b n"],
        roi_weights: Float[np.ndarray | Array, "r p"],
        sampling: Sampling | None = None,
        *,
        reduction: Reduction = DEFAULT_REDUCTION,
        layer_weighting: LayerWeighting = "queries",
        shown: Sequence[int] = (),
        candidate: int = 0,
        seed: int = 0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
    ) -> Interpretation:
        """Reconstructions, and IBBI's views of every step they were sampled in.

        The attention of all cross-attention layers is reduced inside the sampler (conditional half
        of guidance only); what is kept grows with steps x (regions + ROIs x latent pixels).

        Args:
            fmri: responses of the whole cortex, see `__call__`.
            roi_weights: each ROI's weights over the model's regions; see `ibbi.roi`.
            sampling: see `__call__`.
            reduction: see `ibbi.views.prediction_with_views`; "paper" is "attention" with layers
                weighted by queries.
            layer_weighting: see `ibbi.views.combine_layers`.
            shown: steps, from 0, whose noisy latents and predicted clean images are kept.
            candidate: which of the candidates of `__call__`.
            seed: of the noise.
            sample_ids: see `__call__`.

        Raises:
            ValueError: see `__call__`; weights of another number of regions, an unknown reduction,
                or steps out of range; or the tokens are learned queries, which stand for no region.
        """
        sampling = sampling or self.sampling
        request = self._request(fmri, sampling, seed, sample_ids)
        weights = checks.viewable(roi_weights, shown, sampling.num_steps, self.adapter.config)
        reduction, layer_weighting = validate_reduction(reduction, layer_weighting)
        mesh, networks = self.place(len(fmri))
        images, views, noisy, clean = sample_with_views(
            networks,
            request,
            weights,
            jnp.int32(candidate),
            sampling=Steps.of(sampling).sampling,
            reduction=reduction,
            layer_weighting=layer_weighting,
            shown=tuple(shown),
            mesh=mesh,
        )
        timesteps = plan(self.backbone.schedule, sampling).timesteps
        return Interpretation(
            np.asarray(images),
            jax.tree.map(np.asarray, views),
            timesteps,
            tuple(shown),
            np.asarray(noisy),
            np.asarray(clean),
        )

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
            fmri: responses of the whole cortex, see `__call__`.
            noisy: x_t, such as `Interpretation.noisy` of a step.
            timestep: t.
            region_sets: the regions of each set.
            alone: what a set does by itself, in place of what is lacking without it.

        Raises:
            ValueError: see `__call__`, or sets of another number of regions.
        """
        responses = checks.whole_cortex(fmri, self.num_vertices)
        members = checks.region_set_masks(region_sets, self.adapter.config.num_tokens)
        mesh, networks = self.place(len(responses))
        found = effects.region_set_effects(
            networks,
            responses,
            jnp.asarray(noisy, jnp.float32),
            jnp.int32(timestep),
            members if alone else ~members,
            jnp.asarray(not alone),
            mesh=mesh,
        )
        return np.asarray(found)

    def decode(
        self, latents: Float[np.ndarray | Array, "b y x c"]
    ) -> UInt8[np.ndarray, "b _y _x _c"]:
        """The images of scaled latents, noisy ones too."""
        _, networks = self.place(1)
        return np.asarray(reconstruct.decode(networks, jnp.asarray(latents)))

    def encode(
        self, images: UInt8[np.ndarray | Array, "b y x c"]
    ) -> Float[np.ndarray, "b _y _x _c"]:
        """The scaled latents of images: the mean of the VAE's posterior."""
        _, networks = self.place(1)
        return np.asarray(reconstruct.encode(networks, jnp.asarray(images)))

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
            fmri: responses of the whole cortex, see `__call__`, or already packed [b, p, v], zero
                in empty slots.
            latents: scaled, noisy latents with channels first, as in diffusers.
            timesteps: from 0 to T - 1, one per sample or one for all.
            return_attention: also return the attention to the regions.

        Returns:
            The prediction [b, c, y, x]; if asked for, also {diffusers' layer name: softmax over
            regions of q k' / sqrt(d), [b, h, q, p]} of every cross-attention layer, in order of
            execution. The queries are the rows of the layer's feature map, one after the other.

        Raises:
            ValueError: responses that `__call__` refuses, or latents that do not fit them or the
                U-Net.
        """
        if np.ndim(fmri) == 3:
            packed = checks.packed_responses(fmri, *self.packing.index.shape)
        else:
            packed = self.networks.pack(checks.whole_cortex(fmri, self.num_vertices))
        out, attention = effects.predict_noise(
            self.networks,
            packed,
            checks.noisy_latents(latents, len(packed), self.backbone.unet.config),
            jnp.broadcast_to(jnp.asarray(timesteps, jnp.int32), len(packed)),
            return_attention=return_attention,
        )
        if attention is None:
            return out
        names = [name for name, _ in self.backbone.unet.cross_attentions()]
        return out, dict(zip(names, attention, strict=True))

    def _request(
        self,
        fmri: np.ndarray | Array,
        sampling: Sampling,
        seed: int,
        sample_ids: Int[np.ndarray, " b"] | None,
        keep: Bool[np.ndarray, "b k"] | None = None,
    ) -> Request:
        """The checked responses of one call, and what decides their noise."""
        responses = checks.whole_cortex(fmri, self.num_vertices)
        return Request(
            responses,
            as_sample_ids(sample_ids, len(responses)),
            jax.random.key(seed),
            jnp.float32(sampling.guidance_scale) if sampling.is_guided else None,
            checks.token_mask(keep, len(responses), self.adapter.config.num_tokens),
        )

    def _sampler(
        self,
        fmri: np.ndarray | Array,
        sampling: Sampling | None,
        num_candidates: int | None,
        seed: int,
        sample_ids: Int[np.ndarray, " b"] | None,
        keep: Bool[np.ndarray, "b k"] | None,
        low_level: LowLevelStart | None,
    ) -> tuple[SampleSpan, Int[np.ndarray, "b s"], int]:
        """`sample_candidates` of (numbers, state, span), all numbers, and how many steps."""
        sampling = sampling or self.sampling
        request = self._request(fmri, sampling, seed, sample_ids, keep)
        size, steps = len(request.fmri), Steps.of(sampling, low_level)
        latents = checks.starting_latents(low_level, size, self.backbone.unet.config)
        numbers = np.tile(np.arange(num_candidates or self.num_candidates), (size, 1))
        return span_sampler(self.place, request, steps, latents), numbers, steps.count

    def _rank(
        self,
        encoder: BrainEncoder,
        halving: Sequence[tuple[int, int]],
        fmri: np.ndarray | Array,
        *options: Any,
    ) -> Candidates:
        """See `candidates`; `options` are those of `_sampler`."""
        check_fits(encoder, self.regions, self.provenance)
        sample, numbers, num_steps = self._sampler(fmri, *options)
        measured = np.asarray(fmri, np.float32)
        return ranked(sample, measured, encoder, self.regions, numbers, num_steps, halving)
