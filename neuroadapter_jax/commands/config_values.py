"""What a config file says, as the arguments of the classes and functions that do the work.

ConfigDicts end here: no module outside `commands` receives one.
"""

import contextlib
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from neuroadapter_jax.errors import InputError

if TYPE_CHECKING:
    from neuroadapter_jax.datasets.nsd.subject import NSDSubject
    from neuroadapter_jax.datasets.source import Source
    from neuroadapter_jax.training.brain_encoder import EncoderSettings
    from neuroadapter_jax.training.settings import Settings


def per_subject(config: ConfigDict) -> list[ConfigDict]:
    """One config per subject of config.data.subjects; the config itself where there is no such key.

    {subject} in data.prepared stands for the subject's number.
    """
    if config.data.get("subjects") is None:
        return [config]
    result = []
    for subject in config.data.subjects:
        one = config.copy_and_resolve_references()
        one.data.subject = subject
        one.data.prepared = config.data.prepared.format(subject=subject)
        result.append(one)
    return result


def training_settings(config: ConfigDict) -> "Settings":
    """The training settings that a config file spreads over its sections."""
    from neuroadapter_jax.training.settings import Settings

    values = config.train.to_dict()
    with contextlib.suppress(ValueError):  # "uniform", or a number that the command line gave
        values["drop_rate"] = float(values["drop_rate"])
    folders = [each.data.prepared for each in per_subject(config)]
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

    return EncoderSettings(
        prepared=config.data.prepared,
        parcellation=tuple(config.data.parcellation),
        parcels=config.data.get("parcels", "own"),
        **config.encoder.to_dict(),
    )


def dataset_readers() -> dict[str, type]:
    """The reader of each dataset that `data.dataset` may name."""
    from neuroadapter_jax.datasets.algonauts import Algonauts2023
    from neuroadapter_jax.datasets.deeprecon import Deeprecon
    from neuroadapter_jax.datasets.derived import DerivedNSD
    from neuroadapter_jax.datasets.nsd.imagery import NSDImagery

    return {
        "nsd_imagery": NSDImagery,
        "deeprecon": Deeprecon,
        "derived_nsd": DerivedNSD,
        "algonauts2023": Algonauts2023,
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
    readers = dataset_readers()
    if data.dataset not in readers:
        raise InputError(
            f"data.dataset is {data.dataset!r}; the readers are {', '.join(sorted(readers))}."
        )
    options = data.reader.to_dict()
    if data.dataset == "derived_nsd":
        options["allow_pickle"] = allow_pickle
    return readers[data.dataset](**options)


def open_nsd_subject(data: ConfigDict) -> "NSDSubject":
    """The subject of NSD, or the simulated one, that `data` names."""
    from neuroadapter_jax.datasets.nsd.subject import NSDSubject

    return NSDSubject(data.root, data.subject, data.space, data.beta_version, data.get("sessions"))


def nsd_selection(data: ConfigDict) -> dict[str, Any]:
    """The arguments of `NSDSelection`."""
    return {
        "subject": data.subject,
        "space": data.space,
        "beta_version": data.beta_version,
        "sessions": data.get("sessions"),
        "normalize": data.normalize,
        "split": data.get("split", "shared"),
        "num_validation": data.num_validation,
    }


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
