"""From responses to images: what a pipeline is made of, and what it reconstructs."""

import functools
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import make_packing
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.identity import backbone_identity
from neuroadapter_jax.diffusion.lora import Lora
from neuroadapter_jax.diffusion.lora_files import backbone_with_lora, read_lora
from neuroadapter_jax.diffusion.precision import (
    PRECISIONS,
    Precision,
    chosen_precision,
    precision_of,
)
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.unet import with_sample_size
from neuroadapter_jax.diffusion.weights import Backbone, is_random
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder, check_fits
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_tree
from neuroadapter_jax.hub.cards import CardDetails
from neuroadapter_jax.hub.kinds import ADAPTER
from neuroadapter_jax.hub.publishing import publish
from neuroadapter_jax.pipeline import checks, reconstruct, saving
from neuroadapter_jax.pipeline.networks import Networks, Placement, Request, as_sample_ids
from neuroadapter_jax.pipeline.rank import Candidates, ranked
from neuroadapter_jax.pipeline.reconstruct import LowLevelStart, SampleSpan, Steps, span_sampler
from neuroadapter_jax.ranges import Count, Seed, check

# Not typing.Self, which the checks under pytest refuse outside a class that they decorate whole.
_Pipeline = TypeVar("_Pipeline", bound="ReconstructionPipeline")


class ReconstructionPipeline:
    """Images from cortical responses; `NeuroAdapterPipeline` adds what explains them.

    The class checks what it is given, fills in what is not, and calls the pure functions of this
    package, which take the networks as one pytree.

    Args:
        adapter: the trained adapter.
        backbone: the Stable Diffusion it was trained on.
        regions: the p regions its tokens stand for, in token order.
        backbone_name: how `save_pretrained` refers to the backbone: a folder, a shipped name such
            as "tiny-sd", or the Hub's `owner/model`.
        sampling: used unless a call gives another.
        num_candidates: images per response, used unless a call gives another number.
        provenance: what the adapter was trained on, kept in config.json.

    Raises:
        InputError: the adapter holds the banks of several subjects, or the regions are not as many
            as it has.
    """

    def __init__(
        self,
        adapter: NeuroAdapter,
        backbone: Backbone,
        regions: Parcellation,
        *,
        backbone_name: str,
        sampling: Sampling = Sampling(),
        num_candidates: int = 1,
        provenance: dict[str, Any] | None = None,
    ):
        self.adapter, self.backbone, self.regions = adapter, backbone, regions
        self.backbone_name = str(backbone_name)
        self.sampling, self.num_candidates = sampling, num_candidates
        check("num_candidates", num_candidates, Count)
        self.provenance = provenance or {}
        if adapter.config.num_subjects != 1:
            raise InputError(
                f"The adapter holds the projection banks of {adapter.config.num_subjects} "
                "subjects; take one out with adapter.of_subject(index)."
            )
        self.packing = make_packing(regions, adapter.config.max_vertices)
        if len(regions) != adapter.config.num_regions:
            raise InputError(
                f"The adapter has {adapter.config.num_regions} regions but {len(regions)} were "
                "given; use the regions it was trained with."
            )
        self.networks = Networks.of(adapter, backbone, self.packing)
        self.place = Placement(self.networks)

    @property
    def num_vertices(self) -> int:
        """n, vertices of both hemispheres that `fmri` must have."""
        return sum(self.regions.num_vertices)

    @property
    def backbone_source(self) -> str | Path:
        """Where the backbone was loaded from: its folder, or the name of a random one."""
        return self.backbone_name if is_random(self.backbone_name) else self.backbone.folder

    @functools.cached_property
    def fingerprint(self) -> dict[str, str]:
        """Of all that the images are computed with but the responses and the settings.

        One per network, of every byte of its weights in memory: 0.6 s for Stable Diffusion 1.5.
        """
        text_encoder = nnx.state(self.backbone.text_encoder, nnx.Param)
        return self.networks.fingerprint() | {"text_encoder": of_tree(text_encoder)}

    @classmethod
    def from_pretrained(
        cls: type[_Pipeline],
        folder: str | Path,
        backbone: str | Path | None = None,
        *,
        revision: str | None = None,
        allow_other: Collection[str] = (),
    ) -> _Pipeline:
        """Load a folder of `save_pretrained`, a model shipped in the package, or one of the Hub.

        Args:
            folder: the folder, a shipped name such as "neuroadapter-simulated", or a model of the
                Hub, "owner/model" or "owner/model@revision".
            backbone: another place of the backbone than config.json names.
            revision: the Hub's branch, tag or commit.
            allow_other: with "backbone" the backbone may hold other weights than in training.

        Raises:
            MissingFileError: a file of the folder, or the backbone, is not there, or the Hub does
                not give it.
            InputError: the weights do not fit config.json, all differences are named; or the
                backbone is another than the one the adapter was trained with; or a revision of
                what is none of the Hub.
        """
        saved = saving.load(folder, backbone, allow_other, revision)
        return cls(
            saved.adapter,
            saved.backbone,
            saved.regions,
            backbone_name=saved.backbone_name,
            sampling=saved.sampling,
            num_candidates=saved.num_candidates,
            provenance=saved.provenance,
        )

    @property
    def precision(self) -> Precision:
        """In what the U-Net computes."""
        return precision_of(self.networks.unet)

    def with_precision(self: _Pipeline, precision: str) -> _Pipeline:
        """The same pipeline with a U-Net that computes in another precision.

        With "bf16" a GPU's tensor cores and cuDNN's attention are used, and images and views differ
        from those of "fp32" by what docs/scaling.md shows. The adapter and the autoencoder compute
        in float32 always, as do norms and softmax.

        Args:
            precision: "fp32", "bf16", or "auto" for what suits the device, see
                `diffusion.precision.default_precision`; what was rounded to bf16 stays so in fp32.

        Raises:
            SettingError: another one.
        """
        chosen = chosen_precision(precision)
        if chosen == self.precision:
            return self
        unet = self.backbone.unet
        unet = with_sample_size(unet, unet.config.sample_size, PRECISIONS[chosen])
        return self._with(backbone=self.backbone._replace(unet=unet))

    def with_lora(
        self: _Pipeline,
        lora: Lora | str | Path,
        sampling: Sampling | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> _Pipeline:
        """The same pipeline with a LoRA added to its U-Net, such as a published LCM-LoRA.

        W' = W + (alpha / r) down up of every layer that it changes (Hu et al. 2021, arXiv
        2106.09685). `save_pretrained` writes it beside the adapter.

        Args:
            lora: a file, see `read_lora`, or what that returns.
            sampling: used unless a call gives another; the pipeline's own when None.
            provenance: kept in config.json; the pipeline's own when None.

        Raises:
            MissingFileError: there is no such file.
            InputError: the U-Net has a LoRA already, or the file holds none that fits it.
        """
        if not isinstance(lora, Lora):
            lora = read_lora(lora, self.backbone.unet)
        backbone = backbone_with_lora(self.backbone, lora)
        return self._with(backbone=backbone, sampling=sampling, provenance=provenance)

    def _with(
        self: _Pipeline,
        *,
        backbone: Backbone,
        sampling: Sampling | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> _Pipeline:
        return type(self)(
            self.adapter,
            backbone,
            self.regions,
            backbone_name=self.backbone_name,
            sampling=sampling or self.sampling,
            num_candidates=self.num_candidates,
            provenance=self.provenance if provenance is None else provenance,
        )

    def save_pretrained(self, folder: str | Path, dtype: Any = np.float32) -> None:
        """Write config.json, adapter.safetensors and regions.npz; the backbone is named only.

        A LoRA that was added to the U-Net is written beside them as lora.safetensors.

        Args:
            folder: to write.
            dtype: of the written weights, float32 or float16.

        Raises:
            ExistingFileError: the folder holds files of another model or of someone else.
        """
        saving.save(
            folder,
            self.adapter,
            self.regions,
            dtype,
            self.backbone.lora,
            backbone=self.backbone_name,
            **backbone_identity(self.backbone_source),
            sample_size=self.backbone.unet.config.sample_size,
            sampling=self.sampling.to_dict(),
            num_candidates=self.num_candidates,
            provenance=self.provenance,
        )

    def push_to_hub(
        self,
        repo: str,
        card: CardDetails,
        *,
        views: str | Path | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        dtype: Any = np.float32,
    ) -> str:
        """Publish the adapter on the Hugging Face Hub, with a model card.

        `from_pretrained(repo)` loads it again. The backbone is named, not sent.

        Args:
            repo: "owner/model"; made if it is not there.
            card: the licence, and what else the model cannot say about itself.
            views: folder of `neuroadapter interpret`; its page and pictures go beside the model.
            private: whether a new repository is private; the owner's default when None.
            token: of the Hub; that of `hf auth login` or of HF_TOKEN when None.
            commit_message: of the upload.
            revision: the branch; main when None.
            dtype: of the written weights.

        Returns:
            The address of the repository.

        Raises:
            MissingFileError: the folder of views holds no page.
            InputError: a backbone that nobody else has; or nobody is logged in, the user may not
                write there, or the Hub cannot be reached.
        """
        with tempfile.TemporaryDirectory(prefix="neuroadapter-") as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder, dtype)
            return publish(
                folder, repo, ADAPTER, card, views=views, private=private, token=token,
                commit_message=commit_message, revision=revision,
            )  # fmt: skip

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
            fmri: responses of the whole cortex [b, n], left then right hemisphere, normalised as in
                training (config.json says how).
            sampling: the pipeline's own when None; `pipe.sampling.replace(num_steps=20)` changes
                single settings.
            num_candidates: s, images per response, at least 1; the pipeline's own when None.
            seed: of the noise, at least 0.
            sample_ids: numbers that name the samples' noise; 0 ... b - 1 when None.
            keep: False silences a sample's token, as training does with those it drops; all stay
                when None. `ibbi.perturbation.silence` makes one.
            low_level: where sampling begins instead of the start that the settings name.
            encoder: only the candidate that it ranks first is returned, s = 1; `candidates` returns
                all of them, with their scores.
            halving: with an encoder, (steps taken, candidates kept) in order: candidates that
                predict the response badly are dropped on the way. () samples all to the end.

        Returns:
            Images, 0..255, [b, s, y, x, 3].

        Raises:
            InputError: another number of vertices, responses that are not finite, starting
                latents of another shape, strength out of range, or an encoder of another subject,
                surface or parcellation.
            SettingError: a seed or a number of candidates out of its range.
            NotFiniteError: the sampler ended in latents that are no image's.
        """
        if encoder is None and halving:
            raise InputError("halving needs an encoder, which decides what is kept.")
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
        """All candidates of a call, and how well each one's predicted response fits.

        score = Pearson's r of the response that the encoder predicts for the candidate with the
        measured one, over the vertices of the model's regions that the encoder predicts better than
        chance; see `BrainEncoder.rank`.

        Args:
            fmri: responses of the whole cortex [b, n], left then right hemisphere, normalised as in
                training.
            encoder: of the same subject, surface and parcellation.
            sampling: the pipeline's own when None.
            num_candidates: s, images per response, at least 1; the pipeline's own when None.
            seed: of the noise, at least 0.
            sample_ids: numbers that name the samples' noise; 0 ... b - 1 when None.
            keep: False silences a sample's token; all stay when None.
            low_level: where sampling begins instead of the start that the settings name.
            halving: (steps taken, candidates kept) in order, steps rising and counts falling, such
                as ((10, 4), (20, 2)): after so many steps only the best so many go on, judged by
                the clean images that the prediction implies. () samples all candidates to the end.
                Steps that the low-level start leaves out do not count.

        Returns:
            Images, scores and the choice; see `Candidates`.

        Raises:
            InputError: another number of vertices, responses that are not finite, starting latents
                of another shape, strength out of range, an encoder of another subject, surface or
                parcellation, or steps or counts of `halving` that are out of order.
            SettingError: a seed or a number of candidates out of its range.
            NotFiniteError: the sampler ended in latents that are no image's.
        """
        options = (fmri, sampling, num_candidates, seed, sample_ids, keep, low_level)
        return self._rank(encoder, halving, *options)

    def decode(
        self, latents: Float[np.ndarray | Array, "b y x c"]
    ) -> UInt8[np.ndarray, "b _y _x _c"]:
        """The images of scaled latents, noisy ones too.

        Args:
            latents: scaled (multiplied by the VAE's scaling factor), channels last.

        Returns:
            Images, 0..255.

        Raises:
            NotFiniteError: the latents hold NaN or infinite numbers.
        """
        checks.usable_latents(latents)
        _, networks = self.place(1)
        return np.asarray(reconstruct.decode(networks, jnp.asarray(latents)))

    def encode(
        self, images: UInt8[np.ndarray | Array, "b y x c"]
    ) -> Float[np.ndarray, "b _y _x _c"]:
        """The scaled latents of images: the mean of the VAE's posterior.

        Args:
            images: 0..255, of a size that the VAE can halve as often as it does.

        Returns:
            Latents multiplied by the VAE's scaling factor, channels last.

        Raises:
            InputError: images that are not uint8.
        """
        if images.dtype != np.uint8:
            raise InputError(f"images are {images.dtype}; expected uint8, 0 to 255.")
        _, networks = self.place(1)
        return np.asarray(reconstruct.encode(networks, jnp.asarray(images)))

    def _request(
        self,
        fmri: np.ndarray | Array,
        sampling: Sampling,
        seed: int,
        sample_ids: Int[np.ndarray, " b"] | None,
        keep: Bool[np.ndarray, "b k"] | None = None,
    ) -> Request:
        """The checked responses of one call, and what decides their noise."""
        check("seed", seed, Seed)
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
        check("num_candidates", num_candidates, Count | None)
        size, steps = len(request.fmri), Steps.of(sampling, low_level)
        latents = checks.starting_latents(low_level, size, self.backbone.unet.config)
        numbers = np.tile(np.arange(num_candidates or self.num_candidates), (size, 1))
        sample = span_sampler(self.place, request, steps, latents)

        def checked(*call: Any) -> tuple[Any, Any]:
            images, state = sample(*call)
            checks.usable_latents(state.latents)
            return images, state

        return checked, numbers, steps.count

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
