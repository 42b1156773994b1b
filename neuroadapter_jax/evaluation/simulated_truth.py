"""What images of the simulated subject show, and how much of it reconstructions show as well."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from neuroadapter_jax.evaluation.object_identity import identify_objects, objects_shown
from neuroadapter_jax.evaluation.scene_reader import SceneReader, load_scene_reader, read_scenes
from neuroadapter_jax.metrics.recall import semantic_counts
from neuroadapter_jax.simulation.nsd_writer import load_scenes, load_truth
from neuroadapter_jax.simulation.scenes import Scene

# Per image: what was found, and what there was to find.
Counts = tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]


@dataclasses.dataclass(frozen=True)
class SimulatedTruth:
    """The scenes behind some stimuli, and the reader that finds them in images.

    Attributes:
        categories: category in each slot, -1 for empty.
        scenes: what each stimulus shows.
        reader: reads categories.
    """

    categories: Int[np.ndarray, "b slot"]
    scenes: Sequence[Scene]
    reader: SceneReader

    @classmethod
    def load(cls, root: str | Path, image_ids: Int[np.ndarray, " b"]) -> "SimulatedTruth":
        """The truth of some images.

        Args:
            root: the simulated subject's folder, with truth.npz.
            image_ids: which images, by their 0-based ids.
        """
        categories = load_truth(root)["categories"][image_ids]
        return cls(categories, load_scenes(root, image_ids), load_scene_reader())

    def counts(self, reconstructions: UInt8[np.ndarray, "b y x c"]) -> dict[str, Counts]:
        """How many objects each reconstruction shows, and how many its stimulus shows.

        Args:
            reconstructions: 0..255, one per stimulus, same order.

        Returns:
            "semantic_recall": objects whose category is read at their slot; "object_identity":
            objects that are the nearest of all 48 in their place. Each beside the objects shown.
        """
        read = semantic_counts(read_scenes(self.reader, reconstructions), self.categories)
        objects = objects_shown(self.scenes)
        named = semantic_counts(identify_objects(reconstructions, self.scenes), objects)
        return {"semantic_recall": read[:2], "object_identity": named[:2]}
