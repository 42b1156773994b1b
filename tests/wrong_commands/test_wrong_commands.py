"""Wrong commands, as a user may type them: one sentence each, and nothing is written or lost."""

from collections import Counter

import pytest
from shape_checks import unchecked
from wrong_commands.row import GOOD, judge
from wrong_commands.tables import KINDS, ROWS
from wrong_commands.world import World

from neuroadapter_jax.commands.program import NAMES

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with unchecked():
        return World(tmp_path_factory.mktemp("world") / "valid").make()


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}: {row.command}" for i, row in enumerate(ROWS)])
def test_a_wrong_command_is_one_good_sentence(row, world, tmp_path):
    with unchecked():
        outcome = judge(row, world, tmp_path)
    world.restore()
    assert outcome.verdict == GOOD, f"{outcome.verdict}: {outcome.reason}\n{outcome.sentence}"


def test_every_command_and_every_kind_of_mistake_is_tried():
    commands, kinds = Counter(row.name for row in ROWS), Counter(row.kind for row in ROWS)
    assert len(ROWS) >= 300
    assert {name for name in NAMES if commands[name] < 10} == set()
    assert {kind for kind in KINDS if kinds[kind] < 6} == set()
