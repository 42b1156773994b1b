"""`BrainEncoder`: the predicted response of the whole cortex to an image."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.cortex.packing import pack, unpack_slots
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.identity import FINGERPRINT, require_same_backbone
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    from_tensors,
    load_safetensors,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.encoder.features import (
    PATCH_TOKENS,
    Features,
    prepare_images,
    read_features,
)
from neuroadapter_jax.encoder.matching import check_fits, matching_regions, vertices_inside
from neuroadapter_jax.encoder.region_encoder import (
    RegionEncoder,
    RegionEncoderConfig,
    Rows,
    make_rows,
)
from neuroadapter_jax.encoder.scoring import candidate_scores, packed_prediction
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.encoder.weights import dinov2_identity, load_dinov2
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import json_values, refuse_foreign, whole_folder, write_json, write_npz
from neuroadapter_jax.fingerprints import of_tree, of_values
from neuroadapter_jax.ranges import Count, check
from neuroadapter_jax.readers import as_type, read_json, read_npz

__all__ = [
    "PATCH_TOKENS",
    "BrainEncoder",
    "Features",
    "check_fits",
    "ensemble_weights",
    "matching_regions",
    "prepare_images",
    "read_features",
    "save_brain_encoder",
]

_CONFIG, _WEIGHTS, _REGIONS = "config.json", "encoder_{}.safetensors", "regions.npz"
_VALIDATION = "validation.npz"


class _Settings(TypedDict):
    regions_fingerprint: str
    features: dict[str, Any]
    encoder: dict[str, Any]
    blocks: list[int]
    sharpness: float
    provenance: dict[str, Any]


def ensemble_weights(
    correlations: Float[np.ndarray, "m n"], sharpness: float = 20.0
) -> Float[np.ndarray, "m n"]:
    """Each encoder's share per vertex: softmax over encoders of sharpness x validation correlation.

    A correlation that is NaN (a constant response or prediction) counts as 0.
    """
    logits = sharpness * np.nan_to_num(correlations)
    weights = np.exp(logits - logits.max(axis=0))
    return (weights / weights.sum(axis=0)).astype(np.float32)


class BrainEncoder:
    """Predicts the response of every vertex to an image, by one or several `RegionEncoder`.

    Args:
        backbone: the frozen vision transformer.
        features: what it is given.
        members: the encoders.
        blocks: which features each reads; see `read_features`.
        regions: the parcellation they were trained with.
        correlations: of each on validation images, per vertex [m, n].
        sharpness: see `ensemble_weights`.
        provenance: what they were trained on, stored in config.json.
        allow_other: what may differ in the data of the models and records that it is used with;
            see `datasets.belonging.made_for`.
    """

    allow_other: Collection[str] = ()

    def __init__(
        self,
        backbone: Dinov2Model,
        features: Features,
        members: Sequence[RegionEncoder],
        blocks: Sequence[int],
        regions: Parcellation,
        correlations: Float[np.ndarray, "m n"],
        *,
        sharpness: float = 20.0,
        provenance: dict[str, Any] | None = None,
        allow_other: Collection[str] = (),
    ):
        self.allow_other = tuple(allow_other)
        self.features, self.regions = features, regions
        self.blocks, self.sharpness = tuple(blocks), sharpness
        self.correlations = np.asarray(correlations, np.float32)
        self.provenance = provenance or {}
        self.config = members[0].config
        self.rows: Rows = make_rows(regions, self.config.row_length)
        side = features.padded_size // backbone.config.patch_size
        self.grid = (side, side)
        self._backbone, self._members = backbone, tuple(members)
        self._shares = jnp.asarray(ensemble_weights(self.correlations, sharpness))
        self._scorers: dict[str, tuple[Callable, tuple]] = {}
        packed, params = self._packed_prediction(self._members, self.rows)

        def predict(params, images):
            return unpack_slots(packed(params, images), self.rows.packing, self.num_vertices, 0.0)

        self._predict = functools.partial(jax.jit(predict), params)

    def _packed_prediction(
        self, members: Sequence[RegionEncoder], rows: Rows
    ) -> tuple[Callable, tuple]:
        """(params, images) -> the weighted predictions [b, rows, slots], and the params."""
        modules = (self._backbone, *members)
        graphs = [nnx.graphdef(module) for module in modules]
        states = [nnx.state(module, nnx.Param) for module in modules]

        predict = packed_prediction(graphs, self.features, self.blocks, self.grid, rows)
        return predict, (states, pack(self._shares, rows.packing))

    def _scorer(self, regions: Parcellation) -> tuple[Callable, tuple]:
        """What scores candidates by some regions alone, compiled once; and its arrays."""
        found = self._scorers.get(key := regions.fingerprint())
        if found is not None:
            return found
        chosen = matching_regions(self.regions, regions)
        parts = [member.part(self.rows, chosen) for member in self._members]
        rows = parts[0][1]
        packed, params = self._packed_prediction([part for part, _ in parts], rows)
        mask = rows.packing.mask & jnp.asarray(self.reliable())[rows.packing.index]

        scores = candidate_scores(packed, rows)
        scorer = jax.jit(scores, static_argnums=4), (params, mask)
        self._scorers[key] = scorer
        return scorer

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of all that predictions depend on: every byte of the weights, and the regions."""
        states = [nnx.state(module, nnx.Param) for module in (self._backbone, *self._members)]
        sizes = (self.features.image_size, self.features.padded_size)
        known = [self.blocks, self.sharpness, sizes, self.regions.fingerprint()]
        return of_values([of_tree([*states, self.correlations]), *known])

    @property
    def num_vertices(self) -> int:
        """n, vertices of both hemispheres."""
        return sum(self.regions.num_vertices)

    def predict(
        self, images: UInt8[np.ndarray, "b y x c"], batch_size: int = 32
    ) -> Float[np.ndarray, "b n"]:
        """Responses of the whole cortex, in the unit of training; 0 at vertices in no region.

        Args:
            images: 0..255, any size.
            batch_size: images per device call; the last call is filled up to it.

        Raises:
            InputError: no image, or another batch size than one of at least 1.
        """
        check("batch_size", batch_size, Count)
        if not len(images):
            raise InputError("images holds none; expected at least one image.")
        found = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])
            found.append(np.asarray(self._predict(filled))[: len(batch)])
        return np.concatenate(found)

    def rank(
        self,
        images: UInt8[np.ndarray | Array, "b s y x c"],
        fmri: Float[np.ndarray | Array, "b n"],
        regions: Parcellation,
        *,
        chunk: int = 32,
    ) -> Float[np.ndarray, "b s"]:
        """Correlation of the response predicted for each candidate with the measured one.

        Over the vertices of `regions` whose validation correlation is above 0, so that vertices
        that the encoder cannot predict do not decide; see `masked_correlation` for NaN and
        constants. One jitted call, which predicts these regions alone; memory is that of `chunk`
        images.

        Args:
            images: candidates, 0..255.
            fmri: measured responses of the whole cortex, normalised as in training.
            regions: those that count, such as the adapter's.
            chunk: images predicted at once.

        Raises:
            InputError: another mesh, or regions that the encoder was not trained with.
        """
        score, arrays = self._scorer(regions)
        return np.asarray(score(*arrays, images, fmri, chunk))

    def reliable(self) -> Bool[np.ndarray, " n"]:
        """Vertices that the ensemble predicts better than chance on validation images."""
        shares = np.asarray(self._shares)
        return (shares * np.nan_to_num(self.correlations)).sum(axis=0) > 0

    def ranked_vertices(self, regions: Parcellation) -> Bool[np.ndarray, " n"]:
        """The vertices that `rank` compares: those of some regions predicted better than chance."""
        matching_regions(self.regions, regions)
        return self.reliable() & vertices_inside(regions)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        backbone: str | Path | None = None,
        *,
        allow_other: Collection[str] = (),
    ) -> "BrainEncoder":
        """Load a folder written by `save_pretrained`, or one shipped in the package by name.

        Args:
            folder: the folder, or a shipped name.
            backbone: another place of the vision transformer than config.json names.
            allow_other: see the class; with "backbone" the vision transformer may hold other
                weights than in training, too.

        Raises:
            MissingFileError: a file of the folder, or the backbone, is not there.
            InputError: weights or regions do not fit config.json, or the vision transformer is
                another than the one the encoder was trained with.
        """
        folder = next((f for f in (Path(folder), ASSETS / folder) if f.is_dir()), Path(folder))
        for name in (_CONFIG, _REGIONS, _VALIDATION):
            if not (folder / name).is_file():
                raise MissingFileError(
                    f"{folder / name}: not found; expected a folder of "
                    "`neuroadapter train-encoder`."
                )
        settings = read_json(folder / _CONFIG, "a brain encoder's settings", _Settings)
        regions = Parcellation.load(folder / _REGIONS)
        if regions.fingerprint() != settings["regions_fingerprint"]:
            raise InputError(
                f"{folder / _REGIONS}: not the regions that {_CONFIG} beside it names; copy the "
                "folder again."
            )
        given = {"backbone": str(backbone)} if backbone else {}
        features = as_type(Features, settings["features"] | given, folder / _CONFIG)
        if FINGERPRINT in settings and "backbone" not in allow_other:
            found = dinov2_identity(features.backbone)[FINGERPRINT]
            require_same_backbone(folder / _CONFIG, settings, features.backbone, found)
        config = as_type(RegionEncoderConfig, settings["encoder"], folder / _CONFIG)
        with reading(folder / _CONFIG, "sizes that a brain encoder can have"):
            abstract = abstract_network(lambda rngs: RegionEncoder(config, rngs=rngs))
        members = []
        for i in range(len(settings["blocks"])):
            path = folder / _WEIGHTS.format(i)
            members.append(from_tensors(abstract, load_safetensors(path), str(path), jnp.float32))
        stored = read_npz(folder / _VALIDATION, "correlations per vertex", {"correlation": "f2"})
        correlations, shape = stored["correlation"], (len(members), sum(regions.num_vertices))
        if correlations.shape != shape:
            raise InputError(
                f"{folder / _VALIDATION}: correlation is {correlations.dtype} of shape "
                f"{correlations.shape}; expected numbers of shape {shape}, one per encoder and "
                "vertex; copy the folder again."
            )
        return cls(
            load_dinov2(features.backbone),
            features,
            members,
            settings["blocks"],
            regions,
            correlations.astype(np.float32),
            sharpness=settings["sharpness"],
            provenance=settings["provenance"],
            allow_other=allow_other,
        )


def save_brain_encoder(
    folder: str | Path,
    features: Features,
    members: Sequence[RegionEncoder],
    blocks: Sequence[int],
    regions: Parcellation,
    correlations: Float[np.ndarray, "m n"],
    *,
    sharpness: float = 20.0,
    provenance: dict[str, Any] | None = None,
    backbone: dict[str, Any] | None = None,
    dtype: Any = np.float32,
) -> None:
    """Write the folder that `BrainEncoder.from_pretrained` reads; the backbone is only named.

    Args:
        folder: to write.
        features: what the encoders are given.
        members: the encoders.
        blocks: which features each reads; see `read_features`.
        regions: the parcellation they were trained with.
        correlations: of each on validation images, per vertex [m, n]; stored as float16.
        sharpness: see `ensemble_weights`.
        provenance: what they were trained on, as JSON values.
        backbone: what `dinov2_identity` says of the vision transformer; None where nobody knows.
        dtype: of the stored weights.

    Raises:
        ExistingFileError: see `refuse_other_encoder`.
    """
    refuse_other_encoder(folder, provenance or {})
    with whole_folder(folder) as place:
        for i, member in enumerate(members):
            write_safetensors(place / _WEIGHTS.format(i), to_tensors(member, dtype))
        regions.save(place / _REGIONS)
        correlation = np.asarray(correlations, np.float16)
        write_npz(place / _VALIDATION, compress=True, correlation=correlation)
        write_json(
            place / _CONFIG,
            {
                "features": dataclasses.asdict(features),
                "encoder": dataclasses.asdict(members[0].config),
                "blocks": list(blocks),
                "sharpness": sharpness,
                "regions_fingerprint": regions.fingerprint(),
                "provenance": provenance or {},
                **(backbone or {}),
            },
        )


def refuse_other_encoder(folder: str | Path, provenance: dict[str, Any]) -> None:
    """Refuse to write an encoder over what is no encoder of the same training; writes nothing.

    Raises:
        ExistingFileError: the folder holds another encoder, or files that this one's would replace.
    """
    try:
        found = read_json(Path(folder) / _CONFIG, "a brain encoder's settings")
        same = bool(provenance) and found.get("provenance") == json_values(provenance)
    except InputError:
        same = False
    refuse_foreign(folder, (_CONFIG, _REGIONS, _VALIDATION, _WEIGHTS.format(0)), ours=same)
