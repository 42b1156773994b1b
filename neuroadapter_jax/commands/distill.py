r"""Distil a model into one that samples in 1 to 4 steps.

    neuroadapter distill --config distill
    neuroadapter distill --config distill --config.model=runs/demo/model \
        --config.prepared=runs/simulated/prepared --config.export=runs/demo/distilled

Latent consistency distillation with the guidance folded in, as a LoRA on the frozen U-Net. The
result is a model's folder with lora.safetensors beside adapter.safetensors, which samples by the
sampler lcm; every command takes it as --model, and diffusers reads the LoRA. The same command goes
on after an interruption. docs/few-steps.md says what is gained and what is lost.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from neuroadapter_jax.commands.config_values import plain, require_keys
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.given import require_folder, require_writable
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import ExistingFileError
from neuroadapter_jax.ranges import check, check_values, named

if TYPE_CHECKING:
    from neuroadapter_jax.training.distillation import DistillationSettings


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(values, "workdir", "log_to")


def distillation_settings(config: ConfigDict) -> "DistillationSettings":
    """The settings of a config's section `distillation`."""
    from neuroadapter_jax.training.distillation import DistillationSettings

    section = plain(config.distillation)
    with named("config.distillation."):
        check_values(section, DistillationSettings, "a setting of the distillation")
        return DistillationSettings(**section)


def main(values: CommandFlags, arguments: list[str]) -> None:
    config = values.config
    require_keys(config, ("model", "prepared", "export", "workdir", "distillation"), "distill")
    settings = distillation_settings(config)
    with named("config."):
        for key in ("model", "prepared", "export", "workdir"):
            check(key, config[key], str)
    workdir, export = Path(values.workdir or config.workdir), Path(config.export)
    require_folder("config.model", "model", Path(config.model))
    require_folder("config.prepared", "prepared", Path(config.prepared))
    for key, place in (("config.workdir", workdir), ("config.export", export)):
        require_writable(key, place)
        for other in (Path(config.model), Path(config.prepared)):
            if place.resolve() == other.resolve():
                raise ExistingFileError(f"{key} is {place}, which is read; name another folder.")
    if workdir.resolve() == export.resolve():
        raise ExistingFileError(
            f"config.workdir and config.export are both {export}, where they would replace each "
            "other's files; name another folder for one of them."
        )
    use_cpu_cores(1)

    import numpy as np

    from neuroadapter_jax.decoders.distilled import card, distill, student_provenance
    from neuroadapter_jax.files import write_text
    from neuroadapter_jax.pipeline import NeuroAdapterPipeline
    from neuroadapter_jax.pipeline.saving import CARD, refuse_other_model

    pipeline = NeuroAdapterPipeline.from_pretrained(config.model)
    refuse_other_model(export, student_provenance(pipeline, settings))
    with named("config.distillation."):
        student = distill(
            pipeline,
            config.prepared,
            workdir,
            settings,
            progress=config.progress,
            log_to=values.log_to,
        )
    student.save_pretrained(export, np.float16)
    write_text(export / CARD, card(export.name, config.model, student, workdir))
    print(f"Distilled: {export}. Next: neuroadapter reconstruct --model {export}")
