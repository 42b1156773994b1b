"""All wrong commands, and the kinds of mistakes they are."""

from collections import Counter

from wrong_commands.row import Row
from wrong_commands.table_data import PREPARE, ROIS
from wrong_commands.table_publish import PUBLISH
from wrong_commands.table_reconstructions import (
    EVALUATE,
    EVALUATE_ENCODER,
    INTERPRET,
    RECONSTRUCT,
)
from wrong_commands.table_studies import (
    ABLATIONS,
    ATTENTION_TRUTH,
    BENCHMARKS,
    CLAIMS,
    CONVERT,
    DECODERS,
    DEMO,
    DOCTOR,
    FEW_STEPS,
)
from wrong_commands.table_training import DISTILLATIONS, EXPORTS, SHIPPED, TRAIN, TRAIN_ENCODER

KINDS = {
    1: "records of something else than the model's",
    2: "another input or setting for work that was begun",
    3: "not-a-number",
    4: "a setting out of its range",
    5: "hemispheres, sessions or ids exchanged",
    6: "a scheduler or network that is not computed",
    7: "steps that the sampler does not have",
    8: "flags without effect, and numbers that an interface cannot take",
    11: "label files",
    12: "tokenizers",
    13: "damaged files",
    14: "backbones of another architecture",
    15: "atlases as ROI sources",
    17: "files of the user's in the way",
    18: "a first call that fails",
    19: "places where nothing can be written",
    20: "sources and records that changed",
    21: "wrong flags and paths",
    22: "files that reach out of their folder or run code",
}
ROWS: tuple[Row, ...] = (
    *PREPARE, *ROIS, *TRAIN, *EXPORTS, *TRAIN_ENCODER, *RECONSTRUCT, *INTERPRET, *EVALUATE,
    *EVALUATE_ENCODER, *DECODERS, *ABLATIONS, *CLAIMS, *ATTENTION_TRUTH, *BENCHMARKS, *CONVERT,
    *PUBLISH, *SHIPPED, *DEMO, *DOCTOR, *DISTILLATIONS, *FEW_STEPS,
)  # fmt: skip


def chosen_rows() -> tuple[Row, ...]:
    """Every eighth row, and all of a command or a kind of which there are few."""
    commands, kinds, found = Counter(), Counter(), []
    for number, row in enumerate(ROWS):
        commands[row.name] += 1
        kinds[row.kind] += 1
        if number % 8 == 0 or commands[row.name] <= 10 or kinds[row.kind] <= 6:
            found.append(row)
    return tuple(found)
