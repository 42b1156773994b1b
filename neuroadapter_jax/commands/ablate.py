"""Train, reconstruct and score the paper's ablations.

    neuroadapter ablate --config ablation
    neuroadapter ablate --config ablation --config.ablation.seeds="(0,)" --out runs/ablation

Each training and each reconstruction is a separate command, printed before it runs; the same
command goes on where a killed one stopped. All variants of one seed come first, then the table,
then the next seed. --config.train.* and --config.data.* go to every training; --config.ablation.*
are for this command itself.
"""

from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_flags import get_config_filename, get_override_values

from neuroadapter_jax.commands.config_values import check_data, plain, training_settings
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.commands.stages import run_stage
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import check_values, named


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

    def check_run(name: str, seed: int, folder: Path) -> None:
        check_before_preparing(training_settings(variant_of(config, name, seed)), folder)

    run_ablation(
        plan,
        file,
        [
            f"--config.{key}={value}"
            for key, value in get_override_values(values["config"]).items()
            if not key.startswith("ablation.")
        ],
        out,
        prepared=config.data.prepared,
        simulated=config.data.root if config.data.simulation is not None else None,
        check_run=check_run,
        run_stage=run_stage,
    )
    print(f"Table: {out / 'tables.md'}; scores: {out / 'results.json'}")
