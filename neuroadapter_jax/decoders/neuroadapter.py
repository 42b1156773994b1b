"""NeuroAdapter as a decoder, and from a training run to a pipeline folder with its card."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.datasets.subjects import SubjectsDataset
from neuroadapter_jax.decoders.contract import BrainDecoder, NoiseKeys
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import num_parameters
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_text
from neuroadapter_jax.pipeline import Candidates, LowLevelStart, NeuroAdapterPipeline
from neuroadapter_jax.pipeline.saving import CARD
from neuroadapter_jax.readers import read_json_lines
from neuroadapter_jax.tables import markdown_table
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.train import load_run, train


@dataclasses.dataclass(frozen=True)
class NeuroAdapterSettings:
    """How NeuroAdapter is fitted.

    Attributes:
        training: of a new training; None takes the model of the comparison, which was trained
            before.
    """

    training: Settings | None = None


class NeuroAdapterDecoder(BrainDecoder):
    """NeuroAdapter: a region that is not kept is a token that is dropped, as in training.

    Where learned queries read the regions, tokens are no regions; there the vertices of a region
    that is not kept get their training mean, as in decoders of vectors.

    Args:
        pipeline: the trained model.
        mean_response: the training images' mean response, for models with learned queries.
    """

    deviations: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pipeline: NeuroAdapterPipeline, mean_response: Float[np.ndarray, " n"]):
        super().__init__(
            pipeline.regions,
            mean_response,
            sampling=pipeline.sampling,
            num_candidates=pipeline.num_candidates,
            provenance=pipeline.provenance,
        )
        self.pipeline, self.backbone = pipeline, pipeline.backbone

    @classmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "NeuroAdapterDecoder":
        """Train as the settings say, or take the comparison's own model.

        Args:
            material: whose pipeline is taken where nothing is trained.
            out: work folder of the training, which goes on after any end.
            settings: `NeuroAdapterSettings`.

        Raises:
            InputError: the folder is another run's.
        """
        settings = settings or NeuroAdapterSettings()
        if settings.training is None:
            return cls(material.pipeline, material.mean_response)
        train(settings.training, out, progress=material.progress)
        made = cls(pipeline_of_run(out), material.mean_response)
        made.training_seconds = training_seconds(out)
        return made

    @property
    def fingerprint(self) -> Any:
        return self.pipeline.fingerprint

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.pipeline.adapter)

    @property
    def drops_tokens(self) -> bool:
        return self.pipeline.adapter.config.token_queries is None

    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        low_level = None
        if start is not None and strength is not None:
            low_level = LowLevelStart(start, strength)
        return self.pipeline(
            fmri,
            sampling,
            num_candidates=keys.num_candidates,
            seed=keys.seed,
            sample_ids=keys.sample_ids,
            keep=keep,
            low_level=low_level,
        )

    def candidates(
        self,
        fmri: Float[np.ndarray, "b n"],
        encoder: BrainEncoder,
        sampling: Sampling | None = None,
        **options: Any,
    ) -> Candidates:
        """Candidates and their scores, see `NeuroAdapterPipeline.candidates`.

        Args:
            fmri: responses of the whole cortex.
            encoder: ranks the candidates.
            sampling: settings of the sampler; the decoder's own when None.
            options: of `NeuroAdapterPipeline.candidates`.
        """
        return self.pipeline.candidates(fmri, encoder, sampling, **options)


def pipeline_of_run(
    workdir: str | Path, *, last: bool = False, subject: int | str | None = None
) -> NeuroAdapterPipeline:
    """The pipeline of a run's best checkpoint, or of its last.

    Args:
        workdir: of the run.
        last: take the last checkpoint instead of the best.
        subject: whose regions and projection bank are taken out of a model of several subjects;
            None for a model of one.

    Raises:
        MissingFileError, InputError: the run is not there or not complete, see `load_run`.
        InputError: no subject, or one that the model was not trained on.
    """
    setup, adapter, step = load_run(workdir, last=last)
    known = [str(each) for each in setup.subjects]
    if subject is None and len(known) > 1:
        raise InputError(
            f"{workdir} is a model of subjects {', '.join(known)}, and a pipeline is for one: "
            f"take it out with `neuroadapter export --run {workdir} --subject {known[0]} "
            f"--out FOLDER`."
        )
    if subject is not None and str(subject) not in known:
        raise InputError(
            f"{workdir} was trained on subjects {', '.join(known)}; {subject} is not among them; "
            "name one of these."
        )
    index = 0 if subject is None else known.index(str(subject))
    if adapter.config.num_subjects > 1:
        adapter = adapter.of_subject(index)
    data = setup.train.parts if isinstance(setup.train, SubjectsDataset) else (setup.train,)
    atlas = setup.regions[index].atlas
    return NeuroAdapterPipeline(
        adapter,
        setup.backbone,
        setup.regions[index],
        backbone_name=setup.settings.backbone,
        sampling=setup.settings.sampling,
        num_candidates=setup.settings.num_candidates,
        provenance={
            "step": step,
            "training": setup.settings.to_dict(),
            "data": dict(data[index].origin.data),
            "parcellation": None if atlas is None else dataclasses.asdict(atlas),
        },
    )


def export_run(
    workdir: str | Path,
    out: str | Path,
    *,
    half: bool = False,
    last: bool = False,
    subject: int | str | None = None,
    scores: str | None = None,
) -> None:
    """Write the pipeline of a run's best checkpoint and a card that says how it came about.

    Args:
        workdir: of the run.
        out: folder to write.
        half: write float16 weights.
        last: take the last checkpoint instead of the best.
        subject: see `pipeline_of_run`.
        scores: Markdown for the card, such as `evaluation.score_table.score_text` gives; None
            leaves them out.

    Raises:
        ExistingFileError: the folder holds files of another model or of someone else.
    """
    pipeline = pipeline_of_run(workdir, last=last, subject=subject)
    pipeline.save_pretrained(out, np.float16 if half else np.float32)
    write_text(Path(out) / CARD, _card(Path(out).name, pipeline, Path(workdir), scores))


class _Timing(TypedDict):
    seconds: float


def training_seconds(workdir: str | Path) -> float:
    """What a training took, the parts before each interruption included.

    Args:
        workdir: of the run.
    """
    path = Path(workdir) / "timing.jsonl"
    return sum(line["seconds"] for line in read_json_lines(path, "seconds of a training", _Timing))


def _card(name: str, pipeline: NeuroAdapterPipeline, workdir: Path, scores: str | None) -> str:
    training, data = pipeline.provenance["training"], pipeline.provenance["data"]
    step = pipeline.provenance["step"]
    losses = {
        line["step"]: line["validation/loss"]
        for line in read_metrics(workdir / "metrics.jsonl")
        if line["kind"] == "evaluation"
    }
    seconds = training_seconds(workdir)
    config = pipeline.adapter.config
    facts = {
        "regions, vertex slots, token width": f"{config.num_regions}, {config.max_vertices}, "
        f"{config.token_width}",
        "backbone": pipeline.backbone_name,
        "subject, surface, normalisation": f"{data['subject']}, {data['space']}, per "
        f"{data['normalize']}",
        "batch size, peak learning rate": f"{training['batch_size']}, {training['learning_rate']}",
        "drop rate of tokens, of all tokens": f"{training['drop_rate']}, {training['drop_all']}",
        "steps trained, step exported": f"{max(losses)}, {step}",
        "validation loss there (Min-SNR, all tokens)": f"{losses[step]:.4f}",
        "minutes of training": f"{seconds / 60:.0f}",
    }
    text = f"# {name}: a NeuroAdapter\n\n{markdown_table(['', ''], facts.items())}"
    if scores is not None:
        text += f"\n{scores}"
    return text + (
        "\nconfig.json holds every setting of the training and the fingerprints of its data.\n"
    )
