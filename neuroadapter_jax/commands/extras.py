"""The extras of the package: what each is for, and which modules it brings."""

from typing import NamedTuple


class Extra(NamedTuple):
    """One extra of setup.py.

    Attributes:
        purpose: what needs it, as "to ..." or "for ...".
        modules: what it brings, as they are imported.
    """

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "prepare": Extra(
        "for tf.data on the records; preparing and training do without", ("tensorflow",)
    ),
    "pytorch": Extra(
        "to read and write the released PyTorch checkpoints, and for the published metrics",
        ("torch", "torchvision", "transformers", "diffusers"),
    ),
    "tensorboard": Extra("for TensorBoard logs of a training", ("tensorboardX",)),
    "wandb": Extra("for the logs of a training in Weights & Biases", ("wandb",)),
    "cuda": Extra("to compute on NVIDIA GPUs", ("jax_cuda13_plugin",)),
}


def extra_of(module: str) -> str | None:
    """The extra that brings a module; None where none does."""
    top = module.partition(".")[0]
    return next((name for name, extra in EXTRAS.items() if top in extra.modules), None)
