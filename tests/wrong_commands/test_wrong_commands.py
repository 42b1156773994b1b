"""Wrong commands, as a user may type them: one sentence each, and nothing is written or lost.

NEUROADAPTER_ALL_WRONG_COMMANDS=1 runs all of them instead of a good half.
"""

import os
from collections import Counter

import pytest
from shape_checks import unchecked
from wrong_commands.row import GOOD, judge
from wrong_commands.tables import KINDS, ROWS, chosen_rows
from wrong_commands.world import World

from neuroadapter_jax.commands.program import NAMES

pytest.importorskip("tensorflow")
# A command that is stopped, because it was not refused, leaves files open.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TRIED = ROWS if os.environ.get("NEUROADAPTER_ALL_WRONG_COMMANDS") else chosen_rows()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with unchecked():
        return World(tmp_path_factory.mktemp("world") / "valid").make()


@pytest.mark.parametrize("row", TRIED, ids=[f"{i}: {row.command}" for i, row in enumerate(TRIED)])
def test_a_wrong_command_is_one_good_sentence(row, world, tmp_path):
    with unchecked():
        outcome = judge(row, world, tmp_path)
    world.restore()
    assert outcome.verdict == GOOD, f"{outcome.verdict}: {outcome.reason}\n{outcome.sentence}"


def test_every_command_and_every_kind_of_mistake_is_tried():
    commands, kinds = Counter(row.name for row in TRIED), Counter(row.kind for row in TRIED)
    assert len(TRIED) >= 300
    assert {name for name in NAMES if commands[name] < 10} == set()
    assert {kind for kind in KINDS if kinds[kind] < 6} == set()
