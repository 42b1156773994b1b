"""`Settings`: everything that defines a training run of NeuroAdapter, as config.json holds it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from neuroadapter_jax.adapter.region_projection import Initial
from neuroadapter_jax.cortex.parcellation import Parcels
from neuroadapter_jax.diffusion.precision import Precision
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import INPUTS, RECORDED, json_values
from neuroadapter_jax.ranges import (
    Count,
    CountFromZero,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    Share,
    ShareBelowOne,
    check_fields,
    named,
)
from neuroadapter_jax.training.loop import Intervals
from neuroadapter_jax.training.step import Objective

Banks = Literal["shared", "per_subject"]
# What a work folder's config.json holds beside the settings.
BESIDE = (INPUTS, RECORDED)
# Version 0.1.0 wrote these beside the other settings; they are fields of `Sampling` now.
_FLAT_SAMPLING = ("guidance_scale", "sampler", "start")


@dataclass(frozen=True)
class Settings:
    """What defines a training run.

    Attributes:
        prepared: folder of prepared records, or one folder per subject for a model of several.
        parcellation: label files of the left and the right hemisphere; none where the records
            bring their own regions.
        parcels: "own", or "released" for the left's vertex sets in both hemispheres; see
            `read_parcellation`.
        backbone: folder in the diffusers layout, a shipped name, a Hub id, or "random".
        precision: of the frozen U-Net's parameters and arithmetic in training, "fp32" or "bf16";
            what trains, the loss and the reconstructions are float32.
        num_regions: the number p of regions.
        per_hemisphere: take p / 2 regions of each hemisphere.
        banks: with several subjects, one projection bank for all ("shared", as in the released
            code) or one for each ("per_subject"); token norm, keys and values are always shared.
        groupwise: with several subjects, the same regions for all, by their mean rank (see
            `select_group_regions`; the released code); False for each subject's own of the
            highest SNR, which needs a bank for each.
        region_structure: whether a token stands for a region; if not, the regions' vertices are
            shuffled among them, see `shuffle_regions`.
        token_queries: learned queries that read the regions, see `NeuroAdapterConfig`; None for
            one token per region.
        max_vertices: slots v per region; None takes the largest chosen region's size.
        initial: the projection bank's random start.
        seed: of parameters, data order, noise and dropout.
        batch_size: b, over all devices.
        num_steps: training steps (batches); None for num_epochs.
        num_epochs: passes over the training images, used where num_steps is None.
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up.
        schedule: "cosine" or "constant" after the warm-up.
        weight_decay: of AdamW.
        b2: decay of AdamW's second moment.
        clip_norm: of the gradient's global norm; None for none.
        accumulate: parts of a batch computed one after the other, to save memory.
        remat: compute each U-Net block again for the derivative, to save memory.
        fsdp: devices that share one copy of the parameters; 1 for data parallelism.
        gamma: cap of the Min-SNR weights; None for none.
        drop_rate: of tokens, "uniform" or a number.
        drop_all: share of samples that lose every token; 0 in the paper.
        ema_decay: of the moving average that is evaluated and exported; None for none.
        repeats: "average" over an image's repeats, or a "random" subset of them per visit.
        sampling: the exported model's own; the validation images are sampled with it too, in
            `sample_steps` steps.
        num_candidates: images per response that the exported model makes unless asked otherwise.
        sample_steps: denoising steps of the validation images.
        log_every, evaluate_every, checkpoint_every: in steps; see `Intervals`.

    Raises:
        SettingError: a setting that is none of its choices or out of its range.
        InputError: settings that exclude each other.
    """

    prepared: str | tuple[str, ...]
    parcellation: tuple[str, ...]
    parcels: Parcels = "own"
    backbone: str = "tiny-sd"
    precision: Precision = "fp32"
    num_regions: Count = 200
    per_hemisphere: bool = True
    banks: Banks = "shared"
    groupwise: bool = True
    region_structure: bool = True
    token_queries: Count | Annotated[None, "for a token per region"] = None
    max_vertices: Count | Annotated[None, "for the largest region's"] = None
    initial: Initial = "per_region"
    seed: Seed = 0
    batch_size: Count = 16
    num_steps: Count | Annotated[None, "for num_epochs"] = 1000
    num_epochs: Positive | Annotated[None, "for num_steps"] = None
    learning_rate: Positive = 1e-4
    warmup_steps: CountFromZero = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: NonNegative = 1e-6
    b2: ShareBelowOne = 0.999
    clip_norm: Positive | Annotated[None, "for no clipping"] = 1.0
    accumulate: Count = 1
    remat: bool = False
    fsdp: Count = 1
    gamma: Positive | Annotated[None, "for no weighting"] = 5.0
    drop_rate: Share | Literal["uniform"] = "uniform"
    drop_all: Share = 0.0
    ema_decay: ShareBelowOne | Annotated[None, "for no average"] = None
    repeats: Literal["average", "random"] = "average"
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    num_candidates: Count = 1
    sample_steps: Count = 20
    log_every: Count = 20
    evaluate_every: Count = 500
    checkpoint_every: Count = 500

    def __post_init__(self):
        check_fields(self)
        if len(self.parcellation) not in (0, 2):
            raise SettingError("parcellation", self.parcellation, "two label files, left and right")
        if self.num_steps is None and self.num_epochs is None:
            raise InputError("num_steps and num_epochs are both None; give one of them.")
        if self.num_steps is not None and self.warmup_steps >= self.num_steps:
            raise SettingError(
                "warmup_steps", self.warmup_steps, f"less than num_steps, {self.num_steps}"
            )
        if self.batch_size % self.accumulate:
            raise SettingError(
                "accumulate", self.accumulate, f"a divisor of batch_size, {self.batch_size}"
            )
        if self.per_hemisphere and self.num_regions % 2:
            raise SettingError(
                "num_regions", self.num_regions, "an even number, or per_hemisphere=False"
            )
        if self.banks == "shared" and not self.groupwise and not isinstance(self.prepared, str):
            raise InputError(
                "groupwise is False, so a token stands for another region in each subject, but "
                "banks is 'shared'; use banks='per_subject', or groupwise=True."
            )

    @property
    def objective(self) -> Objective:
        """What the train step minimises."""
        return Objective(self.gamma, self.drop_rate, self.drop_all)

    @property
    def validation_sampling(self) -> Sampling:
        """How the validation images are sampled: as the exported model, in `sample_steps` steps."""
        return self.sampling.replace(num_steps=self.sample_steps)

    @property
    def intervals(self) -> Intervals:
        """When the run logs, evaluates and saves."""
        return Intervals(self.log_every, self.checkpoint_every, self.evaluate_every)

    @staticmethod
    def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
        """JSON values of this or an older version, as this version writes them.

        Version 0.1.0 kept guidance_scale, sampler and start beside the other settings; they go to
        `sampling`. What `sampling` lacks takes the defaults of `Sampling`.

        Raises:
            InputError: a key of `sampling` that is no setting, or a value out of its range.
        """
        values = dict(values)
        given = values.get("sampling")
        if given is None:
            given = {name: values.pop(name) for name in _FLAT_SAMPLING if name in values}
        if not isinstance(given, Sampling):
            _refuse_unknown("sampling setting(s)", given, Sampling)
            with named("sampling."):
                given = Sampling(**given)
        return values | {"sampling": given.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from JSON values of this or an older version; see `upgrade`.

        The fingerprints of what a run reads, which its config.json holds beside them, are left out.

        Args:
            values: JSON values, such as those of config.json.

        Raises:
            SettingError: a value out of its range.
            InputError: a key that is no setting, or one that is lacking.
        """
        values = {k: x for k, x in cls.upgrade(values).items() if k not in BESIDE}
        _refuse_unknown("training setting(s)", values, cls)
        if lacking := sorted({"prepared", "parcellation"} - values.keys()):
            raise InputError(f"{lacking[0]} is lacking; expected the data that are trained on.")
        own: dict[str, Any] = {
            key: tuple(x) if isinstance(x, list) else x for key, x in values.items()
        }
        return cls(**own | {"sampling": Sampling(**values["sampling"])})

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The settings that have a default, which an older config.json may lack."""
        fields = dataclasses.fields(cls)
        found = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        return cls.upgrade(found)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, as a work folder's config.json holds them."""
        return json_values(dataclasses.asdict(self))


def _refuse_unknown(what: str, values: Mapping[str, Any], kind: type) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise InputError(f"Unknown {what} {unknown}; the settings are {sorted(known)}.")
