"""JSON as others read it: no NaN, no infinity."""

import json

import numpy as np
import pytest

from neuroadapter_jax.errors import NotFiniteError
from neuroadapter_jax.files import write_json


def strict(path):
    """A file as a reader takes it that follows RFC 8259."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_score_that_is_not_defined_is_null(tmp_path):
    path = tmp_path / "a.json"
    content = {"r": float("nan"), "rows": [[1.5, float("nan")], (2,)], "text": "NaN", "n": None}
    write_json(path, content)
    assert strict(path) == {"r": None, "rows": [[1.5, None], [2]], "text": "NaN", "n": None}
    write_json(path, {"r": np.float64("nan")})
    assert strict(path) == {"r": None}


@pytest.mark.parametrize("value", [float("inf"), -np.float64("inf")])
def test_an_infinite_number_is_refused_and_the_file_stays(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"gamma": 5.0})
    before = path.read_bytes()
    with pytest.raises(NotFiniteError, match=r"a\.json: train: gamma is -?inf; expected a finite"):
        write_json(path, {"train": {"gamma": value}})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
