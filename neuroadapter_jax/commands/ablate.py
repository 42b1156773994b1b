"""Train, reconstruct and score the paper's ablations.

    neuroadapter ablate --config ablation
    neuroadapter ablate --config ablation --config.ablation.seeds="(0,)" --out runs/ablation

Each training and each reconstruction is a separate command, printed before it runs; the same
command goes on where a killed one stopped. All variants of one seed come first, then the table,
then the next seed. --config.train.* and --config.data.* go to every training; --config.ablation.*
are for this command itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
from ml_collections.config_flags import get_config_filename, get_override_values

from neuroadapter_jax.commands import train_encoder
from neuroadapter_jax.commands.config_values import (
    check_data,
    encoder_settings,
    plain,
    training_settings,
)
from neuroadapter_jax.commands.configs import define_config, load_config
from neuroadapter_jax.commands.given import require_folder
from neuroadapter_jax.commands.runner import parse
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.commands.stages import run_stage
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import SettingError, check_values, named

if TYPE_CHECKING:
    from neuroadapter_jax.studies.ablation import AblationPlan


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "out",
        defaults={"out": "runs/ablation"},
        helps={"out": "Folder for all runs, results.json and tables.md."},
    )  # fmt: skip


def variant_of(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The training configuration that FILE:name and a seed give."""
    variant = config.copy_and_resolve_references()
    with variant.ignore_type():
        changes = config.ablation.variants[name]
        if unknown := sorted(set(changes) - set(variant.train)):
            raise InputError(
                f"config.ablation.variants.{name} has {unknown[0]!r}, which is no key of "
                "config.train; expected settings of the training alone."
            )
        variant.train.update(changes)
    variant.train.seed = seed
    return variant


def check_encoder(plan: "AblationPlan", data: Sequence[str], workdir: Path) -> None:
    """Refuse an encoder, or the config of one, with which the ablation could not end.

    Args:
        plan: with the encoder, or the config that it is to be trained with.
        data: flags --config.data.KEY=VALUE, which go to its training.
        workdir: of that training.

    Raises:
        InputError: there is no such folder or file, or a setting of it is wrong.
    """
    from neuroadapter_jax.training.brain_encoder import check_encoders_before_preparing

    if plan.encoder is not None:
        require_folder("config.ablation.encoder", "encoder", Path(plan.encoder))
        return
    key, file = "config.ablation.encoder_config", plan.encoder_config
    try:
        config = load_config(file)
    except InputError as error:
        raise InputError(f"{key} is {file}: {error}") from None
    if "encoder" not in config:
        raise InputError(
            f"{key} is {file}, which has no section `encoder`; name a config that has, such as "
            "encoder_demo."
        )
    command = ["--config", file, *data, "--workdir", str(workdir)]
    config = parse("train-encoder", train_encoder, command)[0].config
    settings = encoder_settings(config)
    check_data(config)
    if not (workdir / "model").exists():
        with named("config.encoder."):
            check_encoders_before_preparing(settings, workdir)


def check_sampling(plan: "AblationPlan", config: ConfigDict) -> None:
    """Refuse steps of the reconstructions that the backbone does not have.

    Raises:
        InputError: so it is.
    """
    from neuroadapter_jax.diffusion.samplers import plan as sampling_plan
    from neuroadapter_jax.diffusion.weights import load_schedule

    schedule = load_schedule(config.backbone)
    if plan.num_steps > (most := schedule.num_train_timesteps):
        wanted = f"at most {most}, the timesteps of {config.backbone}"
        raise SettingError("config.ablation.num_steps", plan.num_steps, wanted)
    own = training_settings(config).sampling
    with named("config.ablation."):
        sampling = own.replace(sampler=plan.sampler, num_steps=plan.num_steps)
    sampling_plan(schedule, sampling)


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.studies.ablation import AblationPlan, run_ablation
    from neuroadapter_jax.training.train import check_before_preparing

    config, file, out = values.config, get_config_filename(values["config"]), Path(values.out)
    if ":" in file:
        raise InputError(f"--config is {file}; name the file alone, all its variants run.")
    if "ablation" not in config:
        raise InputError(f"{file} has no section `ablation`; give a config that has, ablation.")
    with named("config.ablation."):
        check_values(plain(config.ablation), AblationPlan, "a setting of the ablation")
        plan = AblationPlan(**plain(config.ablation))
    check_data(config)
    check_sampling(plan, variant_of(config, "full", plan.seeds[0]))
    overrides = [
        f"--config.{key}={value}"
        for key, value in get_override_values(values["config"]).items()
        if not key.startswith("ablation.")
    ]
    data = [each for each in overrides if each.startswith("--config.data.")]
    check_encoder(plan, data, out / "encoder")

    def check_run(name: str, seed: int, folder: Path) -> None:
        check_before_preparing(training_settings(variant_of(config, name, seed)), folder)

    run_ablation(
        plan,
        file,
        overrides,
        out,
        prepared=config.data.prepared,
        simulated=config.data.root if config.data.simulation is not None else None,
        check_run=check_run,
        run_stage=run_stage,
    )
    print(f"Table: {out / 'tables.md'}; scores: {out / 'results.json'}")
