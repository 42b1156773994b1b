"""`NeuroAdapterPipeline`: reconstructions, and which region drove which part of them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.ibbi.views import (
    DEFAULT_REDUCTION,
    LayerWeighting,
    Reduction,
    validate_reduction,
)
from neuroadapter_jax.pipeline import checks, effects
from neuroadapter_jax.pipeline.interpret import (
    Interpretation,
    concatenate_samples,
    sample_with_views,
)
from neuroadapter_jax.pipeline.reconstruct import Steps
from neuroadapter_jax.pipeline.reconstruction_pipeline import ReconstructionPipeline
from neuroadapter_jax.ranges import CountFromZero, SettingError, check


class NeuroAdapterPipeline(ReconstructionPipeline):
    """A trained NeuroAdapter: images from cortical responses, and what explains them.

    Its arguments are those of `ReconstructionPipeline`. It adds IBBI's views (`interpret`), the
    effect of dropping regions (`effects`) and single predictions of the U-Net (`predict_noise`).
    """

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
            InputError: see `__call__`; weights of another number of regions, an unknown reduction,
                or steps out of range; or the tokens are learned queries, which stand for no region.
        """
        sampling = sampling or self.sampling
        check("candidate", candidate, CountFromZero)
        request = self._request(fmri, sampling, seed, sample_ids)
        weights = checks.viewable(roi_weights, shown, sampling.num_steps, self.adapter.config)
        reduction, layer_weighting = validate_reduction(reduction, layer_weighting)
        groups = [rows for rows, _ in self.place.groups(len(fmri))]

        def sample_group(rows: slice) -> tuple:
            own = request if len(groups) == 1 else request.rows(rows)
            mesh, networks = self.place(len(own.fmri))
            return sample_with_views(
                networks,
                own,
                weights,
                jnp.int32(candidate),
                sampling=Steps.of(sampling).sampling,
                reduction=reduction,
                layer_weighting=layer_weighting,
                shown=tuple(shown),
                mesh=mesh,
            )

        images, views, noisy, clean, latents = concatenate_samples(map(sample_group, groups))
        checks.usable_latents(latents)
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
            InputError: see `__call__`, or sets of another number of regions, or a timestep that
                the schedule does not have.
            NotFiniteError: the result is not finite.
        """
        self._require_timesteps(timestep)
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
        return checks.finite_result(np.asarray(found), "the effect")

    def _require_timesteps(self, timesteps: object) -> None:
        """Refuse timesteps that the noise schedule does not have."""
        found, total = np.asarray(timesteps), self.backbone.schedule.num_train_timesteps
        if found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= total:
            raise SettingError("timesteps", found, f"whole numbers from 0 to {total - 1}")

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
            InputError: responses that `__call__` refuses, or latents that do not fit them or the
                U-Net, or timesteps that the schedule does not have.
            NotFiniteError: the prediction is not finite.
        """
        self._require_timesteps(timesteps)
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
        checks.finite_result(np.asarray(out), "the predicted noise")
        if attention is None:
            return out
        names = [name for name, _ in self.backbone.unet.cross_attentions()]
        return out, dict(zip(names, attention, strict=True))
