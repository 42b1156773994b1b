"""Score reconstructions, or compare two scored folders.

    neuroadapter evaluate FOLDER --convention neuroadapter --weights DIR
    neuroadapter evaluate --compare FOLDER FOLDER --out DIR
    neuroadapter evaluate FOLDER --permuted FOLDER --model DIR --prepared DIR --root DIR
    neuroadapter evaluate all_recons.pt --stimuli all_images.pt --image_ids ids.txt --out DIR

Scores go into the folder: results.json, per_image.csv and results.md. The second compares two
scored folders, image by image. The third says more of the simulated subject, whose truth is known.
The fourth scores what others made: a file of images (.pt, .npy, .safetensors; [b, 3, y, x], floats
in 0..1 or 8 bits) or a folder of pictures named by their image ids, beside such stimuli or beside
prepared records (--prepared). Sizes may differ: the convention says what is resized to what.
The networks of AlexNet, Inception, CLIP, EfficientNet and SwAV need the extra `pytorch` and their
weights: files under their published names in --weights, in PyTorch's or the Hub's cache, or fetched
with --download (2 GB). A metric whose network is not there is reported as missing.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import CONVENTIONS
from neuroadapter_jax.commands.given import (
    SIMULATED,
    excludes,
    holds,
    is_given,
    must_exist,
    needs,
)
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import InputError, MissingFileError

ARGUMENTS = "FOLDER_OR_FILE [FOLDER]"
_ELSEWHERE = ("stimuli", "image_ids", "blurry")


def define(values: CommandFlags) -> None:
    flags.DEFINE_enum(
        "convention", "mindeye", CONVENTIONS, "Whose preprocessing and orientation.",
        flag_values=values,
    )  # fmt: skip
    for name, help in {
        "permuted": "With --root: folder reconstructed with --permute_responses.",
        "weights": "Folder of the feature networks' weights.",
        "stimuli": "Of images made elsewhere: the stimuli, a file of images or a folder.",
        "image_ids": "Of images made elsewhere: a file with the image id of each.",
        "blurry": "MindEye2's blurry images, mixed in by a quarter as its evaluation does.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    for name, help in {
        "download": "Fetch weights that are not here.",
        "set_level": "Identify whole sets of candidates as well.",
        "compare": "Compare two scored folders.",
    }.items():
        flags.DEFINE_bool(name, False, help, flag_values=values)
    define_shared(
        values, "model", "prepared", "root", "split", "out",
        helps={
            "model": "With --root: whose regions a linear readout sees.",
            "prepared": "Prepared records that the folder has to show exactly.",
            "root": "The simulated subject's folder; needs --prepared.",
            "out": "With --compare: folder for comparison.json and .md. Of images made "
            "elsewhere: folder for the scores.",
            "split": "Of images made elsewhere: which split of --prepared they show.",
        },
    )  # fmt: skip
    needs(values, "root", "prepared")
    needs(values, "permuted", "root")
    needs(values, "model", "root")
    scoring = ("convention", "weights", "download", "set_level", "prepared", "root", *_ELSEWHERE)
    excludes(values, "compare", *scoring)
    holds(values, "root", *SIMULATED)
    excludes(values, "stimuli", "prepared")
    must_exist(values, "permuted", "weights", *_ELSEWHERE)


def main(values: CommandFlags, arguments: list[str]) -> None:
    if len(arguments) != (2 if values.compare else 1):
        raise InputError(
            f"found {len(arguments)} folders; name one folder of reconstructions, or two with "
            "--compare."
        )

    elsewhere = not values.compare and _check_elsewhere(values, arguments[0])
    for folder in [] if elsewhere else arguments:
        if not Path(folder).is_dir():
            found = "a file" if Path(folder).exists() else "not there"
            raise MissingFileError(
                f"{folder} is {found}; expected a folder of `neuroadapter reconstruct`, a folder "
                "of pictures, or a file of images (.pt, .npy, .safetensors)."
            )

    from neuroadapter_jax.evaluation.features import check_weights
    from neuroadapter_jax.evaluation.results import compare_folders, summary_lines
    from neuroadapter_jax.evaluation.score_folder import score_folder

    if values.compare:
        print(compare_folders(arguments[0], arguments[1], values.out), end="")
        if values.out is not None:
            print(f"Differences: {Path(values.out) / 'comparison.json'}, comparison.md")
        return
    if values.weights is not None:
        check_weights(Path(values.weights))
    if elsewhere:
        from neuroadapter_jax.evaluation.foreign import ForeignSource, score_foreign

        source = ForeignSource(
            arguments[0],
            values.image_ids,
            values.stimuli,
            values.prepared,
            values.split,
            values.blurry,
        )
        options = {"weights": values.weights, "download": values.download}
        results = score_foreign(source, values.out, convention=values.convention, **options)
        for line in summary_lines(results):
            print(line)
        print(f"Scores: {Path(values.out) / 'results.json'}, per_image.csv, results.md")
        return
    results = score_folder(
        arguments[0],
        convention=values.convention,
        prepared=values.prepared,
        root=values.root,
        model=values.model,
        permuted=values.permuted,
        weights=values.weights,
        download=values.download,
        set_level=values.set_level,
    )
    for line in summary_lines(results):
        print(line)
    print(f"Scores: {Path(arguments[0]) / 'results.json'}, per_image.csv, results.md")


def _check_elsewhere(values: CommandFlags, source: str) -> bool:
    """Whether the images were made elsewhere; refuses flags that do not go with what is named."""
    from neuroadapter_jax.evaluation.foreign import is_made_elsewhere

    if not is_made_elsewhere(source):
        if is_given(values, "out"):
            raise InputError(
                f"--out has no effect for {source}, whose scores go into itself; leave it out, "
                "give --compare and two folders, or name a file of images or a folder of pictures."
            )
        if wrong := [x for x in (*_ELSEWHERE, "split") if is_given(values, x)]:
            raise InputError(
                f"--{wrong[0]} is for images made elsewhere, and {source} is no file of images and "
                "no folder of pictures without index.json; leave it out, or check the path."
            )
        return False
    if wrong := [x for x in ("root", "model", "permuted", "set_level") if is_given(values, x)]:
        raise InputError(
            f"--{wrong[0]} has no effect for images made elsewhere, such as {source}; leave it out."
        )
    if not is_given(values, "out"):
        raise InputError(f"{source} was made elsewhere; give --out, a folder for its scores.")
    if not (is_given(values, "stimuli") or is_given(values, "prepared")):
        raise InputError(
            f"{source} was made elsewhere; give --stimuli, a file or folder of what was seen, or "
            "--prepared, records that hold it."
        )
    return True
