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

    Calling it reconstructs; `candidates` ranks several reconstructions with a brain encoder;
    `interpret` gives IBBI's views; `effects` drops regions and says what that changes;
    `predict_noise` is a single prediction of the U-Net. Most pipelines come from `from_pretrained`.

    NeuroAdapter (arXiv 2509.23566). Responses are of the whole cortex, left then right hemisphere,
    and the regions pick what they read of them; the released code takes responses that were cut
    into regions beforehand (`predict_noise` takes those, too).

    Args:
        adapter: the trained adapter, of one subject.
        backbone: the Stable Diffusion it was trained on.
        regions: the p regions its tokens stand for, in token order.
        backbone_name: how `save_pretrained` refers to the backbone: a folder, a shipped name such
            as "tiny-sd", or the Hub's `owner/model`.
        sampling: used unless a call gives another.
        num_candidates: images per response, at least 1, used unless a call gives another number.
        provenance: what the adapter was trained on, kept in config.json.

    Raises:
        InputError: the adapter holds the banks of several subjects, or the regions are not as many
            as it has.

    Examples:
        >>> from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset, Sampling
        >>> from neuroadapter_jax.datasets.input_pipeline import read_split
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> pipeline = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
        >>> len(pipeline.regions), pipeline.num_vertices
        (80, 20484)
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> fmri = read_split(dataset, "betas", num_images=2)["betas"]
        >>> images = pipeline(fmri, Sampling("ddim", num_steps=1))
        >>> images.shape, images.dtype  # response, candidate, rows, columns, colours
        ((2, 1, 64, 64, 3), dtype('uint8'))
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

        The brain view is each region's share of the attention; the image view is where in the image
        an ROI is attended. The attention of all cross-attention layers is reduced inside the
        sampler (conditional half of guidance only); what is kept grows with
        steps x (regions + ROIs x latent pixels).

        NeuroAdapter (arXiv 2509.23566), the definitions of IBBI.

        Args:
            fmri: responses of the whole cortex [b, n], left then right hemisphere, normalised as in
                training (z-scores unless config.json says otherwise).
            roi_weights: each ROI's weights over the model's p regions, summing to 1 or all 0;
                `ROIAssignment.weights` gives them.
            sampling: the pipeline's own when None.
            reduction: what of the attention A of head h at query q to region p counts: "attention",
                A itself; "paper", the same with layers weighted by queries; "value_norm", A times
                the norm of what the region adds to the layer; "difference", A beyond the even
                share 1 / p; "gradient", A times its gradient of the squared guidance difference.
            layer_weighting: in the brain view a layer weighs by its number of "queries", or all
                layers are "equal".
            shown: steps, 0 to num_steps - 1, whose noisy latents and predicted clean images are
                kept.
            candidate: which candidate, from 0; the images are those of a call with this seed.
            seed: of the noise, at least 0.
            sample_ids: numbers that name the samples' noise; 0 ... b - 1 when None.

        Returns:
            The images, and the views of every step; see `Interpretation`.

        Raises:
            InputError: responses of another number of vertices or that are not finite, weights of
                another number of regions, an unknown reduction, or steps out of range; or the
                tokens are learned queries, which stand for no region.
            SettingError: a seed or a candidate out of its range.
            NotFiniteError: the sampler ended in latents that are no image's.

        Examples:
            >>> import json
            >>> from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset, Sampling
            >>> from neuroadapter_jax.datasets.input_pipeline import read_split
            >>> from neuroadapter_jax.diffusion.weights import ASSETS
            >>> from neuroadapter_jax.ibbi.roi import assign_by_name
            >>> pipeline = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
            >>> shipped = ASSETS / "simulated-responses"
            >>> fmri = read_split(PreparedDataset(shipped, "test"), "betas", num_images=1)["betas"]
            >>> named = json.loads((shipped / "rois.json").read_text())  # ROI -> its regions' names
            >>> rois = assign_by_name(pipeline.regions, named)
            >>> found = pipeline.interpret(fmri, rois.weights, Sampling("ddim", num_steps=1))
            >>> found.views.brain.shape  # step, response, region
            (1, 1, 80)
            >>> found.views.image.shape  # step, response, ROI, rows and columns of the latents
            (1, 1, 10, 16, 16)
            >>> round(float(found.views.brain[0, 0].sum()), 4)
            1.0
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

        For each set of regions, with eps the U-Net's prediction::

            sum_c (eps(x_t, t, all tokens) - eps(x_t, t, all but the set's))^2
            sum_c (eps(x_t, t, no token) - eps(x_t, t, the set's))^2              with alone

        The direct test of what attention only suggests, for one step: one pass of the U-Net per
        set, without guidance. The paper and the released code have no such test.

        Args:
            fmri: responses of the whole cortex [b, n], left then right hemisphere, normalised as in
                training.
            noisy: x_t [b, y, x, c], scaled noisy latents with channels last, such as
                `Interpretation.noisy` of a step.
            timestep: the timestep t of `noisy`, 0 to T - 1.
            region_sets: True for the regions of each set, [r, p].
            alone: what a set does by itself, in place of what is lacking without it.

        Returns:
            The squared change at every latent pixel, at least 0, [b, r, y, x].

        Raises:
            InputError: responses of another number of vertices or that are not finite, sets of
                another number of regions, or a timestep that the schedule does not have.
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
            fmri: responses of the whole cortex [b, n], left then right hemisphere, normalised as in
                training; or already packed [b, p, v], zero in empty slots.
            latents: scaled, noisy latents with channels first, as in diffusers.
            timesteps: from 0 to T - 1, one per sample or one for all.
            return_attention: also return the attention to the regions.

        Returns:
            The prediction [b, c, y, x]; if asked for, also {diffusers' layer name: softmax over
            regions of q k' / sqrt(d), [b, h, q, p]} of every cross-attention layer, in order of
            execution. The queries are the rows of the layer's feature map, one after the other.

        Raises:
            InputError: responses of another number of vertices or that are not finite, latents
                that do not fit them or the U-Net, or timesteps that the schedule does not have.
            NotFiniteError: the prediction is not finite.

        Examples:
            The attention of every cross-attention layer to the regions, at one noise level:

            >>> import numpy as np
            >>> from neuroadapter_jax import NeuroAdapterPipeline
            >>> pipeline = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
            >>> fmri = np.zeros((1, pipeline.num_vertices), np.float32)
            >>> noise = np.random.default_rng(0).normal(size=(1, 4, 16, 16)).astype(np.float32)
            >>> out, attention = pipeline.predict_noise(fmri, noise, 500, return_attention=True)
            >>> out.shape, len(attention)
            ((1, 4, 16, 16), 7)
            >>> next(iter(attention.values())).shape  # sample, head, query, region
            (1, 4, 256, 80)
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
