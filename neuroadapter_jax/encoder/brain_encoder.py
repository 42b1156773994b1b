"""`BrainEncoder`: the predicted response of the whole cortex to an image."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from neuroadapter_jax.cortex.packing import pack, unpack_slots
from neuroadapter_jax.cortex.parcellation import Parcellation, region_keys
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    from_tensors,
    load_safetensors,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.encoder.ranking import masked_correlation
from neuroadapter_jax.encoder.region_encoder import (
    RegionEncoder,
    RegionEncoderConfig,
    Rows,
    make_rows,
)
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.files import write_json

_CONFIG, _WEIGHTS, _REGIONS = "config.json", "encoder_{}.safetensors", "regions.npz"
_VALIDATION = "validation.npz"
_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet
PATCH_TOKENS = 0


@dataclasses.dataclass(frozen=True)
class Features:
    """What of an image the encoders read.

    Attributes:
        backbone: a DINOv2 model; see `dinov2_folder`.
        image_size: images are resized to this many rows and columns; 425 in the released code.
        padded_size: then zeros are added below and to the right up to a multiple of the patch; 434.
    """

    backbone: str = "facebook/dinov2-base"
    image_size: int = 425
    padded_size: int = 434


def prepare_images(
    images: UInt8[Array | np.ndarray, "b y x c"], features: Features
) -> Float[Array, "b y2 x2 c"]:
    """Images as the backbone takes them: resized, normalised by ImageNet's colours, padded.

    Resizing is bilinear with antialiasing, as torchvision's.
    """
    size, extra = features.image_size, features.padded_size - features.image_size
    x = jnp.asarray(images, jnp.float32) / 255.0
    if x.shape[1:3] != (size, size):
        x = jax.image.resize(x, (len(x), size, size, x.shape[-1]), "bilinear", antialias=True)
    return jnp.pad((x - _MEAN) / _SD, ((0, 0), (0, extra), (0, extra), (0, 0)))


def read_features(
    backbone: Dinov2Model, images: Float[Array, "b y x c"], block: int
) -> Float[Array, "b k f"]:
    """Patch features of prepared images.

    Args:
        backbone: the model.
        images: from `prepare_images`.
        block: counted from the end, from 1: the queries of that block's attention;
            0: the patch tokens.
    """
    if block == PATCH_TOKENS:
        return backbone.patch_tokens(images)
    return backbone.query_features(images, block)


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
        provenance: what they were trained on, kept in config.json.
    """

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
    ):
        self.features, self.regions = features, regions
        self.blocks, self.sharpness = tuple(blocks), sharpness
        self.correlations = np.asarray(correlations, np.float32)
        self.provenance = provenance or {}
        self.config = members[0].config
        self.rows: Rows = make_rows(regions, self.config.row_length)
        side = features.padded_size // backbone.config.patch_size
        self.grid = (side, side)
        self._modules = (backbone, *members)
        self._shares = jnp.asarray(ensemble_weights(self.correlations, sharpness))
        self._judges: dict[str, tuple[Callable, tuple]] = {}
        packed, params = self._packed_prediction(self._modules, self.rows)

        def predict(params, images):
            return unpack_slots(packed(params, images), self.rows.packing, self.num_vertices, 0.0)

        self._predict = functools.partial(jax.jit(predict), params)

    def _packed_prediction(self, modules: Sequence[nnx.Module], rows: Rows):
        """(params, images) -> the weighted predictions [b, rows, slots], and the params."""
        graphs = [nnx.graphdef(module) for module in modules]
        states = [nnx.state(module, nnx.Param) for module in modules]

        def predict(params, images):
            states, shares = params
            backbone, *members = map(nnx.merge, graphs, states)
            prepared = prepare_images(images, self.features)
            return sum(
                share * member(read_features(backbone, prepared, block), self.grid, rows)
                for member, block, share in zip(members, self.blocks, shares, strict=True)
            )

        return predict, (states, pack(self._shares, rows.packing))

    def _judge(self, regions: Parcellation) -> tuple[Callable, tuple]:
        """What scores candidates by some regions alone, compiled once; and its arrays."""
        found = self._judges.get(key := regions.fingerprint())
        if found is not None:
            return found
        chosen = matching_regions(self.regions, regions)
        backbone, *members = self._modules
        parts = [member.part(self.rows, chosen) for member in members]
        rows = parts[0][1]
        packed, params = self._packed_prediction([backbone, *(part for part, _ in parts)], rows)
        mask = rows.packing.mask & jnp.asarray(self.reliable())[rows.packing.index]

        def scores(params, mask, images, fmri, chunk):
            b, s = images.shape[:2]
            flat = images.reshape(b * s, *images.shape[2:])
            predicted = jax.lax.map(
                lambda image: packed(params, image[None])[0], flat, batch_size=chunk
            )
            measured = pack(fmri, rows.packing).reshape(b, 1, -1)
            return masked_correlation(predicted.reshape(b, s, -1), measured, mask.reshape(-1))

        judge = jax.jit(scores, static_argnums=4), (params, mask)
        self._judges[key] = judge
        return judge

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
        """
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
            ValueError: another mesh, or regions that the encoder was not trained with.
        """
        score, arrays = self._judge(regions)
        return np.asarray(score(*arrays, images, fmri, chunk))

    def reliable(self) -> Bool[np.ndarray, " n"]:
        """Vertices that the ensemble predicts better than chance on validation images."""
        shares = np.asarray(self._shares)
        return (shares * np.nan_to_num(self.correlations)).sum(axis=0) > 0

    def ranked_vertices(self, regions: Parcellation) -> Bool[np.ndarray, " n"]:
        """The vertices that `rank` compares: those of some regions predicted better than chance."""
        matching_regions(self.regions, regions)
        return self.reliable() & _inside(regions)

    @classmethod
    def from_pretrained(cls, folder: str | Path, backbone: str | Path | None = None):
        """Load a folder written by `save_pretrained`, or one shipped in the package by name.

        Args:
            folder: the folder, or a shipped name.
            backbone: another place of the vision transformer than config.json names.

        Raises:
            FileNotFoundError: a file of the folder, or the backbone, is not there.
            ValueError: weights or regions do not fit config.json.
        """
        folder = next((f for f in (Path(folder), ASSETS / folder) if f.is_dir()), Path(folder))
        for name in (_CONFIG, _REGIONS, _VALIDATION):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder / name}: not found; expected a folder of launch/train_encoder.py."
                )
        settings = json.loads((folder / _CONFIG).read_text())
        regions = Parcellation.load(folder / _REGIONS)
        if regions.fingerprint() != settings["regions_fingerprint"]:
            raise ValueError(
                f"{folder / _REGIONS}: not the regions that {_CONFIG} beside it names; copy the "
                "folder anew."
            )
        features = Features(
            **settings["features"] | ({"backbone": str(backbone)} if backbone else {})
        )
        config = RegionEncoderConfig(**settings["encoder"])
        abstract = nnx.eval_shape(lambda: RegionEncoder(config, rngs=nnx.Rngs(0)))
        members = []
        for i in range(len(settings["blocks"])):
            path = folder / _WEIGHTS.format(i)
            members.append(from_tensors(abstract, load_safetensors(path), str(path), jnp.float32))
        with np.load(folder / _VALIDATION) as file:
            correlations = file["correlation"].astype(np.float32)
        return cls(
            load_dinov2(features.backbone),
            features,
            members,
            settings["blocks"],
            regions,
            correlations,
            sharpness=settings["sharpness"],
            provenance=settings["provenance"],
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
    dtype: Any = np.float32,
) -> None:
    """Writes the folder that `BrainEncoder.from_pretrained` reads; the backbone is named only.

    Arguments as of `BrainEncoder`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i, member in enumerate(members):
        write_safetensors(folder / _WEIGHTS.format(i), to_tensors(member, dtype))
    regions.save(folder / _REGIONS)
    partial = folder / f"{_VALIDATION}.partial"
    with partial.open("wb") as file:
        np.savez_compressed(file, correlation=np.asarray(correlations, np.float16))
    partial.rename(folder / _VALIDATION)
    write_json(
        folder / _CONFIG,
        {
            "features": dataclasses.asdict(features),
            "encoder": dataclasses.asdict(members[0].config),
            "blocks": list(blocks),
            "sharpness": sharpness,
            "regions_fingerprint": regions.fingerprint(),
            "provenance": provenance or {},
        },
    )


def check_fits(encoder: BrainEncoder, regions: Parcellation, provenance: dict[str, Any]) -> None:
    """Refuses an encoder that cannot judge an adapter's images.

    Args:
        encoder: the judge.
        regions: the adapter's.
        provenance: the adapter's, as its config.json holds it.

    Raises:
        ValueError: another mesh or parcellation, or trained on other data: subject, surface,
            version or normalisation of the responses.
    """
    matching_regions(encoder.regions, regions)
    known, wanted = (x.get("data", {}) for x in (encoder.provenance, provenance))
    for key in ("subject", "space", "beta_version", "normalize"):
        if key in known and key in wanted and known[key] != wanted[key]:
            raise ValueError(
                f"The encoder was trained on responses of {key} {known[key]!r}, the adapter on "
                f"{wanted[key]!r}; use an encoder of the same."
            )


def matching_regions(known: Parcellation, wanted: Parcellation) -> list[int]:
    """Which of an encoder's regions have the vertices of some regions.

    One by one, by vertices and not by name: other files give the same parcels other names and
    orders. Or together, for the control without region structure, whose regions are others of
    the same sizes over the same vertices (`shuffle_regions`).

    Args:
        known: the encoder's regions.
        wanted: those it is to judge.

    Raises:
        ValueError: another mesh or another parcellation, naming what differs.
    """
    if known.num_vertices != wanted.num_vertices:
        raise ValueError(
            f"The encoder was trained on {known.num_vertices} vertices per hemisphere, the regions "
            f"are of {wanted.num_vertices}; use an encoder of the same surface."
        )
    place = {key: i for i, key in enumerate(region_keys(known))}
    keys = region_keys(wanted)
    if all(key in place for key in keys):
        return [place[key] for key in keys]
    inside = _inside(wanted)
    within = [i for i in range(len(known)) if inside[known.cortex_indices(i)].all()]
    found = known.subset(within)
    if np.array_equal(_inside(found), inside) and _sizes(found) == _sizes(wanted):
        return within
    name, (h, _) = next(
        (name, key) for name, key in zip(wanted.names, keys, strict=True) if key not in place
    )
    raise ValueError(
        f"The encoder was trained with another parcellation: it has no region {name!r} "
        f"({h}) of the same vertices; use an encoder of the parcellation the adapter was "
        f"trained with."
    )


def _inside(regions: Parcellation) -> Bool[np.ndarray, " n"]:
    """The vertices of the whole cortex that lie in some region."""
    inside = np.zeros(sum(regions.num_vertices), bool)
    for i in range(len(regions)):
        inside[regions.cortex_indices(i)] = True
    return inside


def _sizes(regions: Parcellation) -> list[tuple[str, int]]:
    """How many vertices each region has, in an order of their own."""
    return sorted((h, len(v)) for h, v in zip(regions.hemispheres, regions.vertices, strict=True))
