"""The flags that several commands have, each defined once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from absl import flags

from neuroadapter_jax.diffusion.sampling import SAMPLERS, SPACINGS, STARTS, Sampling
from neuroadapter_jax.ranges import NonNegative, Positive, Seed, Share, expected, fits, named

_OWN = "the model's own when not given."


class CommandFlags(flags.FlagValues):
    """The flags of one command.

    Attributes:
        arguments: of the command line; config_flags looks for --config.key=value among them.
        required: names of the flags that have to be given.
        rules: of `commands.given`, each raising InputError where the flags break it.
        written_files: flags that name a file to write, not a folder.
    """

    arguments: list[str]
    required: set[str]
    rules: list[Callable[[], None]]
    written_files: set[str]

    def __init__(self, arguments: Sequence[str]):
        super().__init__()
        # Set past FlagValues, which takes attributes for flags.
        self.__dict__["arguments"] = list(arguments)
        self.__dict__["required"] = set()
        self.__dict__["rules"] = []
        self.__dict__["written_files"] = set()

    def require(self, *names: str) -> None:
        """Refuse a command line that does not give these flags."""
        self.required.update(names)
        flags.mark_flags_as_required(names, flag_values=self)


@dataclass(frozen=True)
class SharedFlag:
    """One flag, as it is in every command that has it.

    Attributes:
        define: absl's function of its kind.
        help: one sentence.
        default: None where it may be left out or has to be given.
        options: further arguments of `define`.
        range: see `ranges.check`; None where absl checks it.
    """

    define: Callable[..., Any]
    help: str
    default: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    range: Any = None


_POSITIVE = {"lower_bound": 1}
SAMPLING = {
    "sampler": SharedFlag(
        flags.DEFINE_enum, f"Which sampler; {_OWN}", options={"enum_values": SAMPLERS}
    ),
    "num_steps": SharedFlag(flags.DEFINE_integer, f"Denoising steps; {_OWN}", options=_POSITIVE),
    "guidance_scale": SharedFlag(
        flags.DEFINE_float, f"Of classifier-free guidance, 1 is none; {_OWN}", range=float
    ),
    "start": SharedFlag(
        flags.DEFINE_enum, f"Noise, or a noised grey image; {_OWN}", options={"enum_values": STARTS}
    ),
    "eta": SharedFlag(
        flags.DEFINE_float, f"Noise of the sampler ddim, 0 (none) to 1; {_OWN}", range=Share
    ),
    "spacing": SharedFlag(
        flags.DEFINE_enum,
        f"Which timesteps the steps fall on; {_OWN}",
        options={"enum_values": SPACINGS},
    ),
    "guidance_low": SharedFlag(
        flags.DEFINE_float,
        "Guidance only above this noise level sigma, 0 for no lower end, which saves half of each "
        f"other step; {_OWN}",
        range=NonNegative,
    ),
    "guidance_high": SharedFlag(
        flags.DEFINE_float, f"Guidance only up to this noise level sigma; {_OWN}", range=Positive
    ),
}
GENERAL = {
    "traceback": SharedFlag(
        flags.DEFINE_bool, "Show where in the code an error came from, for a report of it.", False
    ),
    "verbosity": SharedFlag(
        flags.DEFINE_integer, "Log of the libraries: -1 for warnings only, 0 for all.", -1
    ),
}
SHARED = {
    "model": SharedFlag(
        flags.DEFINE_string, "Folder of `neuroadapter export`, or a shipped model's name."
    ),
    "run": SharedFlag(flags.DEFINE_string, "Work folder of `neuroadapter train`."),
    "prepared": SharedFlag(flags.DEFINE_string, "Folder of prepared records."),
    "root": SharedFlag(
        flags.DEFINE_string,
        "Folder of the simulated subject, or of real files in NSD's layout.",
    ),
    "subject": SharedFlag(flags.DEFINE_string, "Number of the subject."),
    "out": SharedFlag(flags.DEFINE_string, "Folder to write."),
    "split": SharedFlag(
        flags.DEFINE_string, "Which images: a split of the prepared records.", "test"
    ),
    "seed": SharedFlag(flags.DEFINE_integer, "Of all random numbers.", 0, range=Seed),
    "batch_size": SharedFlag(
        flags.DEFINE_integer, "Responses per call; more need more memory.", 20, _POSITIVE
    ),
    "images_at_once": SharedFlag(
        flags.DEFINE_integer,
        "Images that a device samples at once, if a call holds more; by default as many as its "
        "memory takes, on a CPU all of a call.",
        None,
        _POSITIVE,
    ),
    "num_images": SharedFlag(
        flags.DEFINE_integer, "The first so many images; all when not given.", None, _POSITIVE
    ),
    "num_candidates": SharedFlag(
        flags.DEFINE_integer, f"Images per response; {_OWN}", None, _POSITIVE
    ),
    "encoder": SharedFlag(
        flags.DEFINE_string, "Brain encoder: a folder of `neuroadapter train-encoder`."
    ),
    "extra_atlases": SharedFlag(flags.DEFINE_list, "Label files beside NSD's own five.", []),
    "label_dir": SharedFlag(
        flags.DEFINE_string,
        "Folder of label files on the surface of the regions, instead of a subject's own in NSD's "
        "layout.",
    ),
    "atlases": SharedFlag(
        flags.DEFINE_list,
        "Label files of --label_dir: NAME stands for lh.NAME.mgz and rh.NAME.mgz.",
        [],
    ),
    "maps": SharedFlag(
        flags.DEFINE_list,
        "ROIs of maps of measurements beside the label files, as NAME=FILE:LOW:HIGH: the vertices "
        "of FILE from LOW to below HIGH, such as fovea=benson14_eccen.v4_0:0:4.",
        [],
    ),
    "meshes": SharedFlag(
        flags.DEFINE_list,
        "LEFT,RIGHT: mesh files of a subject's own surface, which figures then show: FreeSurfer's "
        "lh.inflated,rh.inflated or .surf.gii.",
        [],
    ),
    "workdir": SharedFlag(
        flags.DEFINE_string, "Where the run lives; config.workdir when not given."
    ),
    "log_to": SharedFlag(
        flags.DEFINE_list,
        "What keeps the numbers of the training beside metrics.jsonl: tensorboard, wandb.",
        [],
    ),
    "allow_other": SharedFlag(
        flags.DEFINE_list,
        "What may differ between the data of model, encoder and records: dataset, "
        "subject, space, beta_version, normalize, simulation, backbone.",
        [],
    ),
    "allow_pickle": SharedFlag(
        flags.DEFINE_bool, "Read metadata that are a pickle, as arrays and numbers only.", False
    ),
    "precision": SharedFlag(
        flags.DEFINE_enum,
        "Of the U-Net, and of the encoder that ranks: fp32 or bf16. auto is bf16 on a TPU or a GPU "
        "that has it, where it takes a third of the memory, and fp32 on a CPU.",
        "auto",
        {"enum_values": ("auto", "fp32", "bf16")},
    ),
    "licence": SharedFlag(flags.DEFINE_string, "Of what is written."),
    "results": SharedFlag(
        flags.DEFINE_string, "results.json of `neuroadapter evaluate`, for the card."
    ),
    "dry_run": SharedFlag(flags.DEFINE_bool, "Say what would be done, and do nothing.", False),
    "progress": SharedFlag(flags.DEFINE_bool, "Show progress bars.", True),
    "quick": SharedFlag(flags.DEFINE_bool, "Only what is done in minutes.", False),
    "coordinator": SharedFlag(flags.DEFINE_string, "On several hosts: host:port of process 0."),
    "num_processes": SharedFlag(
        flags.DEFINE_integer, "On several hosts: processes of the whole run.", options=_POSITIVE
    ),
    "process_id": SharedFlag(
        flags.DEFINE_integer,
        "On several hosts: this process's number, from 0.",
        options={"lower_bound": 0},
    ),
}
PROCESSES = ("coordinator", "num_processes", "process_id")


def define_shared(
    values: CommandFlags,
    *names: str,
    required: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    helps: Mapping[str, str] | None = None,
) -> None:
    """Define shared flags of a command.

    Args:
        values: the command's flags.
        names: of `SHARED`, `SAMPLING` or `GENERAL`, in the order of the help.
        required: those of `names` without which the command does not start.
        defaults: where the command's differ from the shared ones.
        helps: where more can be said in this command.
    """
    defaults, helps = defaults or {}, helps or {}
    for name in names:
        shared = ({**SHARED, **SAMPLING, **GENERAL})[name]
        shared.define(
            name,
            default=defaults.get(name, shared.default),
            help=helps.get(name, _help(shared, name in defaults)),
            flag_values=values,
            **shared.options,
        )
        if shared.range is not None:
            within(values, name, shared.range)
    values.require(*required)


def within(values: CommandFlags, name: str, hint: Any) -> None:
    """Refuse a number, or a list of which one, is out of a flag's range; see `ranges.check`."""
    flags.register_validator(
        name,
        lambda value: value is None or fits(value, hint),
        message=f"expected {expected(hint)}",
        flag_values=values,
    )


def _help(shared: SharedFlag, has_default: bool) -> str:
    """The flag's help, which speaks of the model's own setting only where that is the default."""
    return shared.help.replace(f"; {_OWN}", ".") if has_default else shared.help


def define_sampling(values: CommandFlags, **defaults: Any) -> None:
    """Define the group of flags that makes a `Sampling`.

    Args:
        values: the command's flags.
        defaults: settings that the command has where the user gives none; the others are the
            model's own.
    """
    define_shared(values, *SAMPLING, defaults=defaults)


def sampling_from(values: CommandFlags, default: Sampling) -> Sampling:
    """The settings that the flags give, and those of `default` for the rest.

    Raises:
        SettingError: settings that do not go together.
    """
    with named("--"):
        return default.replace(**{name: values[name].value for name in SAMPLING})
