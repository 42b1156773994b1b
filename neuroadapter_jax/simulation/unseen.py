"""What subjects see, and imagine, beside the main experiment: test sets that nothing trains on.

The experiment "unseen" has four sets of `num_unseen` images each, shown three times:

* `unseen_objects`: all objects are among the six that the main experiment never shows;
* `new_combinations`: known objects, before the one place where it never shows them;
* `same_category`: two different objects of one category;
* `localizer`: single objects on grey, held-out ones among them.

The experiment "imagery" has the form of NSD-Imagery: twelve targets that are seen and imagined, and
six concepts. Set A are single objects on grey, a known one of each category; set B five test images
of the main experiment and a scene of held-out objects; set C the six categories, shown by changing
single objects on grey.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Int

from neuroadapter_jax.simulation.nsd_files import Design
from neuroadapter_jax.simulation.nsd_like import COHORT, NSDLikeConfig
from neuroadapter_jax.simulation.scenes import (
    BLANK,
    CATEGORIES,
    Scene,
    render_scenes,
)
from neuroadapter_jax.simulation.streams import stream
from neuroadapter_jax.simulation.subject import Subject
from neuroadapter_jax.simulation.unseen_scenes import (
    KNOWN_OBJECTS,
    known_scene_of_sequence,
    localizer_scenes,
    new_combination_scene,
    same_category_scene,
    single_object_scene,
    unseen_objects_scene,
)

UNSEEN_SETS = ("unseen_objects", "new_combinations", "same_category", "localizer")
UNSEEN_SESSIONS = 4
# Signal of an imagined scene over that of a seen one. The order is published: imagery carries less
# signal than vision, least in early areas and more along the ventral stream (Lee, Kravitz and Baker
# 2012, doi:10.1016/j.neuroimage.2011.10.055, whose gradients of decoding for seen and imagined
# objects are opposite; Breedlove et al. 2020, doi:10.1016/j.cub.2020.04.014). The values are ours.
IMAGERY_GAIN = {"V1": 0.15, "V2": 0.2, "V3": 0.25, "hV4": 0.35}
HIGHER_IMAGERY_GAIN = 0.6
# NSD-Imagery's letters, see `datasets.nsd.imagery`: in its order, the targets of sets A, B and C.
IMAGERY_LETTERS = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
_EXEMPLARS = 8


def make_designs(config: NSDLikeConfig) -> dict[int, Design]:
    """The main experiment of each subject of the cohort; trials are the same, images their own.

    The repeats of an image lie anywhere, but special images are seen thrice within the first three
    quarters of the sessions, and other shared ones not before the last quarter.
    """
    rng = stream(config.seed, "design")
    own = config.num_images - config.num_shared
    ids = rng.permutation(config.num_shared + len(COHORT) * own)
    shared = np.sort(ids[: config.num_shared])
    rest = np.split(ids[config.num_shared :], len(COHORT))

    special = np.sort(rng.choice(config.num_shared, config.num_special, replace=False))
    free = np.setdiff1d(np.arange(config.num_shared), special)
    early = config.trials_per_session * (config.num_sessions * 3 // 4)
    if early < 3 * len(special) or config.num_trials - early < len(free):
        early = max(3 * len(special), config.num_trials - config.num_trials // 4)
    ten_k = np.full(config.num_trials, -1)
    first, last = rng.permutation(early), early + rng.permutation(config.num_trials - early)
    ten_k[first[: 3 * len(special)]] = np.repeat(special, 3)
    ten_k[last[: len(free)]] = free
    left = np.concatenate(
        [np.repeat(free, 2), np.repeat(np.arange(config.num_shared, config.num_images), 3)]
    )
    ten_k[ten_k < 0] = rng.permutation(left)
    return {
        number: Design(ten_k, np.concatenate([shared, images]), shared)
        for number, images in zip(COHORT, rest, strict=True)
    }


def special_images(config: NSDLikeConfig) -> Int[np.ndarray, " special"]:
    """Ids of the test images of the main experiment, ascending."""
    design = make_designs(config)[COHORT[0]]
    early = config.trials_per_session * (config.num_sessions * 3 // 4)
    ids, counts = np.unique(design.images[:early], return_counts=True)
    return np.intersect1d(ids[counts == 3], design.shared)


def unseen_scenes(config: NSDLikeConfig) -> list[Scene]:
    """The images of the experiment "unseen", set by set."""
    kinds: dict[str, Callable[[np.random.Generator], Scene]] = {
        "unseen_objects": unseen_objects_scene,
        "new_combinations": new_combination_scene,
        "same_category": same_category_scene,
    }
    num = config.num_unseen
    scenes = [
        kind(stream(config.seed, name, i)) for name, kind in kinds.items() for i in range(num)
    ]
    return scenes + localizer_scenes(num, stream(config.seed, "localizer"))


def unseen_design(config: NSDLikeConfig) -> Design:
    """Three passes through all images of the experiment "unseen", the same for all subjects."""
    rng = stream(config.seed, "unseen design")
    ids = np.arange(len(UNSEEN_SETS) * config.num_unseen)
    return Design(np.concatenate([rng.permutation(ids) for _ in range(3)]), ids, ids)


def imagery_scenes(config: NSDLikeConfig) -> list[Scene]:
    """The targets of NSD-Imagery's 18 conditions; those of set C show nothing."""
    rng = stream(config.seed, "imagery targets")
    simple = []
    for category in CATEGORIES:
        known = [item for item in KNOWN_OBJECTS if item.category == category]
        simple.append(single_object_scene(rng, known[rng.integers(len(known))]))
    natural = [known_scene_of_sequence(config.seed, int(i)) for i in special_images(config)[:5]]
    nothing = Scene(BLANK, BLANK, BLANK, ())
    return [*simple, *natural, unseen_objects_scene(rng), *(nothing for _ in CATEGORIES)]


EXPERIMENTS: dict[str, Callable[[NSDLikeConfig], list[Scene]]] = {
    "unseen": unseen_scenes,
    "imagery": imagery_scenes,
}


def imagery_gain(subject: Subject) -> Float[np.ndarray, " m"]:
    """Signal of imagery over that of vision per responsive vertex; around areas, as it is mixed."""
    names = subject.roi[subject.responsive]
    areas = [str(name).removesuffix("v").removesuffix("d") for name in names]
    gain = np.array([IMAGERY_GAIN.get(area, HIGHER_IMAGERY_GAIN) for area in areas])
    if subject.spread is None:
        return gain
    weights = abs(subject.spread)
    return (weights @ gain) / weights.sum(axis=1)


def imagery_signals(
    subject: Subject, config: NSDLikeConfig
) -> tuple[Float32[np.ndarray, "18 8 m"], Float32[np.ndarray, "18 8 m"]]:
    """Noise-free responses to 8 presentations of each condition: seen, and imagined.

    Concepts are seen as eight objects of the category and imagined as their mean.
    """
    seen = np.repeat(subject.signal(render_scenes(imagery_scenes(config)))[:, None], 8, axis=1)
    rng = stream(config.seed, "exemplars of concepts")
    for k, category in enumerate(CATEGORIES):
        known = [item for item in KNOWN_OBJECTS if item.category == category]
        scenes = [
            single_object_scene(rng, known[int(i)])
            for i in rng.permutation(np.arange(_EXEMPLARS) % len(known))
        ]
        seen[12 + k] = subject.signal(render_scenes(scenes))
    imagined = np.repeat(seen.mean(axis=1, keepdims=True), 8, axis=1)
    return seen, (imagined * imagery_gain(subject)).astype(np.float32)
