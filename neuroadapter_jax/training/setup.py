"""`TrainingSetup`: what a training run is made of before its first step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import Packing, compact, make_packing, stack_packings
from neuroadapter_jax.cortex.parcellation import Parcellation, match_regions
from neuroadapter_jax.cortex.selection import (
    select_group_regions,
    select_regions,
    shuffle_regions,
)
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.datasets.subjects import PartsOfRecords, SubjectsDataset, open_prepared
from neuroadapter_jax.diffusion.precision import PRECISIONS
from neuroadapter_jax.diffusion.prompt import empty_prompt
from neuroadapter_jax.diffusion.unet import with_sample_size
from neuroadapter_jax.diffusion.weights import Backbone, load_pretrained
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.training.inputs import require_images_for_batch
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import has_begun, keeps_inputs
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.step import Frozen


class TrainingSetup:
    """Everything a run is made of before its first step: data, regions, networks, optimizer.

    The U-Net makes images of the records' size, whatever size its own config.json names.

    Attributes:
        chosen: each subject's regions, in token order, as selected.
        regions: the same, with their vertices shuffled where `region_structure` is False.
        subjects: the subjects' numbers or names.
        packing: where the regions' vertices lie on the cortex, for the adapter's inputs.
        frozen: what the step reads and never changes; its packing is of the records that
            `needed` gives.
        adapter, backbone: the networks at step 0.
        num_steps: steps of the whole run.

    Args:
        settings: of the run.
        precision: of the frozen U-Net; the settings' own when None.
        workdir: of a run that has begun, whose regions are taken; they are selected again when
            None.

    Raises:
        InputError: a parcellation of another mesh than the records', or of other vertex sets than
            the work folder's regions, or p or v that do not fit.
    """

    def __init__(
        self,
        settings: Settings,
        precision: str | None = None,
        workdir: str | Path | None = None,
    ):
        self.settings = settings
        self.train = open_prepared(settings.prepared, "train")
        self.validation = open_prepared(settings.prepared, "validation")
        parts = _parts(self.train)
        for part in (*parts, *_parts(self.validation)):
            part.require_images()
        require_images_for_batch(settings.batch_size, len(self.train), settings.prepared)
        self.subjects = tuple(part.provenance["request"].get("subject") for part in parts)
        parcellation = parts[0].parcellation(settings.parcellation, settings.parcels)
        # As the work folder stores them: before their vertices are shuffled.
        self.chosen = read_chosen_regions(workdir, settings, self.subjects, parcellation)
        if not self.chosen:
            self.chosen = choose_regions(parcellation, [part.ncsnr for part in parts], settings)
        self.regions: tuple[Parcellation, ...] = self.chosen
        if not settings.region_structure:
            self.regions = tuple(shuffle_regions(each, settings.seed) for each in self.chosen)
        several = settings.banks == "per_subject" and len(parts) > 1
        largest = max(len(v) for each in self.regions for v in each.vertices)
        packings = [
            make_packing(each, settings.max_vertices or largest)
            for each in (self.regions if several else self.regions[:1])
        ]
        self.packing: Packing = stack_packings(packings) if several else packings[0]
        num_regions, max_vertices = self.packing.index.shape[-2:]
        backbone = load_pretrained(settings.backbone)
        self.adapter = NeuroAdapter.for_unet(
            backbone.unet,
            num_regions,
            max_vertices,
            settings.initial,
            settings.token_queries,
            len(packings),
            rngs=nnx.Rngs(settings.seed),
        )
        dtype = PRECISIONS[precision or settings.precision]
        self.backbone: Backbone = backbone._replace(
            unet=with_sample_size(backbone.unet, self.train[0]["latent_mean"].shape[0], dtype)
        )
        del backbone  # with it the float32 copy of a U-Net that computes in bfloat16
        self.num_steps = settings.num_steps or round(
            (settings.num_epochs or 0) * len(self.train) / settings.batch_size
        )
        self.adapter_graph = nnx.graphdef(self.adapter)
        self.unet_graph, unet_params = nnx.split(self.backbone.unet)
        self._vertices, packing = compact(self.packing)
        self.frozen = Frozen(
            unet_params,
            empty_prompt(self.backbone),
            packing,
            self.backbone.vae.config.scaling_factor,
        )
        self.optimizer = make_optimizer(
            make_schedule(
                settings.learning_rate, self.num_steps, settings.warmup_steps, settings.schedule
            ),
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            b2=settings.b2,
        )

    def needed(self, dataset: PreparedDataset | SubjectsDataset) -> PartsOfRecords:
        """Records without what the step never reads: the image, and vertices outside its regions.

        The betas are as `frozen.packing` packs them.

        Args:
            dataset: the run's training or validation records.
        """
        return PartsOfRecords(dataset, ("betas", "latent_mean", "latent_std"), self._vertices)

    def initial_state(self) -> dict[str, Any]:
        """The state at step 0."""
        # A copy: the step donates its state, and the adapter here must outlive it.
        params = jax.tree.map(jnp.copy, nnx.state(self.adapter, nnx.Param))
        state = {
            "params": params,
            "opt_state": self.optimizer.init(params),
            "step": jnp.zeros((), jnp.int32),
        }
        if self.settings.ema_decay is not None:
            state["ema"] = jax.tree.map(jnp.copy, params)
        return state

    def trained(self, state: dict[str, Any]) -> NeuroAdapter:
        """The adapter of a state: the moving average if there is one."""
        return nnx.merge(self.adapter_graph, state.get("ema", state["params"]))


def _parts(dataset: PreparedDataset | SubjectsDataset) -> tuple[PreparedDataset, ...]:
    """The records of each subject."""
    return (dataset,) if isinstance(dataset, PreparedDataset) else dataset.parts


def choose_regions(
    parcellation: Parcellation, ncsnr: Sequence[Float[np.ndarray, " n"]], settings: Settings
) -> tuple[Parcellation, ...]:
    """Each subject's regions by the subjects' SNR maps, as the settings say."""
    p, per_hemisphere = settings.num_regions, settings.per_hemisphere
    if len(ncsnr) > 1 and settings.groupwise:
        return (select_group_regions(parcellation, ncsnr, p, per_hemisphere),) * len(ncsnr)
    return tuple(select_regions(parcellation, each, p, per_hemisphere) for each in ncsnr)


def _regions_file(workdir: Path, subject: int | str | None, several: bool) -> Path:
    return workdir / (f"regions-subj{subject:0>2}.npz" if several else "regions.npz")


def write_chosen_regions(workdir: str | Path, setup: TrainingSetup) -> None:
    """Write the chosen regions beside the checkpoints, which do not store them."""
    for subject, regions in zip(setup.subjects, setup.chosen, strict=True):
        path = _regions_file(Path(workdir), subject, len(setup.subjects) > 1)
        if not path.exists() or not has_begun(workdir):
            regions.save(path)


def read_chosen_regions(
    workdir: str | Path | None,
    settings: Settings,
    subjects: tuple[int | str | None, ...],
    parcellation: Parcellation,
) -> tuple[Parcellation, ...]:
    """The regions that a run's checkpoints are of, if the parcellation still has them.

    The same vertex sets under other names or in another order are the same regions: those of the
    work folder are taken, in their order. Without a folder, and with that of a new run or of a
    version that stored no regions, there are none: ().

    Raises:
        MissingFileError: a folder of this version has lost them.
        InputError: another number of regions than the settings', or vertex sets that the
            parcellation lacks.
    """
    if workdir is None or not has_begun(workdir):
        return ()
    files = [_regions_file(Path(workdir), subject, len(subjects) > 1) for subject in subjects]
    if lacking := [file for file in files if not file.is_file()]:
        if keeps_inputs(workdir):
            raise MissingFileError(
                f"{lacking[0]}: not found, which tells what regions the checkpoints beside it are "
                "of; copy the work folder again, or choose another one to start again."
            )
        return ()
    chosen = tuple(Parcellation.load(file) for file in files)
    for file, regions in zip(files, chosen, strict=True):
        if len(regions) != settings.num_regions:
            raise InputError(
                f"{file} holds {len(regions)} regions, but num_regions is {settings.num_regions}; "
                f"it belongs to another run, so choose another work folder."
            )
        try:
            match_regions(regions, parcellation, " and ".join(settings.parcellation))
        except ValueError as error:
            raise InputError(f"The checkpoints of {workdir} do not fit: {error}") from None
    return chosen
