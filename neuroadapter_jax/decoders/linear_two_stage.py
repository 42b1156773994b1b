"""The linear two-stage baseline: ridge to latents and to conditioning states, then the backbone.

The family of Takagi and Nishimoto (2023, CVPR) and Brain-Diffuser (Ozcelik and VanRullen 2023,
arXiv 2303.05334): the same regions, backbone and sampler as NeuroAdapter's, but what conditions the
backbone is predicted linearly, and nothing is trained by denoising.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, UInt8
from sklearn.linear_model import RidgeCV
from tqdm import tqdm

from neuroadapter_jax.adapter.guidance import clean_start, sample_latents_from_text
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan, skipped_steps, without_first
from neuroadapter_jax.diffusion.sampling import Start
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.sharding import ROWS, make_mesh, replicate

ALPHAS = tuple(10.0**exponent for exponent in range(8))
_TARGETS_AT_ONCE = 4096
_STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """y = W' x + bias, from the responses of some vertices to an array of any shape.

    Attributes:
        vertices: which of the whole cortex x is made of.
        weights: W; k are the entries of y, in the order of its flattened array.
        bias: of y.
        alphas: the penalty of each entry.
        shape: of y.
        image_ids: the images it was fitted on.
    """

    vertices: Int[np.ndarray, " f"]
    weights: Float[np.ndarray, "f k"]
    bias: Float[np.ndarray, " k"]
    alphas: Float[np.ndarray, " k"]
    shape: tuple[int, ...]
    image_ids: Int[np.ndarray, " i"]

    def __call__(self, fmri: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b ..."]:
        """y of responses of the whole cortex, float32."""
        flat = np.asarray(fmri, np.float32)[:, self.vertices] @ self.weights + self.bias
        return flat.reshape(len(fmri), *self.shape)

    def save(self, path: str | Path) -> None:
        """Write an npz file, atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        fields = {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}
        with partial.open("wb") as file:
            np.savez(file, **fields)
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path):
        """Read what `save` wrote."""
        with np.load(path) as file:
            found = {field.name: file[field.name] for field in dataclasses.fields(cls)}
        return cls(**found | {"shape": tuple(found["shape"].tolist())})


def region_vertices(regions: Parcellation) -> Int[np.ndarray, " f"]:
    """The vertices of some regions, one region after the other, as indices into the cortex."""
    return np.concatenate([regions.cortex_indices(i) for i in range(len(regions))])


def fit_linear_map(
    responses: Float[np.ndarray, "i f"],
    targets: Float[np.ndarray, "i ..."],
    image_ids: Int[np.ndarray, " i"],
    vertices: Int[np.ndarray, " f"],
    *,
    alphas: Sequence[float] = ALPHAS,
    progress: bool = False,
) -> LinearMap:
    """Ridge regression with a penalty of its own for each entry of the target.

    W_k = (X'X + alpha_k I)^-1 X' y_k,  X and y_k less their means over the training images;

    alpha_k has the smallest leave-one-out error over these images (scikit-learn's RidgeCV).
    Brain-Diffuser and Takagi take one penalty, chosen by hand, for all entries.

    Args:
        responses: to the training images, repeats averaged.
        targets: of the same images.
        image_ids: names of these images, kept in the result.
        vertices: where on the cortex the responses are from, such as `region_vertices`.
        alphas: penalties to choose from.
        progress: show a bar over entries.

    Raises:
        ValueError: the counts differ, or there are fewer than three images.
    """
    if not len(responses) == len(targets) == len(image_ids) >= 3:
        raise ValueError(
            "The linear map needs at least 3 images with one response and one target each, found "
            f"{len(image_ids)} images, {len(responses)} responses and {len(targets)} targets."
        )
    x = np.asarray(responses, np.float32)
    y = np.asarray(targets, np.float32).reshape(len(targets), -1)
    weights = np.empty((len(vertices), y.shape[1]), np.float32)
    bias, chosen = np.empty((2, y.shape[1]), np.float32)
    bar = tqdm(total=y.shape[1], desc="Ridge", unit="target", disable=not progress)
    for first in range(0, y.shape[1], _TARGETS_AT_ONCE):
        part = slice(first, min(first + _TARGETS_AT_ONCE, y.shape[1]))
        ridge = RidgeCV(alphas=tuple(alphas), alpha_per_target=True).fit(x, y[:, part])
        weights[:, part], bias[part] = ridge.coef_.T, ridge.intercept_
        chosen[part] = ridge.alpha_
        bar.update(part.stop - first)
    bar.close()
    return LinearMap(vertices, weights, bias, chosen, targets.shape[1:], np.asarray(image_ids))


def caption_states(
    backbone: Backbone, captions: Sequence[Sequence[str]], batch_size: int = 64
) -> Float[np.ndarray, "i k c"]:
    """The text encoder's states of each image's captions, averaged over its captions.

    Args:
        backbone: a text-to-image model.
        captions: one or several per image.
        batch_size: captions encoded at once.

    Raises:
        ValueError: an image has no caption.
    """
    if bare := sum(not some for some in captions):
        raise ValueError(f"{bare} of {len(captions)} images have no caption; give each at least 1.")
    tokenizer = CLIPTokenizer(backbone.folder / "tokenizer")
    graph, params = nnx.split(backbone.text_encoder)
    encode = jax.jit(lambda params, ids: nnx.merge(graph, params)(ids))
    owner = np.repeat(np.arange(len(captions)), [len(some) for some in captions])
    ids = tokenizer([text for some in captions for text in some])
    total: np.ndarray | None = None
    for first in range(0, len(ids), batch_size):
        rows = ids[first : first + batch_size]
        filled = np.concatenate([rows, np.repeat(rows[-1:], batch_size - len(rows), axis=0)])
        states = np.asarray(encode(params, filled), np.float32)[: len(rows)]
        if total is None:
            total = np.zeros((len(captions), *states.shape[1:]), np.float32)
        np.add.at(total, owner[first : first + batch_size], states)
    return total / np.bincount(owner)[:, None, None].astype(np.float32)


def read_captions(
    files: Sequence[str | Path], root: str | Path | None = None
) -> dict[int, list[str]]:
    """Captions by image id (0-based 73k id).

    Args:
        files: JSON files, each either {"image id": "caption" or ["caption", ...]}, or annotations
            of COCO's captions (captions_train2017.json and captions_val2017.json hold NSD's).
        root: NSD's folder, whose nsd_stim_info_merged.csv says which COCO image is which; needed
            for COCO's files.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is of neither kind, or COCO's without a root.
    """
    captions: dict[int, list[str]] = {}
    for path in map(Path, files):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not found; expected a JSON file of captions.")
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "annotations" in content:
            if root is None or not (table := Path(root) / _STIM_INFO).is_file():
                raise ValueError(
                    f"{path} holds captions by COCO id; name NSD's folder, whose {_STIM_INFO} says "
                    "which image is which."
                )
            info = pd.read_csv(table, usecols=["cocoId", "nsdId"])
            ids: dict[int, list[int]] = {}
            for coco, nsd in info.itertuples(index=False):
                ids.setdefault(int(coco), []).append(int(nsd))
            for entry in content["annotations"]:
                for nsd in ids.get(int(entry["image_id"]), ()):
                    captions.setdefault(nsd, []).append(entry["caption"].strip())
        elif isinstance(content, dict) and all(key.isdigit() for key in content):
            for key, texts in content.items():
                texts = [texts] if isinstance(texts, str) else list(texts)
                captions.setdefault(int(key), []).extend(texts)
        else:
            raise ValueError(
                f"{path}: neither a table of captions by image id nor COCO's annotations."
            )
    return captions


def captions_of(
    captions: Mapping[int, Sequence[str]], image_ids: Int[np.ndarray, " i"]
) -> list[list[str]]:
    """The captions of some images, in their order.

    Raises:
        ValueError: an image has none.
    """
    missing = [int(i) for i in image_ids if not captions.get(int(i))]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(image_ids)} images have no caption, such as image "
            f"{missing[0]}; the linear baseline needs one for every training image."
        )
    return [list(captions[int(i)]) for i in image_ids]


class LinearTwoStage:
    """Draws images from states that are predicted linearly from responses.

    It is called as `NeuroAdapterPipeline` is, and candidate j of sample i starts from the same
    noise as there. Guidance is the text-to-image model's: its other half sees the empty prompt.

    Args:
        backbone: a text-to-image model.
        regions: the p regions whose vertices are read.
        states: from responses to the states [k, c] that the U-Net's cross-attention sees.
        guidance_scale: unless a call names another.
        sampler: likewise.
        provenance: what it was fitted on.
    """

    def __init__(
        self,
        backbone: Backbone,
        regions: Parcellation,
        states: LinearMap,
        *,
        guidance_scale: float,
        sampler: str = "ddim",
        provenance: dict[str, Any] | None = None,
    ):
        self.backbone, self.regions, self.states = backbone, regions, states
        self.guidance_scale, self.sampler = guidance_scale, sampler
        self.start: Start = "noise"
        self.num_candidates = 1
        self.provenance = provenance or {}
        self._empty = caption_states(backbone, [[""]], batch_size=1)
        self._graph, self._params = nnx.split((backbone.unet, backbone.vae))
        static = ("sampler", "start", "num_steps", "skipped")
        self._draw_jitted = jax.jit(self._draw, static_argnames=static)

    def __call__(
        self,
        fmri: Float[np.ndarray, "b n"],
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sampler: str | None = None,
        start: Start | None = None,
        num_steps: int = 50,
        guidance_scale: float | None = None,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        low_level_start: Float[np.ndarray | Array, "b _y _x _c"] | None = None,
        strength: float = 0.8,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images for a batch of responses; arguments as of `NeuroAdapterPipeline.__call__`."""
        count = num_candidates or self.num_candidates
        ids = np.arange(len(fmri)) if sample_ids is None else np.asarray(sample_ids)
        scale = self.guidance_scale if guidance_scale is None else float(guidance_scale)
        skipped = 0 if low_level_start is None else skipped_steps(num_steps, strength)
        per_image = {
            "states": np.repeat(self.states(fmri), count, axis=0),
            "ids": np.repeat(ids, count).astype(np.int32),
            "numbers": np.tile(np.arange(count, dtype=np.int32), len(fmri)),
        }
        if skipped:
            per_image["low_level"] = np.repeat(np.asarray(low_level_start), count, axis=0)
        devices = jax.local_devices()
        mesh = make_mesh(devices=devices[: math.gcd(count * len(fmri), len(devices))])
        images = self._draw_jitted(
            replicate(self._params, mesh),
            self._empty,
            jax.random.key(seed),
            None if scale == 1.0 else jnp.float32(scale),
            jax.device_put(per_image, NamedSharding(mesh, ROWS)),
            sampler=sampler or self.sampler,
            start=start or self.start,
            num_steps=num_steps,
            skipped=skipped,
        )
        return np.asarray(images).reshape(len(fmri), count, *images.shape[1:])

    def _draw(
        self, params, empty, key, guidance_scale, per_image, *, sampler, start, num_steps, skipped
    ) -> UInt8[Array, "b y x c"]:
        schedule = self.backbone.schedule
        unet, vae = nnx.merge(self._graph, params)
        keys = jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(key, i), j))(
            per_image["ids"], per_image["numbers"]
        )
        clean = per_image.get("low_level")
        if clean is None:
            clean = clean_start(vae, start, unet.config.sample_size)
        latents = sample_latents_from_text(
            unet,
            unet.text_context(per_image["states"]),
            unet.text_context(empty),
            keys,
            without_first(plan(schedule, sampler, num_steps), skipped),
            guidance_scale,
            schedule.prediction_type,
            clean=clean,
        )
        return to_uint8(vae.decode(latents / vae.config.scaling_factor))
