"""Flags that several commands have: defined once, the same everywhere."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from neuroadapter_jax.commands import choices, program, runner
from neuroadapter_jax.commands.shared_flags import (
    GENERAL,
    SAMPLING,
    SHARED,
    CommandFlags,
    define_sampling,
    sampling_from,
)
from neuroadapter_jax.diffusion.sampling import Sampling

COMMANDS = Path(runner.__file__).parent
BEFORE = 121  # definitions in launch/ when every script had its own


def strings_of_definitions():
    """The names that commands/*.py define outside the shared tables, as far as they are written."""
    for path in COMMANDS.glob("*.py"):
        if path.stem == "shared_flags":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr.startswith("DEFINE_") and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def flags_of(name):
    return runner.define_flags(program.command_module(name), [])


def test_no_command_defines_a_shared_flag_again():
    shared = {*SHARED, *SAMPLING, *GENERAL}
    assert len(shared) == len(SHARED) + len(SAMPLING) + len(GENERAL)
    assert shared.isdisjoint(strings_of_definitions())


def test_a_flag_of_two_commands_is_a_shared_one():
    count = Counter(flag for name in program.NAMES for flag in flags_of(name))
    # `strength` is a number with a default for a single method, and chosen by the comparison.
    several = {flag for flag, number in count.items() if number > 1} - {"strength", "config"}
    assert several <= {*SHARED, *SAMPLING, *GENERAL}
    assert len(count) < BEFORE


def test_a_shared_flag_has_one_kind_everywhere():
    kinds = {}
    for name in program.NAMES:
        values = flags_of(name)
        for flag in values:
            if flag in {*SHARED, *SAMPLING, *GENERAL}:
                kinds.setdefault(flag, set()).add(values[flag].flag_type())
    assert all(len(found) == 1 for found in kinds.values()), kinds


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ([], {}),
        (["--sampler=ddpm", "--num_steps=7"], {"sampler": "ddpm", "num_steps": 7}),
        (["--guidance_scale=1.5", "--start=grey"], {"guidance_scale": 1.5, "start": "grey"}),
        (["--sampler=ddim", "--eta=0.5"], {"sampler": "ddim", "eta": 0.5}),
        (["--spacing=trailing"], {"spacing": "trailing"}),
        (["--guidance_low=0.5", "--guidance_high=4"], {"guidance_low": 0.5, "guidance_high": 4.0}),
    ],
)
def test_sampling_is_the_models_own_but_for_the_flags_given(arguments, changes):
    own = Sampling(sampler="dpmsolver++", num_steps=13, guidance_scale=4.0)
    values = CommandFlags(arguments)
    define_sampling(values)
    values(["command", *arguments])
    assert sampling_from(values, own) == own.replace(**changes)


def test_sampling_settings_that_do_not_go_together_are_refused():
    values = CommandFlags([])
    define_sampling(values)
    values(["command", "--eta=0.5"])
    with pytest.raises(ValueError, match=r"--eta is 0\.5; expected 0 with ddpm"):
        sampling_from(values, Sampling(sampler="ddpm"))


def test_the_choices_in_the_help_are_those_of_the_modules():
    from neuroadapter_jax.decoders.methods import PRESETS
    from neuroadapter_jax.evaluation.protocol import CONVENTIONS
    from neuroadapter_jax.ibbi.views import DEFAULT_REDUCTION, REDUCTIONS
    from neuroadapter_jax.studies.benchmark.measure import SIZES
    from neuroadapter_jax.studies.decoders import DEFAULT, LABELS

    assert choices.REDUCTIONS == REDUCTIONS
    assert choices.DEFAULT_REDUCTION == DEFAULT_REDUCTION
    assert tuple(CONVENTIONS) == choices.CONVENTIONS
    assert tuple(LABELS) == choices.METHODS
    assert choices.DEFAULT_METHODS == DEFAULT and choices.PRESETS == PRESETS
    assert tuple(SIZES) == choices.SIZES
