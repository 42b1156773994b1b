"""Ranges of settings: what fits, what is said of what does not, and by which name."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

import numpy as np
import pytest
from annotated_types import Ge, Interval, MinLen

from neuroadapter_jax import ranges
from neuroadapter_jax.ranges import (
    Count,
    CountFromZero,
    NonNegative,
    Positive,
    Seed,
    SettingError,
    Share,
    ShareAboveZero,
    ShareBelowOne,
    check,
    check_values,
    fits,
    named,
)

NAN, INF = math.nan, math.inf
Strength = Positive | Annotated[None, "for none"]


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (Count, [1, 7, np.int64(3)], [0, -1, 1.0, True, "1", None, NAN]),
        (CountFromZero, [0, 5], [-1, False]),
        (Seed, [0, 2**32 - 1], [-1, 2**32, 0.0]),
        (Positive, [1e-9, 3, np.float32(2)], [0, -1.0, NAN, INF, True, "2", None]),
        (NonNegative, [0, 0.5], [-1e-9, NAN]),
        (Share, [0, 1, 0.5], [-0.1, 1.1, INF]),
        (ShareBelowOne, [0, 0.999], [1, 1.5]),
        (ShareAboveZero, [1, 1e-3], [0, 2]),
        (float, [-3, 1e30], [NAN, -INF, "x"]),
        (bool, [True, False], [0, 1, "True"]),
        (str, ["", "x"], [None, 3]),
        (Strength, [None, 2.5], [0, -1, INF]),
        (Share | Literal["uniform"], ["uniform", 0.1], ["unifrm", 2]),
        (Literal[2, 3], [2, 3], [1, True, 2.0, "2"]),
        (tuple[Count, ...], [(), (1, 2), [3]], [(0,), 1, "12", (1, None)]),
        (tuple[str, Count], [("a", 1)], [("a",), (1, "a"), ("a", 0)]),
        (Annotated[Sequence[Count], MinLen(1)], [(1,), [2], range(1, 3)], [(), "1", (0,)]),
        (Mapping[str, int], [{}, {"a": 1}], [[], None]),
    ],
)
def test_what_fits_a_range(hint, right, wrong):
    for value in right:
        assert fits(value, hint), value
    for value in wrong:
        assert not fits(value, hint), value


@pytest.mark.parametrize(
    ("hint", "value", "sentence"),
    [
        (Count, 0, "x is 0; expected a whole number of at least 1."),
        (Strength, -1.0, "x is -1.0; expected a number above 0, or None for none."),
        (Strength, INF, "x is inf; expected a finite number above 0, or None for none."),
        (Share, 2, "x is 2; expected a number from 0 to 1."),
        (ShareBelowOne, 1.0, "x is 1.0; expected a number from 0 to below 1."),
        (ShareAboveZero, 0, "x is 0; expected a number above 0 to 1."),
        (Literal["a", "b"], "c", "x is 'c'; expected one of ['a', 'b']."),
        (Share | Literal["u"], "v", "x is 'v'; expected a number from 0 to 1, or 'u'."),
        (bool, 1, "x is 1; expected True or False."),
        (tuple[Count, ...], (0,), "x is (0,); expected a list, each a whole number of at least 1."),
        (
            Annotated[tuple[str, ...], MinLen(1)],
            (),
            "x is (); expected a list that is not empty, each text.",
        ),
        (Count, np.float32(1.5), "x is 1.5; expected a whole number of at least 1."),
    ],
)
def test_what_does_not_fit_is_one_sentence(hint, value, sentence):
    with pytest.raises(SettingError) as error:
        check("x", value, hint)
    assert str(error.value) == sentence


def test_a_dataclass_is_checked_field_by_field():
    @dataclasses.dataclass(frozen=True)
    class Own:
        steps: Count = 3
        rate: Annotated[float, Interval(gt=0, lt=2)] = 1.0

        def __post_init__(self):
            ranges.check_fields(self)

    assert Own(rate=1) == Own()
    with pytest.raises(SettingError, match=r"^rate is 2\.0; expected a number above 0 to below 2"):
        Own(rate=2.0)


def test_settings_are_named_as_they_were_typed():
    elsewhere = {"root": "config.data.root"}
    inside = named("config.train.", elsewhere)
    with pytest.raises(SettingError, match=r"^config\.train\.steps is 0;"), inside:
        check("steps", 0, Count)
    inside = named("config.train.", elsewhere)
    with pytest.raises(SettingError, match=r"^config\.data\.root is 0;"), inside:
        check("root", 0, str)
    outer, inner = named("config.train."), named("sampling.")
    with pytest.raises(SettingError, match=r"^config\.train\.sampling\.eta is 7;"), outer, inner:
        check("eta", 7, Share)


class Widths(TypedDict):
    width: Annotated[int, Ge(2)]
    depth: NotRequired[Count]


def work(width: Count, *, depth: Count = 1) -> str:
    return "x" * width * depth


class Reader:
    def __init__(self, width: Count, depth: Count = 1):
        self.width, self.depth = width, depth


@pytest.mark.parametrize("kind", [Widths, work, Reader])
def test_dictionaries_fit_what_takes_them(kind):
    check_values({"width": 2}, kind)
    check_values({"width": 2, "depth": 1}, kind)
    with pytest.raises(SettingError, match=r"^depth is 0; expected a whole number of at least 1"):
        check_values({"width": 2, "depth": 0}, kind)
    with pytest.raises(ValueError, match=r"^heigth is not a width; expected depth, width"):
        check_values({"width": 2, "heigth": 3}, kind, "a width")
    with pytest.raises(ValueError, match=r"^width is lacking; expected a whole number"):
        check_values({"depth": 2}, kind)
