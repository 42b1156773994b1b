"""Score a folder of reconstructions, or compare two.

    neuroadapter evaluate FOLDER --convention neuroadapter --weights DIR
    neuroadapter evaluate --compare FOLDER FOLDER --out DIR
    neuroadapter evaluate FOLDER --permuted FOLDER --model DIR --prepared DIR --root DIR

Scores go into the folder: results.json, per_image.csv and results.md. The second compares two
scored folders, image by image. The third says more of the simulated subject, whose truth is known.
The networks of AlexNet, Inception, CLIP, EfficientNet and SwAV need the extra `pytorch` and their
weights: files under their published names in --weights, in PyTorch's or the Hub's cache, or fetched
with --download (2 GB). A metric whose network is not there is reported as missing.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import CONVENTIONS
from neuroadapter_jax.commands.given import SIMULATED, excludes, holds, must_exist, needs
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import InputError, MissingFileError

ARGUMENTS = "FOLDER [FOLDER]"


def define(values: CommandFlags) -> None:
    flags.DEFINE_enum(
        "convention", "mindeye", CONVENTIONS, "Whose preprocessing and orientation.",
        flag_values=values,
    )  # fmt: skip
    for name, help in {
        "permuted": "With --root: folder reconstructed with --permute_responses.",
        "weights": "Folder of the feature networks' weights.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    for name, help in {
        "download": "Fetch weights that are not here.",
        "set_level": "Identify whole sets of candidates as well.",
        "compare": "Compare two scored folders.",
    }.items():
        flags.DEFINE_bool(name, False, help, flag_values=values)
    define_shared(
        values, "model", "prepared", "root", "out",
        helps={
            "model": "With --root: whose regions a linear readout sees.",
            "prepared": "Prepared records that the folder has to show exactly.",
            "root": "The simulated subject's folder; needs --prepared.",
            "out": "With --compare: folder for comparison.json and .md.",
        },
    )  # fmt: skip
    needs(values, "root", "prepared")
    needs(values, "permuted", "root")
    needs(values, "model", "root")
    needs(values, "out", "compare")
    scoring = ("convention", "weights", "download", "set_level", "prepared", "root")
    excludes(values, "compare", *scoring)
    holds(values, "root", *SIMULATED)
    must_exist(values, "permuted", "weights")


def main(values: CommandFlags, arguments: list[str]) -> None:
    if len(arguments) != (2 if values.compare else 1):
        raise InputError(
            f"found {len(arguments)} folders; name one folder of reconstructions, or two with "
            "--compare."
        )

    for folder in arguments:
        if not Path(folder).is_dir():
            found = "a file" if Path(folder).exists() else "not there"
            raise MissingFileError(
                f"{folder} is {found}; expected a folder of `neuroadapter reconstruct`."
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
