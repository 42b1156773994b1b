"""Brain-Diffuser: ridge to latents, to text states and to an image embedding, then diffusion.

Ozcelik and VanRullen 2023 (Scientific Reports 13:15666, arXiv 2303.05334).
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from neuroadapter_jax.adapter.image_adapter import ImageAdapter
from neuroadapter_jax.decoders.captions import caption_states
from neuroadapter_jax.decoders.contract import total_seconds
from neuroadapter_jax.decoders.linear_map import (
    LinearMap,
    fit_embedding,
    fit_latents,
    fit_states,
)
from neuroadapter_jax.decoders.linear_two_stage import LINEAR
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.stream_decoder import Conditions, StreamDecoder, text_streams
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_tree, of_values
from neuroadapter_jax.pipeline import LowLevelStart
from neuroadapter_jax.ranges import NonNegative, ShareAboveZero, check_fields

PathName = Literal["vision", "text", "low_level"]
Rescaling = Literal["train", "test"]
# As published: 50 steps of DDIM, of which 37 are taken, and guidance 7.5.
PUBLISHED = Sampling("ddim", num_steps=50, guidance_scale=7.5)


@dataclasses.dataclass(frozen=True)
class BrainDiffuserSettings:
    """How Brain-Diffuser predicts and mixes.

    Attributes:
        without: leaves one of the paths out, as in the paper's ablation: "vision", "text" or
            "low_level"; what is left of text and vision then has the weight 1.
        rescale: of every predicted number to the training targets' mean and standard deviation:
            "train" from its leave-one-out predictions over training images, so that one image can
            be decoded; "test" from its predictions over the whole test set, as published; None
            leaves predictions as they are.
        text_weight: of the text's attention output, at least 0.
        vision_weight: of the image's, at least 0.
        strength: share of the steps that are taken from the low-level image on, in (0, 1].

    Raises:
        SettingError: a setting that is none of its choices or out of range.
    """

    without: PathName | None = None
    rescale: Rescaling | None = "train"
    text_weight: NonNegative = 0.4
    vision_weight: NonNegative = 0.6
    strength: ShareAboveZero = 0.75

    def __post_init__(self) -> None:
        check_fields(self)


class Rescaled:
    """A linear map whose predictions get the spread of what it was fitted to.

    ::

        y = ((x - center)' W - shift) / s * sd(targets) + mean(targets)

    Ridge shrinks predictions towards the mean; diffusion was trained on targets as spread as they
    are. Deviations are computed before the mean is added, so that those of a large penalty, a
    millionth of the mean, are not lost.

    Args:
        map: predicts.
        center: mean of the responses that the predictions are centred at; None leaves predictions
            as the map gives them.
        shift: mean of the predictions less that of the targets.
        sd: s, of the predictions; where it is 0 the targets' mean is given.
    """

    def __init__(
        self,
        map: LinearMap,
        center: Float[np.ndarray, " f"] | None = None,
        shift: Float[np.ndarray, " k"] | None = None,
        sd: Float[np.ndarray, " k"] | None = None,
    ):
        self.map, self.center, self.shift, self.sd = map, center, shift, sd

    @classmethod
    def of_training(cls, map: LinearMap) -> "Rescaled":
        """From the leave-one-out predictions of training images.

        Args:
            map: fitted by this version.

        Raises:
            InputError: the map is a file of an earlier version, which lacks them.
        """
        statistics = _statistics(map)
        return cls(map, map.center, statistics[2], statistics[3])

    def of_test(self, fmri: Float[np.ndarray, "b n"]) -> "Rescaled":
        """From the predictions of a whole test set.

        Args:
            fmri: responses to all its images.
        """
        x = np.asarray(fmri, np.float32)[:, self.map.vertices]
        center = x.mean(axis=0)
        sd = ((x - center) @ self.map.weights).std(axis=0)
        return Rescaled(self.map, center, np.zeros_like(sd), sd)

    @property
    def fingerprint(self) -> str:
        """Of the map and the statistics."""
        parts = (self.center, self.shift, self.sd, self.map.statistics)
        known = [np.zeros(0, np.float32) if part is None else part for part in parts]
        return of_tree([self.map.weights, self.map.bias, self.map.vertices, *known])

    def __call__(self, fmri: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b ..."]:
        if self.center is None or self.shift is None or self.sd is None:
            return self.map(fmri)
        statistics = _statistics(self.map)
        x = np.asarray(fmri, np.float32)[:, self.map.vertices] - self.center
        deviation = x @ self.map.weights - self.shift
        unit = np.divide(deviation, self.sd, out=np.zeros_like(deviation), where=self.sd > 0)
        found = (unit * statistics[1] + statistics[0]).astype(np.float32)
        return found.reshape(len(found), *self.map.shape)


def _statistics(map: LinearMap) -> Float[np.ndarray, "4 k"]:
    if map.statistics is None or map.center is None:
        raise InputError(
            "A linear map was fitted by an earlier version and lacks its leave-one-out "
            "predictions; delete the folder of linear maps, and it is fitted again."
        )
    return map.statistics


class BrainDiffuser(StreamDecoder):
    """Three ridge regressions: where sampling starts, and the two streams it attends to.

    Args:
        material: what it was fitted on.
        maps: by path, "low_level", "text" and "vision"; those that are left out are not there.
        settings: how they are mixed.
        options: sampling, num_candidates and provenance, see `BrainDecoder`.
    """

    deviations: ClassVar[tuple[str, ...]] = (
        "Latents of the backbone's own autoencoder stand for the first 31 layers of VDVAE.",
        "An IP-Adapter on the same U-Net, attended to beside the text, stands for Versatile "
        "Diffusion's image branch, whose outputs are mixed with those of a text branch.",
        "Each predicted number has the penalty with the least leave-one-out error, where the "
        "source takes one by hand for each kind.",
        "Responses are z-scored per session and averaged over repeats, where the source divides "
        "betas by 300 and z-scores over training images.",
    )
    has_own_start: ClassVar[bool] = True

    def __init__(
        self,
        material: Material,
        maps: Mapping[str, Rescaled],
        settings: BrainDiffuserSettings,
        **options: Any,
    ):
        frozen: dict[str, ImageAdapter] = {}
        self._no_image: np.ndarray | None = None
        if "vision" in maps:
            frozen["image_adapter"], embedder = material.image_path
            self._no_image = embedder.of_no_image()
        super().__init__(
            material.backbone, material.regions, material.mean_response, frozen=frozen, **options
        )
        self.maps, self.settings = dict(maps), settings
        self.training_seconds = total_seconds(map.map.seconds for map in maps.values())
        self._transductive = settings.rescale == "test"
        self._empty = caption_states(material.backbone, [[""]], batch_size=1)

    @classmethod
    def fit(cls, material: Material, out: Path | None, settings: Any = None) -> "BrainDiffuser":
        """Fit the maps, or load them; their folder is shared by all decoders that use them.

        Args:
            material: with captions and an image adapter, as far as the settings need them.
            out: not used: the maps lie in the material's shared folder.
            settings: `BrainDiffuserSettings`.

        Raises:
            InputError: captions or the image adapter are missing, or the folder holds maps of
                something else.
        """
        settings = settings or BrainDiffuserSettings()
        folder, pipeline = material.shared / LINEAR, material.pipeline
        options: dict[str, Any] = {"folder": folder, "progress": material.progress}
        maps: dict[str, LinearMap] = {}
        if settings.without != "low_level":
            maps["low_level"] = fit_latents(material.prepared, pipeline, **options)
        if settings.without != "text":
            if material.captions is None:
                raise InputError("Brain-Diffuser's text path needs captions of training images.")
            maps["text"] = fit_states(material.prepared, pipeline, material.captions, **options)
        if settings.without != "vision":
            _, embedder = material.image_path
            maps["vision"] = fit_embedding(
                material.prepared, pipeline, material.embedding, embedder.fingerprint, **options
            )
        left_out = settings.rescale == "train"
        make: Callable[[LinearMap], Rescaled] = Rescaled.of_training if left_out else Rescaled
        return cls(
            material,
            {name: make(map) for name, map in maps.items()},
            settings,
            sampling=PUBLISHED,
            provenance=material.fitted_on(),
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        maps = {name: map.fingerprint for name, map in self.maps.items()}
        settings = dataclasses.asdict(self.settings)
        return of_values([self.frozen_fingerprint, maps, settings])

    @property
    def num_parameters(self) -> int:
        return sum(map.map.num_parameters for map in self.maps.values())

    def adapt(self, fmri: Float[np.ndarray, "b n"]) -> "BrainDiffuser":
        if self.settings.rescale != "test":
            return self
        made = copy.copy(self)
        made.maps = {name: map.of_test(fmri) for name, map in self.maps.items()}
        made._transductive = False
        made.__dict__.pop("fingerprint", None)
        return made

    def embed(
        self,
        fmri: Float[np.ndarray, "b n"],
        *,
        keep: Bool[np.ndarray, "b p"] | None = None,
        replace: Float[np.ndarray, "b n"] | None = None,
    ) -> Float[np.ndarray, "b k c"] | None:
        if "vision" not in self.maps:
            return None
        fmri, _ = self._without_regions(np.asarray(fmri, np.float32), keep, replace)
        return self._predict("vision", fmri)

    def conditions(self, fmri: Float[np.ndarray, "b n"]) -> Conditions:
        names = [name for name in ("text", "vision") if name in self.maps]
        return {name: self._predict(name, fmri) for name in names}

    def own_start(
        self, fmri: Float[np.ndarray, "b n"], strength: float | None
    ) -> LowLevelStart | None:
        if "low_level" not in self.maps:
            return None
        return LowLevelStart(self._predict("low_level", fmri), strength or self.settings.strength)

    def streams(
        self, modules: Mapping[str, Any], conditions: Mapping[str, Array]
    ) -> tuple[list[Stream], list[Stream]]:
        alone = len(conditions) == 1
        own, other = [], []
        if "text" in conditions:
            weight = 1.0 if alone else self.settings.text_weight
            states = conditions["text"]
            text, empty = text_streams(modules["unet"], states, jnp.asarray(self._empty), weight)
            own.append(text)
            other.append(empty)
        if "vision" in conditions and self._no_image is not None:
            weight = 1.0 if alone else self.settings.vision_weight
            adapter = modules["image_adapter"]
            own.append(adapter(conditions["vision"], weight))
            other.append(adapter(jnp.asarray(self._no_image), weight))
        return own, other

    def _predict(self, name: str, fmri: Float[np.ndarray, "b n"]) -> np.ndarray:
        if self._transductive:
            raise InputError(
                'rescale is "test", which takes statistics over the whole test set, so that no '
                'image can be decoded by itself; call adapt first, or take rescale="train".'
            )
        return self.maps[name](fmri)
