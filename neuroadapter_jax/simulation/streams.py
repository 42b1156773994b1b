"""Random numbers by name: every part of a simulation draws from a stream of its own."""

import zlib

import numpy as np


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """The generator of SeedSequence(seed, spawn_key=(crc32(name), *index)).

    So no part's numbers depend on how many another part has drawn, and subject 5 is the same
    whether or not subject 2 is simulated too.

    Args:
        seed: of the simulation.
        name: what the numbers are for.
        index: such as subject and session.
    """
    key = (zlib.crc32(name.encode()), *index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
