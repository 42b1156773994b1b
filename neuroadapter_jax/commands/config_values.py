"""What a config file says, as the arguments of the classes and functions that do the work.

ConfigDicts end here: no module outside `commands` receives one. What is out of its range is refused
under the name that the user typed, such as config.train.gamma.
"""

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from ml_collections import ConfigDict

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, SettingError, check, check_values, named

if TYPE_CHECKING:
    from neuroadapter_jax.datasets.nsd.source import NSDSelection
    from neuroadapter_jax.datasets.nsd.subject import NSDSubject
    from neuroadapter_jax.datasets.prepared.prepare import PreparationSettings
    from neuroadapter_jax.datasets.source import Source
    from neuroadapter_jax.simulation.subject import AnySubjectConfig
    from neuroadapter_jax.training.brain_encoder import EncoderSettings
    from neuroadapter_jax.training.settings import Settings


# Settings that a config keeps in other sections than `train` and `encoder`.
_ELSEWHERE = {
    "prepared": "config.data.prepared",
    "parcellation": "config.data.parcellation",
    "parcels": "config.data.parcels",
}


def plain(section: ConfigDict) -> dict[str, Any]:
    """A section as a dictionary; a list that --config.KEY=None switched off is None."""
    return {key: None if value == (None,) else value for key, value in section.to_dict().items()}


def per_subject(config: ConfigDict) -> list[ConfigDict]:
    """One config per subject of config.data.subjects; the config itself where there is no such key.

    {subject} in data.prepared stands for the subject's number.

    Raises:
        SettingError: subjects that are no numbers, or a name with other words in braces.
    """
    subjects = plain(config.data).get("subjects")
    if subjects is None:
        return [config]
    check("config.data.subjects", subjects, tuple[Count, ...])
    check("config.data.prepared", config.data.prepared, str)
    result = []
    for subject in subjects:
        one = config.copy_and_resolve_references()
        one.data.subject = subject
        try:
            one.data.prepared = config.data.prepared.format(subject=subject)
        except (KeyError, IndexError, ValueError):
            wanted = "a name in which {subject} alone stands in braces"
            raise SettingError("config.data.prepared", config.data.prepared, wanted) from None
        result.append(one)
    return result


def training_settings(config: ConfigDict) -> "Settings":
    """The training settings that a config file spreads over its sections."""
    from neuroadapter_jax.training.settings import Settings

    values = plain(config.train)
    # "uniform", or a number that the command line gave
    with contextlib.suppress(ValueError, TypeError):
        values["drop_rate"] = float(values["drop_rate"])
    folders = [each.data.prepared for each in per_subject(config)]
    with named("config.train.", _ELSEWHERE | {"backbone": "config.backbone"}):
        return Settings.from_dict(
            {
                "prepared": folders if len(folders) > 1 else folders[0],
                "parcellation": config.data.parcellation,
                "parcels": config.data.get("parcels", "own"),
                "backbone": config.backbone,
                **values,
            }
        )


def encoder_settings(config: ConfigDict) -> "EncoderSettings":
    """The settings of a brain encoder's training."""
    from neuroadapter_jax.training.brain_encoder import EncoderSettings

    values = {
        "prepared": config.data.prepared,
        "parcellation": config.data.parcellation,
        "parcels": config.data.get("parcels", "own"),
        **plain(config.encoder),
    }
    with named("config.encoder.", _ELSEWHERE):
        check_values(values, EncoderSettings, "a setting of the brain encoder")
        return EncoderSettings(**values)


def require_keys(config: ConfigDict, keys: Collection[str], shipped: str) -> None:
    """Refuse a config that was written for another command.

    Args:
        config: that the flag --config names.
        keys: those that the command reads.
        shipped: the config of this kind that comes with the package, for the message.

    Raises:
        InputError: a key is lacking.
    """
    if lacking := [key for key in keys if key not in config]:
        raise InputError(
            f"the config has no {lacking[0]!r}, so it is one for another command; expected "
            f"{', '.join(keys)}, as --config {shipped} has them."
        )


def dataset_readers() -> dict[str, type]:
    """The reader of each dataset that `data.dataset` may name."""
    from neuroadapter_jax.datasets.algonauts import Algonauts2023
    from neuroadapter_jax.datasets.bold5000 import BOLD5000
    from neuroadapter_jax.datasets.deeprecon import Deeprecon
    from neuroadapter_jax.datasets.derived import DerivedNSD
    from neuroadapter_jax.datasets.mosaic import Mosaic
    from neuroadapter_jax.datasets.nsd.imagery import NSDImagery
    from neuroadapter_jax.datasets.unseen import SimulatedUnseen

    return {
        "nsd_imagery": NSDImagery,
        "deeprecon": Deeprecon,
        "derived_nsd": DerivedNSD,
        "algonauts2023": Algonauts2023,
        "simulated_unseen": SimulatedUnseen,
        "bold5000": BOLD5000,
        "mosaic": Mosaic,
    }


def open_source(data: ConfigDict, allow_pickle: bool = False) -> "Source":
    """The reader that `data.dataset` names, on `data.reader`.

    Args:
        data: the config's section.
        allow_pickle: whether a reader whose metadata are a pickle may read it.

    Raises:
        MissingFileError: a file of the dataset is missing.
        InputError: there is no such reader, or its files disagree.
    """
    reader, options = _reader_and_options(data)
    if data.dataset == "derived_nsd":
        options["allow_pickle"] = allow_pickle
    with named("config.data.reader."):
        check_values(options, reader, f"a setting of the reader {data.dataset}")
        opened: Source = reader(**options)
        return opened


def fetching_plan(data: ConfigDict) -> tuple[list[str], bool] | None:
    """What the reader that `data.dataset` names lacks, as lines, and whether it is complete.

    None of a reader that has no plan: then `open_source` names the first file that is missing.

    Raises:
        InputError: there is no such reader, or one of its settings is wrong.
    """
    reader, options = _reader_and_options(data)
    if not hasattr(reader, "fetching_plan"):
        return None
    with named("config.data.reader."):
        check_values(options, reader, f"a setting of the reader {data.dataset}")
        plan: tuple[list[str], bool] = reader.fetching_plan(**options)
        return plan


def _reader_and_options(data: ConfigDict) -> tuple[Any, dict[str, Any]]:
    readers = dataset_readers()
    if data.dataset not in readers:
        raise InputError(
            f"data.dataset is {data.dataset!r}; the readers are {', '.join(sorted(readers))}."
        )
    return readers[data.dataset], plain(data.reader)


def open_nsd_subject(data: ConfigDict) -> "NSDSubject":
    """The subject of NSD, or the simulated one, that `data` names."""
    from neuroadapter_jax.datasets.nsd.subject import NSDSubject

    chosen = nsd_selection(data)
    return NSDSubject(data.root, chosen.subject, chosen.space, chosen.beta_version, chosen.sessions)


def nsd_selection(data: ConfigDict) -> "NSDSelection":
    """Which responses and images of NSD, or of the simulated subject, `data` names."""
    from neuroadapter_jax.datasets.nsd.source import NSDSelection

    names = ("subject", "space", "beta_version", "sessions", "normalize", "split", "num_validation")
    values = plain(data)
    with named("config.data."):
        check("root", values["root"], str)
        return NSDSelection(**{name: values[name] for name in names if name in values})


def simulated_subject(data: ConfigDict) -> "AnySubjectConfig | None":
    """What is simulated into data.root; None where its files are real ones.

    data.simulation.noise says which kind of subject: "clean", which is the default, or "nsd_like".

    Raises:
        SettingError: another kind, or a value out of its range.
        InputError: a setting that this kind does not have.
    """
    from neuroadapter_jax.simulation.nsd_like import NSDLikeConfig
    from neuroadapter_jax.simulation.subject import SubjectConfig

    if data.simulation is None:
        return None
    values = plain(data.simulation)
    noise = values.pop("noise", "clean")
    with named("config.data.simulation."):
        check("noise", noise, Literal["clean", "nsd_like"])
        kind = NSDLikeConfig if noise == "nsd_like" else SubjectConfig
        check_values(values, kind, f"a setting of a simulated subject whose noise is {noise}")
        return kind(**values)


def simulated_subjects(data: ConfigDict, config: "AnySubjectConfig | None") -> tuple[int, ...]:
    """The numbers of the subjects that are simulated into data.root; none of real files.

    Args:
        data: the config's section.
        config: what is simulated.

    Raises:
        SettingError: a subject that is not in the cohort, or one that is to be prepared but not
            simulated.
    """
    from neuroadapter_jax.simulation.nsd_like import COHORT, NSDLikeConfig

    if config is None:
        return ()
    known = COHORT if isinstance(config, NSDLikeConfig) else (1,)
    given = plain(data).get("simulated_subjects")
    key = "config.data.simulated_subjects" if given else "config.data.subject"
    numbers = tuple(given or (data.subject,))
    check(key, numbers, tuple[Count, ...])
    if others := [number for number in numbers if number not in known]:
        wanted = f"one of the simulated subjects, {', '.join(map(str, known))}"
        raise SettingError(key, others[0], wanted)
    if data.subject is not None and data.subject not in numbers:
        wanted = f"one that is simulated; config.data.simulated_subjects are {numbers}"
        raise SettingError("config.data.subject", data.subject, wanted)
    return numbers


def simulate(data: ConfigDict) -> None:
    """Simulate the subject of `data` into its root, where `data` says so and it is not there yet.

    With data.simulated_subjects, all these subjects of the cohort are simulated at once.
    """
    from neuroadapter_jax.simulation.cohort_writer import write_cohort
    from neuroadapter_jax.simulation.nsd_like import NSDLikeConfig
    from neuroadapter_jax.simulation.nsd_writer import write_nsd

    config = simulated_subject(data)
    subjects = simulated_subjects(data, config)
    if isinstance(config, NSDLikeConfig):
        write_cohort(data.root, config, subjects)
    elif config is not None:
        write_nsd(data.root, config)


def preparation_settings(config: ConfigDict, **options: bool) -> "PreparationSettings":
    """How the records of a config are prepared.

    Args:
        config: with the sections `data` and `backbone`.
        options: further fields of `PreparationSettings`.
    """
    from neuroadapter_jax.datasets.prepared.prepare import PreparationSettings

    check("config.backbone", config.backbone, str)
    check("config.data.prepared", config.data.prepared, str)
    with named("config.data."):
        return PreparationSettings(image_size=config.data.image_size, **options)


def check_data(config: ConfigDict, allow_pickle: bool = False) -> None:
    """Refuse sections `data` and `backbone` that are out of range, before anything is read.

    Args:
        config: with both.
        allow_pickle: the flag --allow_pickle.

    Raises:
        SettingError: a value that is.
        InputError: the flag, with a dataset that has no pickle.
    """
    if allow_pickle and config.data.get("dataset") != "derived_nsd":
        raise InputError("--allow_pickle has no effect here; data.dataset is not derived_nsd.")
    for one in per_subject(config):
        preparation_settings(one)
        if "dataset" not in one.data:
            nsd_selection(one.data)
            simulated_subjects(one.data, simulated_subject(one.data))


def surface_vertices(data: ConfigDict, allow_pickle: bool = False) -> tuple[int, int] | None:
    """Vertices per hemisphere of the surface that the parcellation must fit.

    None where nothing can be said yet: the subject is still to be simulated, or its regions come
    with the responses.
    """
    if "dataset" in data:
        source = open_source(data, allow_pickle)
        return source.num_vertices if source.regions is None else None
    if data.simulation is not None:
        return None
    return open_nsd_subject(data).num_vertices
