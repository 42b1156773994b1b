"""`BrainEncoder`: the predicted response of the whole cortex to an image."""

import functools
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from neuroadapter_jax.cortex.packing import pack, unpack_slots
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.precision import (
    Precision,
    chosen_precision,
    in_precision,
    precision_of,
)
from neuroadapter_jax.diffusion.weights import num_parameters
from neuroadapter_jax.encoder.features import (
    PATCH_TOKENS,
    Features,
    prepare_images,
    read_features,
)
from neuroadapter_jax.encoder.matching import check_fits, matching_regions, vertices_inside
from neuroadapter_jax.encoder.region_encoder import RegionEncoder, Rows, make_rows
from neuroadapter_jax.encoder.saving import load, refuse_other_encoder, save_brain_encoder
from neuroadapter_jax.encoder.scoring import candidate_scores, packed_prediction
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.encoder.weights import dinov2_identity, load_dinov2
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_tree, of_values
from neuroadapter_jax.hub.cards import CardDetails
from neuroadapter_jax.hub.kinds import ENCODER
from neuroadapter_jax.hub.publishing import publish
from neuroadapter_jax.ranges import Count, check

__all__ = [
    "PATCH_TOKENS",
    "BrainEncoder",
    "Features",
    "check_fits",
    "ensemble_weights",
    "matching_regions",
    "prepare_images",
    "read_features",
    "refuse_other_encoder",
    "save_brain_encoder",
]


def ensemble_weights(
    correlations: Float[np.ndarray, "m n"], sharpness: float = 20.0
) -> Float[np.ndarray, "m n"]:
    """Each encoder's share per vertex: softmax over encoders of sharpness x validation correlation.

    A correlation that is NaN (a constant response or prediction) counts as 0.

    Args:
        correlations: of m encoders on validation images, per vertex, -1 to 1.
        sharpness: 0 for equal shares; the higher, the more the best encoder counts.

    Returns:
        Shares, summing to 1 over encoders.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.brain_encoder import ensemble_weights
        >>> correlations = np.array([[0.3, np.nan], [0.3, 0.0]])  # 2 encoders, 2 vertices
        >>> ensemble_weights(correlations).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    logits = sharpness * np.nan_to_num(correlations)
    weights = np.exp(logits - logits.max(axis=0))
    return (weights / weights.sum(axis=0)).astype(np.float32)


class BrainEncoder:
    """Predicts the response of every vertex to an image, by one or several `RegionEncoder`.

    `predict` gives the responses; `rank` says how well each of several images fits a measured
    response, by which `NeuroAdapterPipeline.candidates` chooses. Hwang et al. 2025 ("In Silico
    Mapping of Visual Categorical Selectivity ..."); the members are weighted per vertex by
    `ensemble_weights`. Most encoders come from `from_pretrained`.

    Args:
        backbone: the frozen vision transformer.
        features: what it is given.
        members: the encoders, m of them.
        blocks: which features each reads: 0 the patch tokens, k the queries of the k-th block from
            the end.
        regions: the parcellation they were trained with.
        correlations: of each on validation images, per vertex [m, n], -1 to 1.
        sharpness: of the softmax over members, see `ensemble_weights`.
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
    def precision(self) -> Precision:
        """In what the networks compute."""
        return precision_of(nnx.state(self._backbone, nnx.Param))

    def with_precision(self, precision: str) -> "BrainEncoder":
        """The same encoder computing in another precision; norms and softmax are of float32 always.

        Predictions and their correlations are of float32, too. docs/scaling.md shows what bfloat16
        changes in scores and ranks.

        Args:
            precision: "fp32", "bf16", or "auto" for what suits the device, see
                `diffusion.precision.default_precision`; what was rounded to bf16 stays so in fp32.

        Raises:
            SettingError: another one.
        """
        chosen = chosen_precision(precision)
        if chosen == self.precision:
            return self

        def cast(module: Any) -> Any:
            graph, params = nnx.split(module)
            return nnx.merge(graph, in_precision(params, chosen))

        members = [cast(member) for member in self._members]
        return self._of(cast(self._backbone), members, self.regions, self.correlations)

    def _of(
        self,
        backbone: Dinov2Model,
        members: Sequence[RegionEncoder],
        regions: Parcellation,
        correlations: Float[np.ndarray, "m n"],
    ) -> "BrainEncoder":
        """An encoder of these networks and regions, otherwise as this one."""
        return BrainEncoder(
            backbone,
            self.features,
            members,
            self.blocks,
            regions,
            correlations,
            sharpness=self.sharpness,
            provenance=self.provenance,
            allow_other=self.allow_other,
        )

    @property
    def num_parameters(self) -> int:
        """Trained numbers of all its networks; the frozen image model's do not count."""
        return sum(map(num_parameters, self._members))

    @property
    def num_vertices(self) -> int:
        """n, vertices of both hemispheres."""
        return sum(self.regions.num_vertices)

    def predict(
        self, images: UInt8[np.ndarray, "b y x c"], batch_size: int = 32
    ) -> Float[np.ndarray, "b n"]:
        """Responses of the whole cortex, left then right hemisphere; 0 at vertices in no region.

        They are in the unit of training, mostly z-scores.

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
            fmri: measured responses of the whole cortex, left then right hemisphere, normalised as
                in training.
            regions: those that count, such as the adapter's.
            chunk: images predicted at once, at least 1.

        Returns:
            Pearson's r, -1 to 1; NaN where fewer than two vertices are left or either side is
            constant.

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
        """The vertices that `rank` compares: those of some regions predicted better than chance.

        Args:
            regions: those that count, such as the adapter's.

        Raises:
            InputError: another mesh, or regions that the encoder was not trained with.
        """
        matching_regions(self.regions, regions)
        return self.reliable() & vertices_inside(regions)

    def of_regions(self, regions: Parcellation) -> "BrainEncoder":
        """The encoder of some of its regions alone, such as an adapter's; the rest is left out.

        It predicts these regions, and ranks by them, as the whole encoder does, and is as much
        smaller as they are fewer. Every other vertex is 0 in its predictions.

        Args:
            regions: regions that the encoder was trained with; see `matching_regions`.

        Raises:
            InputError: another mesh, or regions that the encoder was not trained with.
        """
        chosen = matching_regions(self.regions, regions)
        own = self.regions.subset(chosen)
        return self._of(
            self._backbone,
            [member.part(self.rows, chosen)[0] for member in self._members],
            own,
            np.where(vertices_inside(own), self.correlations, np.nan),
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        backbone: str | Path | None = None,
        *,
        revision: str | None = None,
        allow_other: Collection[str] = (),
    ) -> "BrainEncoder":
        """Load a folder of `save_pretrained`, an encoder shipped in the package, or one of the Hub.

        Args:
            folder: the folder, a shipped name, or an encoder of the Hub, "owner/model" or
                "owner/model@revision".
            backbone: another place of the vision transformer than config.json names.
            revision: the Hub's branch, tag or commit.
            allow_other: see the class; with "backbone" the vision transformer may hold other
                weights than in training, too.

        Raises:
            MissingFileError: a file of the folder, or the backbone, is not there, or the Hub does
                not give it.
            InputError: weights or regions do not fit config.json, or the vision transformer is
                another than the one the encoder was trained with.
        """
        saved = load(folder, backbone, allow_other, revision)
        return cls(
            load_dinov2(saved.features.backbone),
            saved.features,
            saved.members,
            saved.blocks,
            saved.regions,
            saved.correlations,
            sharpness=saved.sharpness,
            provenance=saved.provenance,
            allow_other=allow_other,
        )

    def save_pretrained(self, folder: str | Path, dtype: Any = np.float32) -> None:
        """Write the folder that `from_pretrained` reads; the backbone is only named.

        Args:
            folder: to write.
            dtype: of the written weights.

        Raises:
            ExistingFileError: the folder holds another encoder, or files of someone else.
        """
        save_brain_encoder(
            folder,
            self.features,
            self._members,
            self.blocks,
            self.regions,
            self.correlations,
            sharpness=self.sharpness,
            provenance=self.provenance,
            backbone=dinov2_identity(self.features.backbone),
            dtype=dtype,
        )

    def push_to_hub(
        self,
        repo: str,
        card: CardDetails,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Publish the encoder on the Hugging Face Hub, with a model card.

        `from_pretrained(repo)` loads it again. The vision transformer is named, not sent.

        Args:
            repo: "owner/model"; made if it is not there.
            card: the licence, and what else the encoder cannot say about itself.
            private: whether a new repository is private; the owner's default when None.
            token: of the Hub; that of `hf auth login` or of HF_TOKEN when None.
            commit_message: of the upload.
            revision: the branch; main when None.

        Returns:
            The address of the repository.

        Raises:
            InputError: a vision transformer that nobody else has; or nobody is logged in, the user
                may not write there, or the Hub cannot be reached.
        """
        with tempfile.TemporaryDirectory(prefix="neuroadapter-") as place:
            folder = Path(place) / "encoder"
            self.save_pretrained(folder)
            return publish(
                folder, repo, ENCODER, card, private=private, token=token,
                commit_message=commit_message, revision=revision,
            )  # fmt: skip
