"""Try the paper's claims on a subject as noisy as NSD's.

    neuroadapter claims --config claims
    neuroadapter claims --config claims --cells full,p20 --max_minutes 120
    neuroadapter claims --config claims --list
    neuroadapter claims --config claims --report

The study is cut into cells: trainings of the ablation's rows over seeds, and measurements of their
adapters. Each takes less than 90 minutes on one core and leaves a small JSON file in --ledger, a
folder that is kept with the project, so the study goes on from what is there on any machine. A cell
of other settings or other data is refused. --report makes the page and its figures from the cells
that there are. --config.train.* and --config.data.* go to every training; docs/claims.md explains.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import get_config_filename

from neuroadapter_jax.commands.config_values import (
    check_data,
    encoder_settings,
    plain,
    training_settings,
)
from neuroadapter_jax.commands.configs import define_config, load_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared, within
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Positive, SettingError, check_values, named

if TYPE_CHECKING:
    from neuroadapter_jax.studies.claims import ClaimsPlan


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "out",
        defaults={"out": "runs/claims"},
        helps={"out": "Folder for networks and unfinished work."},
    )  # fmt: skip
    flags.DEFINE_string(
        "ledger", "docs/claims/cells", "Folder of the cells' files, kept with the project.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "page", "docs/claims.md", "Page that --report writes; its figures go to images/ beside it.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_list(
        "cells", [], "Only these: full-seed0, or all of a row or a measurement: full, unseen.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "max_minutes", None, "Begin no cell after so many minutes.", flag_values=values
    )
    within(values, "max_minutes", Positive)
    flags.DEFINE_bool("list", False, "Say which cells are missing, and stop.", flag_values=values)
    flags.DEFINE_bool(
        "report", False, "Make the page from the cells that there are, and stop.",
        flag_values=values,
    )  # fmt: skip


def plan_of(config: ConfigDict, file: str) -> "ClaimsPlan":
    """The plan that a config says, the settings of every training among it.

    Args:
        config: with the section `claims`.
        file: its name, for messages.

    Raises:
        InputError: the config has no such section, or a setting is wrong.
    """
    from neuroadapter_jax.diffusion.weights import load_schedule
    from neuroadapter_jax.studies.claims import ClaimsPlan

    if ":" in file:
        raise InputError(f"--config is {file}; name the file alone, all its rows run.")
    if "claims" not in config:
        raise InputError(f"{file} has no section `claims`; give a config that has, claims.")
    check_data(config)
    own = plain(config.claims)
    rows = {name: training_settings(_row(config, name, own["rows"][name])) for name in own["rows"]}
    encoder = load_config(own.pop("encoder_config"))
    if "encoder" not in encoder:
        raise InputError(
            "config.claims.encoder_config names a config without a section `encoder`; name one "
            "that has, such as encoder_demo."
        )
    encoder.data = config.data
    values = own | {"rows": rows, "encoder": encoder_settings(encoder)}
    with named("config.claims."):
        check_values(values, ClaimsPlan, "a setting of the claims")
        plan = ClaimsPlan(**values)
    if plan.num_steps > (most := load_schedule(config.backbone).num_train_timesteps):
        wanted = f"at most {most}, the timesteps of {config.backbone}"
        raise SettingError("config.claims.num_steps", plan.num_steps, wanted)
    return plan


def _row(config: ConfigDict, name: str, changes: dict[str, Any]) -> ConfigDict:
    """The training configuration of one row."""
    row = config.copy_and_resolve_references()
    if unknown := sorted(set(changes) - set(row.train)):
        raise InputError(
            f"config.claims.rows.{name} has {unknown[0]!r}, which is no key of config.train; "
            "expected settings of the training alone."
        )
    with row.ignore_type():
        row.train.update(changes)
    return row


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.commands.prepare import prepare_records
    from neuroadapter_jax.studies.claims import read_cells, run_claims
    from neuroadapter_jax.studies.claims.report import write_report
    from neuroadapter_jax.studies.claims.run import Places, chosen_cells, list_cells

    config, ledger, out = values.config, Path(values.ledger), Path(values.out)
    plan = plan_of(config, get_config_filename(values["config"]))
    chosen_cells(plan, values.cells)
    if values.list or values.report:
        found = read_cells(ledger, plan)
        if values.report:
            write_report(plan, found, Path(values.page))
            print(f"Written: {values.page}")
        print(list_cells(plan, found))
        return
    prepare_records(config)

    def prepared(which: str) -> Path:
        other = load_config(f"nsd_like:{which}")
        other.data.reader.root = config.data.root
        other.data.reader.subject = config.data.subject
        other.data.prepared = str(out / "data" / which)
        return prepare_records(other)

    sets = {which: lambda which=which: prepared(which) for which in ("unseen", "imagery")}
    places = Places(Path(config.data.root), ledger, out, sets)
    found = run_claims(plan, places, out, values.cells, values.max_minutes)
    print(list_cells(plan, found))
