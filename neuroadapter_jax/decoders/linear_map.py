"""Ridge regression from the responses of some vertices to latents or to conditioning states."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.captions import caption_states, captions_of
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.fingerprints import of_tree, of_values
from neuroadapter_jax.finite import require_finite_rows
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_npz

ALPHAS = tuple(10.0**exponent for exponent in range(8))
_TARGETS_AT_ONCE = 4096


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
        made_from: fingerprint of all that it was fitted on; "" where nobody noted it.
        center: mean of x over training images; None in files of earlier versions.
        statistics: over training images, the mean and the standard deviation of y, then the mean of
            its leave-one-out predictions less that of y, and their standard deviation; None in
            files of earlier versions.
        seconds: what fitting took, its targets included; None where nobody noted it.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.decoders.linear_map import fit_linear_map
        >>> fmri = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
        >>> targets = 2.0 * fmri[:, [0, 3]] + 1.0
        >>> known = fit_linear_map(
        ...     fmri[:, [0, 3]], targets, np.arange(20), vertices=np.array([0, 3]), alphas=(1e-6,)
        ... )
        >>> bool(np.allclose(known(fmri), targets, atol=1e-3))
        True
    """

    vertices: Int[np.ndarray, " f"]
    weights: Float[np.ndarray, "f k"]
    bias: Float[np.ndarray, " k"]
    alphas: Float[np.ndarray, " k"]
    shape: tuple[int, ...]
    image_ids: Int[np.ndarray, " i"]
    made_from: str = ""
    center: Float[np.ndarray, " f"] | None = None
    statistics: Float[np.ndarray, "4 k"] | None = None
    seconds: float | None = None

    def __call__(self, fmri: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b ..."]:
        """y of responses of the whole cortex, float32."""
        flat = np.asarray(fmri, np.float32)[:, self.vertices] @ self.weights + self.bias
        return flat.reshape(len(fmri), *self.shape)

    @property
    def num_parameters(self) -> int:
        """Fitted numbers: weights and bias."""
        return self.weights.size + self.bias.size

    def save(self, path: str | Path) -> None:
        """Write an npz file, whole or not at all."""
        arrays: dict[str, Any] = {
            field.name: np.asarray(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        }
        write_npz(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "LinearMap":
        """Read what `save` wrote.

        Raises:
            MissingFileError: there is no such file.
            InputError: it is no such file, or its arrays contradict one another.
        """
        # Files of earlier versions do not say what they were made from.
        names = {"vertices": "iu1", "weights": "f2", "bias": "f1", "alphas": "f1"}
        names |= {"shape": "iu1", "image_ids": "iu1"}
        expected, advice = "a linear map's arrays", f"delete {path}, and it is fitted again"
        file = read_npz(path, expected, names, advice)
        found: dict[str, Any] = {name: file[name] for name in names}
        found["shape"] = tuple(found["shape"].tolist())
        found["made_from"] = str(file.get("made_from", ""))
        for name in ("center", "statistics"):
            if name in file:
                found[name] = np.asarray(file[name], np.float32)
        if "seconds" in file:
            found["seconds"] = float(file["seconds"])
        entries = found["bias"].shape
        if found["weights"].shape != (*found["vertices"].shape, *entries) or entries != (
            int(np.prod(found["shape"])),
        ):
            raise InputError(
                f"{path}: weights of shape {found['weights'].shape} for {found['vertices'].shape} "
                f"vertices and targets of shape {found['shape']}; expected {expected}; {advice}."
            )
        return cls(**found)


def region_vertices(regions: Parcellation) -> Int[np.ndarray, " f"]:
    """The vertices of some regions, one region after the other, as indices into the cortex.

    Args:
        regions: such as those of a model.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.decoders.linear_map import region_vertices
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> region_vertices(Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3))).tolist()
        [0, 2, 4]
    """
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
    """Ridge regression with its own penalty for each entry of the target.

    ::

        W_k = (X'X + alpha_k I)^-1 X' y_k

    with X and y_k less their means over the training images. alpha_k has the smallest leave-one-out
    error over these images (scikit-learn's RidgeCV). Brain-Diffuser and Takagi take one penalty,
    chosen by hand, for all entries.

    Args:
        responses: to the training images, repeats averaged.
        targets: of the same images.
        image_ids: names of these images, kept in the result.
        vertices: where on the cortex the responses are from, such as `region_vertices`.
        alphas: penalties to choose from.
        progress: show a bar over entries.

    Raises:
        InputError: the counts differ, or there are fewer than three images.
        NotFiniteError: responses or targets are NaN or infinite.
    """
    if not len(responses) == len(targets) == len(image_ids) >= 3:
        raise InputError(
            "The linear map needs at least 3 images with one response and one target each, found "
            f"{len(image_ids)} images, {len(responses)} responses and {len(targets)} targets."
        )
    require_finite_rows(responses, "responses to fit")
    require_finite_rows(targets, "targets to fit")
    x = np.asarray(responses, np.float32)
    y = np.asarray(targets, np.float32).reshape(len(targets), -1)
    weights = np.empty((len(vertices), y.shape[1]), np.float32)
    bias, chosen = np.empty((2, y.shape[1]), np.float32)
    statistics, left_out = np.empty((4, y.shape[1]), np.float32), LeaveOneOut(x)
    with Bar(total=y.shape[1], desc="Ridge", unit="target", disable=not progress) as bar:
        for first in range(0, y.shape[1], _TARGETS_AT_ONCE):
            part = slice(first, min(first + _TARGETS_AT_ONCE, y.shape[1]))
            ridge = RidgeCV(alphas=np.asarray(alphas), alpha_per_target=True).fit(x, y[:, part])
            weights[:, part], bias[part] = ridge.coef_.T, ridge.intercept_
            chosen[part] = ridge.alpha_
            predicted = left_out.deviations(y[:, part], chosen[part])
            statistics[:2, part] = y[:, part].mean(axis=0), y[:, part].std(axis=0)
            statistics[2:, part] = predicted.mean(axis=0), predicted.std(axis=0)
            bar.update(part.stop - first)
    return LinearMap(
        vertices,
        weights,
        bias,
        chosen,
        targets.shape[1:],
        np.asarray(image_ids),
        center=x.mean(axis=0),
        statistics=statistics,
    )


class LeaveOneOut:
    """What ridge regression predicts of each image when it is fitted on all others.

    ::

        H = 1/n + X (X'X + alpha I)^-1 X',    prediction_i = y_i - (y_i - (H y)_i) / (1 - H_ii)

    with X less its mean, by the eigenvectors of X X', so that no regression is fitted again.

    Args:
        responses: to the training images.
    """

    def __init__(self, responses: Float[np.ndarray, "i f"]):
        x = np.asarray(responses, np.float64) - np.mean(responses, axis=0, dtype=np.float64)
        values, self._vectors = np.linalg.eigh(x @ x.T)
        self._values = np.maximum(values, 0.0)

    def deviations(
        self, targets: Float[np.ndarray, "i k"], alphas: Float[np.ndarray, " k"]
    ) -> Float[np.ndarray, "i k"]:
        """The predictions less the mean of the targets, float64: small where a penalty is large.

        Args:
            targets: of the training images.
            alphas: the penalty of each target, above 0.
        """
        found = np.empty(targets.shape)
        for alpha in np.unique(alphas):
            of = alphas == alpha
            shrink = self._values / (self._values + alpha)
            y = targets[:, of] - targets[:, of].mean(axis=0, dtype=np.float64)
            fitted = self._vectors @ (shrink[:, None] * (self._vectors.T @ y))
            leverage = 1 / len(y) + (self._vectors**2) @ shrink
            found[:, of] = y - (y - fitted) / (1 - leverage)[:, None]
        return found


def fit_latents(
    prepared: str | Path, pipeline: NeuroAdapterPipeline, folder: str | Path, *, progress: bool
) -> LinearMap:
    """The map from the regions' responses to scaled latents, fitted on training images.

    It is stored in latents.npz and not fitted again; records of other splits are not read.

    Args:
        prepared: folder of prepared records.
        pipeline: whose regions and scaling factor are used.
        folder: where the map is stored.
        progress: show bars.

    Raises:
        InputError: the folder holds a map that was fitted on something else.
    """
    scale = pipeline.backbone.vae.config.scaling_factor
    path = Path(folder) / "latents.npz"
    return _fit_once(
        path, prepared, pipeline, lambda ids, latents: scale * latents, {"scale": scale}, progress
    )


def fit_states(
    prepared: str | Path,
    pipeline: NeuroAdapterPipeline,
    captions: Mapping[int, Sequence[str]],
    folder: str | Path,
    *,
    progress: bool,
) -> LinearMap:
    """The map from responses to caption states, fitted on training images, stored in states.npz.

    Args:
        prepared: folder of prepared records.
        pipeline: whose regions and backbone are used.
        captions: of every training image, by id.
        folder: where the map is stored.
        progress: show bars.

    Raises:
        InputError: the folder holds a map that was fitted on something else, or a training image
            has no caption.
    """

    def states(ids: Int[np.ndarray, " i"], _) -> Float[np.ndarray, "i k c"]:
        return caption_states(pipeline.backbone, captions_of(captions, ids))

    made_from = {
        "captions": {str(i): list(texts) for i, texts in captions.items()},
        "text_encoder": of_tree(nnx.state(pipeline.backbone.text_encoder, nnx.Param)),
    }
    path = Path(folder) / "states.npz"
    return _fit_once(path, prepared, pipeline, states, made_from, progress)


def fit_embedding(
    prepared: str | Path,
    pipeline: NeuroAdapterPipeline,
    embedding: Float[np.ndarray, "i k c"],
    embedder: str,
    folder: str | Path,
    *,
    progress: bool,
) -> LinearMap:
    """The map from responses to image embeddings of training images, stored in embedding.npz.

    Args:
        prepared: folder of prepared records.
        pipeline: whose regions are used.
        embedding: of every training image, in the order of the records.
        embedder: fingerprint of what gave it.
        folder: where the map is stored.
        progress: show bars.

    Raises:
        InputError: the folder holds a map that was fitted on something else.
    """
    path, of = Path(folder) / "embedding.npz", {"embedder": embedder}
    targets = np.asarray(embedding, np.float32)
    return _fit_once(path, prepared, pipeline, lambda ids, _: targets, of, progress)


def _fit_once(
    path: Path,
    prepared: str | Path,
    pipeline: NeuroAdapterPipeline,
    targets: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "i ..."]],
    of: dict[str, Any],
    progress: bool,
) -> LinearMap:
    """The stored map, or a new one to targets(ids, latent means) of the training images.

    `of` says what else than the records and the regions the targets depend on, as JSON values.
    """
    train, vertices = PreparedDataset(prepared, "train"), region_vertices(pipeline.regions)
    made_from = of_values([train.fingerprint, vertices.tolist(), of])
    if path.is_file():
        known = LinearMap.load(path)
        if not np.array_equal(known.image_ids, train.image_ids):
            raise InputError(
                f"{path} was fitted on {len(known.image_ids)} images, other than the "
                f"{len(train.image_ids)} training images of {prepared}; name another folder."
            )
        if known.made_from and known.made_from != made_from:
            raise InputError(
                f"{path} was fitted on other records, regions, captions or another text or image "
                "encoder than those that are there now; name another folder or delete it."
            )
        return known
    began = time.monotonic()
    # The regions' vertices alone: the whole cortex of all images would fill the memory.
    found = read_split(train, "betas", "latent_mean", of_betas=lambda betas: betas[:, vertices])
    made = fit_linear_map(
        found["betas"],
        targets(train.image_ids, found["latent_mean"]),
        train.image_ids,
        vertices,
        progress=progress,
    )
    seconds = time.monotonic() - began
    made = dataclasses.replace(made, made_from=made_from, seconds=seconds)
    made.save(path)
    return made
