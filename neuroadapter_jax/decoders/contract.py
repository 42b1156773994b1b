"""The contract of a decoder: fitted on the same material as all, asked by regions as all."""

import abc
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ibbi.perturbation import replace_responses
from neuroadapter_jax.pipeline import LowLevelStart, checks
from neuroadapter_jax.pipeline.networks import as_sample_ids
from neuroadapter_jax.ranges import Count, Seed, check, check_fields


@dataclass(frozen=True)
class NoiseKeys:
    """The noise that each image starts from: candidate j of sample i has the key (seed, id_i, j).

    Two decoders that are given the same keys start from the same noise.

    Attributes:
        sample_ids: one number per response, at least 0.
        seed: at least 0.
        num_candidates: s, images per response, at least 1.

    Raises:
        SettingError: a seed or a number of candidates out of its range.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.decoders.contract import NoiseKeys
        >>> keys = NoiseKeys(np.array([4, 7]), seed=1, num_candidates=3)
        >>> keys.arrays().shape  # the candidates of a response stand side by side
        (6,)
    """

    sample_ids: Int[np.ndarray, " b"]
    seed: Seed = 0
    num_candidates: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)

    def arrays(self) -> Array:
        """[b s] random keys: fold_in(fold_in(key(seed), id), number of the candidate)."""
        key, count = jax.random.key(self.seed), self.num_candidates
        ids = jnp.repeat(as_sample_ids(self.sample_ids, len(self.sample_ids)), count)
        numbers = jnp.tile(jnp.arange(count, dtype=jnp.int32), len(self.sample_ids))
        fold = jax.random.fold_in
        return jax.vmap(lambda i, j: fold(fold(key, i), j))(ids, numbers)


class BrainDecoder(abc.ABC):
    """What turns responses into images, and can be asked which regions it used.

    Whatever explains or scores one decoder does so for all: every decoder is fitted on a
    `Material`, reconstructs with `keep` over regions, and gives the embedding that it predicts, if
    it predicts one. It is also a `pipeline.Decoder`, so `reconstruct_split` fills a folder with it.

    Args:
        regions: the p regions whose vertices are read.
        mean_response: the training images' mean response of the whole cortex, which stands in for
            regions that are not kept.
        sampling: used unless a call gives other settings.
        num_candidates: images per response unless keys say another number.
        provenance: what it was fitted on, as JSON values.

    Attributes:
        deviations: in what it is not faithful to its source, a sentence each.
        uses_start: whether `reconstruct` can begin from latents that are given.
        has_own_start: whether it has a low-level path of its own, of which `strength` holds.
        training_seconds: what fitting took; None where nobody noted it, as of a model that was
            trained before.
    """

    deviations: ClassVar[tuple[str, ...]] = ()
    uses_start: ClassVar[bool] = True
    has_own_start: ClassVar[bool] = False

    def __init__(
        self,
        regions: Parcellation,
        mean_response: Float[np.ndarray, " n"],
        *,
        sampling: Sampling | None = None,
        num_candidates: int = 1,
        provenance: dict[str, Any] | None = None,
    ):
        self.regions, self.mean_response = regions, np.asarray(mean_response, np.float32)
        self.sampling = sampling or Sampling()
        self.num_candidates = num_candidates
        self.provenance = provenance or {}
        self.training_seconds: float | None = None

    @classmethod
    @abc.abstractmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "BrainDecoder":
        """Fit on training images, or load what an earlier call has fitted; a killed call goes on.

        Args:
            material: what is fitted on.
            out: folder of all that is fitted; whoever fits again in it gets the same decoder.
            settings: the decoder's own, a frozen dataclass; its defaults when None.

        Raises:
            InputError: `out` holds what was fitted on something else, or the material lacks what
                the decoder needs.
        """

    @property
    @abc.abstractmethod
    def fingerprint(self) -> Any:
        """Of all that the images are computed with but responses, keys and settings."""

    @property
    @abc.abstractmethod
    def num_parameters(self) -> int:
        """How many numbers were fitted to the responses; what is frozen does not count."""

    @abc.abstractmethod
    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images of checked responses, whose dropped regions are replaced already.

        `keep` is not None only where `drops_tokens` is true and nothing replaces what is dropped.
        """

    def embed(
        self,
        fmri: Float[np.ndarray, "b n"],
        *,
        keep: Bool[np.ndarray, "b p"] | None = None,
        replace: Float[np.ndarray, "b n"] | None = None,
    ) -> Float[np.ndarray, "b k c"] | None:
        """The image embedding that the decoder predicts, for retrieval and similarity.

        Args:
            fmri: responses of the whole cortex, left then right hemisphere.
            keep: which regions count; all when None.
            replace: responses that stand in for regions that are not kept.

        Returns:
            k tokens of c channels for each response; None for a decoder that predicts none.
        """
        return None

    def adapt(self, fmri: Float[np.ndarray, "b n"]) -> "BrainDecoder":
        """The decoder for a test set, of whose responses as a whole it takes statistics.

        Only what was published so differs from itself afterwards; such a decoder cannot decode a
        single image, and says so in its deviations.

        Args:
            fmri: responses to all images of the test set.
        """
        return self

    @property
    def drops_tokens(self) -> bool:
        """Whether a region that is not kept is a token that is dropped, if nothing replaces it."""
        return False

    def reconstruct(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        *,
        keep: Bool[np.ndarray, "b p"] | None = None,
        replace: Float[np.ndarray, "b n"] | None = None,
        start: Float[np.ndarray, "b _y _x _c"] | None = None,
        strength: float | None = None,
        sampling: Sampling | None = None,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images of responses, of which some regions may be left out.

        A region that is not kept is dropped as a token where regions are tokens; elsewhere its
        vertices get their training mean. With `replace` its vertices get another response's values,
        in every decoder: zero or the mean is a response that no trial has.

        Args:
            fmri: responses of the whole cortex, left then right hemisphere, as prepared.
            keys: which noise each image starts from.
            keep: which of the p regions count, for each response; all when None.
            replace: responses of other trials, for the regions that are not kept.
            start: scaled latents to begin from; None for the decoder's own start.
            strength: share of the steps that are taken from `start` on, above 0, at most 1; where
                `start` is None, of the decoder's own low-level start, if it has one.
            sampling: settings of the sampler; the decoder's own when None.

        Returns:
            Images 0 to 255, keys.num_candidates of each response.

        Raises:
            InputError: another number of vertices, responses or latents that are not finite, keys
                for another number of responses, `keep` or `replace` of another shape, a strength
                without a start, or a start for a decoder that does not denoise.
            NotFiniteError: the sampler ended in latents that are no image's.
        """
        fmri = np.asarray(checks.whole_cortex(fmri, sum(self.regions.num_vertices)))
        as_sample_ids(keys.sample_ids, len(fmri))
        keep = None if keep is None else _checked_keep(keep, len(fmri), len(self.regions))
        if replace is not None and keep is None:
            raise InputError("replace needs keep, which says what regions are replaced.")
        fmri, tokens = self._without_regions(fmri, keep, replace)
        self._require_start(start, strength)
        return self._images(fmri, keys, tokens, start, strength, sampling or self.sampling)

    def __call__(
        self,
        fmri: Float[np.ndarray, "b n"],
        sampling: Sampling | None = None,
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        low_level: LowLevelStart | None = None,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """`reconstruct` as functions that work through a split call it, see `pipeline.Decoder`."""
        check("seed", seed, Seed)
        check("num_candidates", num_candidates, Count | None)
        ids = np.asarray(as_sample_ids(sample_ids, len(fmri)))
        keys = NoiseKeys(ids, seed, num_candidates or self.num_candidates)
        start, strength = (None, None) if low_level is None else low_level
        if start is not None:
            start = np.asarray(start)
        return self.reconstruct(fmri, keys, start=start, strength=strength, sampling=sampling)

    def _without_regions(
        self,
        fmri: Float[np.ndarray, "b n"],
        keep: Bool[np.ndarray, "b p"] | None,
        replace: Float[np.ndarray, "b n"] | None,
    ) -> tuple[Float[np.ndarray, "b n"], Bool[np.ndarray, "b p"] | None]:
        """Responses less the regions that are not kept, and the tokens to keep, if any go."""
        if keep is None:
            return fmri, None
        if replace is None and self.drops_tokens:
            return fmri, keep
        by = self.mean_response if replace is None else replace
        return replace_regions(fmri, self.regions, keep, by), None

    def _require_start(self, start: np.ndarray | None, strength: float | None) -> None:
        name = type(self).__name__
        if start is not None and not self.uses_start:
            raise InputError(
                f"{name} does not denoise, so nothing begins from latents; leave start out."
            )
        if start is not None and strength is None:
            raise InputError("start needs strength, the share of the steps taken from there on.")
        if start is None and strength is not None and not self.has_own_start:
            raise InputError(
                f"strength is {strength} without a start, and {name} has none of its own; give "
                "start, or leave strength out."
            )


def total_seconds(parts: Iterable[float | None]) -> float | None:
    """The sum of seconds; None where one is not known.

    Args:
        parts: of what was fitted.
    """
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)


def replace_regions(
    fmri: Float[np.ndarray, "b n"],
    regions: Parcellation,
    keep: Bool[np.ndarray, "b p"],
    by: Float[np.ndarray, "b n"] | Float[np.ndarray, " n"],
) -> Float[np.ndarray, "b n"]:
    """Responses whose vertices in regions that are not kept hold other numbers.

    Args:
        fmri: responses of the whole cortex.
        regions: the p regions.
        keep: which of them stay, for each response.
        by: what takes the place of the others: one response for each, or one for all.

    Raises:
        InputError: `by` is of another shape, or not finite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.decoders.contract import replace_regions
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3))
        >>> keep = np.array([[False, True]])
        >>> replace_regions(np.ones((1, 6), np.float32), regions, keep, np.zeros(6)).tolist()
        [[0.0, 1.0, 0.0, 1.0, 1.0, 1.0]]
    """
    by = np.asarray(by, np.float32)
    if by.shape not in ((fmri.shape[1],), fmri.shape) or not np.isfinite(by).all():
        raise InputError(
            f"replace is of shape {by.shape}; expected {fmri.shape}, a finite response of the "
            "whole cortex for each response."
        )
    return replace_responses(fmri, regions, ~keep, by)


def _checked_keep(keep: np.ndarray, size: int, num_regions: int) -> Bool[np.ndarray, "b p"]:
    keep = np.asarray(keep)
    if keep.shape != (size, num_regions) or keep.dtype != bool:
        raise InputError(
            f"keep is {keep.dtype} of shape {keep.shape}; expected bool of shape "
            f"{(size, num_regions)}, one row per response and one column per region."
        )
    return keep
