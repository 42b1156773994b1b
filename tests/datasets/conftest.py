import nsd_tree
import pytest


@pytest.fixture
def tree(tmp_path):
    return nsd_tree.make_tree(tmp_path / "nsd")
