"""The program `neuroadapter`: its commands, and the choice of one by the first argument."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from neuroadapter_jax import __version__

# Heading -> commands, in the order of a project; the summary of each is its module's first line.
COMMANDS = {
    "Data": ("prepare", "rois"),
    "Training": ("train", "export", "train-encoder", "distill"),
    "Reconstructions": ("reconstruct", "interpret", "evaluate", "evaluate-encoder"),
    "Studies": (
        "decoders",
        "ablate",
        "claims",
        "attention-truth",
        "benchmark",
        "few-steps",
    ),
    "Other formats": ("convert", "publish"),
    "Small models that ship with the package": (
        "pretrain-backbone",
        "pretrain-vit",
        "pretrain-spatial-adapter",
        "pretrain-joint-space",
        "train-image-adapter",
        "train-scene-reader",
    ),
    "First steps": ("demo", "doctor"),
}
NAMES = tuple(name for names in COMMANDS.values() for name in names)


def command_module(name: str) -> ModuleType:
    """The module of a command, without what its work needs."""
    return importlib.import_module(f"neuroadapter_jax.commands.{name.replace('-', '_')}")


def help_text() -> str:
    """What `neuroadapter --help` prints."""
    lines = [
        "neuroadapter COMMAND [flags]",
        "",
        "Reconstruct what a person saw from their cortical responses, and show which regions of",
        "the cortex each part of the image came from.",
        "",
        "    neuroadapter doctor                 what is installed here, and what is missing",
        "    neuroadapter demo --quick           first pictures, within three minutes",
        "    neuroadapter demo                   the whole method at small size",
        "    neuroadapter train --config nsd     the paper's model",
        "    neuroadapter train --help           a command's flags",
    ]
    for heading, names in COMMANDS.items():
        lines += ["", f"{heading}:"]
        for name in names:
            summary = (command_module(name).__doc__ or "").splitlines()[0]
            lines.append(f"  {name:<24} {summary}")
    lines += ["", f"neuroadapter-jax {__version__}"]
    return "\n".join(lines)


def unknown_command(name: str) -> str:
    """One sentence about a command that there is not, with the nearest ones."""
    near = difflib.get_close_matches(name.replace("_", "-"), NAMES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "the commands are in the help."
    return f"neuroadapter: there is no command {name!r}; {hint} (neuroadapter --help lists them)"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; the entry point of `neuroadapter`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(help_text(), file=sys.stderr)
        sys.exit(2)
    name, rest = arguments[0], arguments[1:]
    if name in ("help", "-h", "--help", "-help", "-?"):
        if rest and rest[0].replace("_", "-") in NAMES:
            name, rest = rest[0], ["--help"]
        else:
            print(help_text())
            return
    if name in ("--version", "-V", "version"):
        print(__version__)
        return
    name = name.replace("_", "-")
    if name not in NAMES:
        print(unknown_command(arguments[0]), file=sys.stderr)
        sys.exit(2)
    run_command(name, rest)


def run_command(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run one command, as `neuroadapter NAME ...` and `python launch/NAME.py ...` do.

    Args:
        name: one of `NAMES`.
        arguments: what follows the name; None takes those of this process.
    """
    # Commands draw into files; a notebook hands its own backend on to what it starts.
    os.environ["MPLBACKEND"] = "Agg"
    from neuroadapter_jax.commands.runner import run

    run(name, command_module(name), list(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    main()
