"""How many images each piece of the study takes."""

from dataclasses import dataclass

from neuroadapter_jax.ranges import Count, Seed, check_fields


@dataclass(frozen=True)
class AttentionTruthSettings:
    """How many images each part of the study takes.

    Attributes:
        num_images: test images.
        num_ranked: of these, for the effect of every region.
        num_ordered: of those, for deletion and insertion.
        num_replaced: for replacing the responses of a category's ROI.
        num_moved: for what early and category ROIs change.
        num_random: matched random sets that each image has beside each silenced ROI, of 20 that
            take turns.
        batch_size: images per call.
        seed: of noise, random sets and bootstrap.
        allow_other: what may differ between the data of the model and of the records; see
            `datasets.belonging.made_for`.
    """

    num_images: Count = 200
    num_ranked: Count = 40
    num_ordered: Count = 16
    num_replaced: Count = 60
    num_moved: Count = 30
    num_random: Count = 2
    batch_size: Count = 40
    seed: Seed = 0
    allow_other: tuple[str, ...] = ()

    def __post_init__(self):
        check_fields(self)
