"""Ranges of settings: written once, beside each field, and checked when the settings are made.

    @dataclass(frozen=True)
    class Example:
        num_steps: Count = 50
        gamma: Positive | Annotated[None, "for no weighting"] = 5.0

        def __post_init__(self):
            check_fields(self)

A whole number is never a bool, and a number is always finite.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Interval, Le, Lt, MinLen

from neuroadapter_jax.errors import InputError

Count = Annotated[int, Ge(1)]
CountFromZero = Annotated[int, Ge(0)]
# JAX reads a seed as 32 bits: beyond them, and below 0, two seeds would be the same.
Seed = Annotated[int, Interval(ge=0, lt=2**32)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
ShareAboveZero = Annotated[float, Interval(gt=0, le=1)]
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1)]

_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Path: "a path",
    Mapping: "a dictionary",
    dict: "a dictionary",
}


class SettingError(InputError):
    """A setting is out of its range; it knows its key, so that commands name it as it was typed.

    Args:
        key: of the setting.
        found: its value.
        expected: what would be right, as the end of a sentence.
    """

    def __init__(self, key: str, found: object, expected: str):
        plain = found.tolist() if hasattr(found, "tolist") else found  # NumPy's and JAX's scalars
        super().__init__(f"{key} is {plain!r}; expected {expected}.")
        self.key, self.found, self.expected = key, found, expected


@contextmanager
def named(prefix: str, others: Mapping[str, str] | None = None) -> Iterator[None]:
    """Name settings as the user typed them.

    Args:
        prefix: goes before the keys, such as "config.train." or "--".
        others: key -> the whole name, for the keys that are typed elsewhere.

    Raises:
        SettingError: what was raised inside, by its new name.
    """
    try:
        yield
    except SettingError as error:
        name = (others or {}).get(error.key, f"{prefix}{error.key}")
        raise SettingError(name, error.found, error.expected) from None


def check(key: str, value: object, hint: Any) -> None:
    """Refuse a value that its type and range do not allow.

    Args:
        key: for the message.
        value: any.
        hint: a type, `Literal`, union, tuple, or one of these `Annotated` by a range.

    Raises:
        SettingError: the value does not fit.
    """
    if not fits(value, hint):
        words = expected(hint)
        if isinstance(value, float) and not math.isfinite(value):
            words = words.replace("a number", "a finite number")
        raise SettingError(key, value, words)


def check_values(values: Mapping[str, Any], kind: Any, what: str = "a setting") -> None:
    """Refuse values that do not fit a dataclass, a TypedDict or a function's arguments.

    Args:
        values: by key.
        kind: has a hint for each key.
        what: the values are, for the message about an unknown key.

    Raises:
        SettingError: a value that its hint does not allow.
        InputError: a key that has no hint, or one that is needed and lacking.
    """
    hints = _hints(kind)
    if unknown := sorted(values.keys() - hints.keys()):
        raise InputError(f"{unknown[0]} is not {what}; expected {', '.join(sorted(hints))}.")
    for key, value in values.items():
        check(key, value, hints[key])
    if lacking := sorted(_required(kind) - values.keys()):
        raise InputError(f"{lacking[0]} is lacking; expected {expected(hints[lacking[0]])}.")


def check_fields(settings: Any) -> None:
    """Refuse a dataclass of which a field is out of its range; for its __post_init__.

    Raises:
        SettingError: a field that its hint does not allow.
    """
    kind: Any = type(settings)
    hints = _hints(kind)
    for field in dataclasses.fields(settings):
        check(field.name, getattr(settings, field.name), hints[field.name])


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type and in its range; see `check`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, *ranges = arguments
        return fits(value, base) and all(_meets(value, each) for each in _flat(ranges))
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return (
            isinstance(value, tuple | list)
            and len(value) == len(arguments)
            and all(map(fits, value, arguments))
        )
    if origin in (tuple, Sequence):
        if not isinstance(value, tuple | list if origin is tuple else Sequence):
            return False
        return not isinstance(value, str) and all(fits(each, arguments[0]) for each in value)
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return (
            isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        )
    return hint is Any or isinstance(value, origin or hint)


def expected(hint: Any) -> str:
    """What a type and its range ask for, as the end of a sentence."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, *ranges = arguments
        words = [each if isinstance(each, str) else _words(each) for each in ranges]
        kind = expected(base)
        if any(isinstance(each, MinLen) for each in ranges):
            kind = kind.replace("a list", "a list that is not empty", 1)
        return " ".join([kind, *filter(None, words)])
    if origin in (Union, types.UnionType):
        *first, last = map(expected, arguments)
        return f"{', '.join(first)}, or {last}"
    if origin is Literal:
        return f"one of {list(arguments)}" if len(arguments) > 1 else repr(arguments[0])
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {', '.join(map(expected, arguments))}"
    if origin in (tuple, Sequence):
        return f"a list, each {expected(arguments[0])}"
    if hint is None or hint is types.NoneType:
        return "None"
    kind = origin or hint
    return _KINDS.get(kind) or f"a {getattr(kind, '__name__', str(kind))}"


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Key -> hint."""
    fields = dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)
    function = kind if fields or not isinstance(kind, type) else getattr(kind, "__init__")  # noqa: B009
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    return {
        key: get_args(hint)[0] if get_origin(hint) is typing.NotRequired else hint
        for key, hint in hints.items()
    }


def _required(kind: Any) -> set[str]:
    """The keys without a default."""
    if typing.is_typeddict(kind):
        return set(kind.__required_keys__)
    parameters = inspect.signature(kind).parameters.values()
    return {each.name for each in parameters if each.default is inspect.Parameter.empty}


def _flat(ranges: Sequence[Any]) -> Iterator[Any]:
    for each in ranges:
        yield from each if isinstance(each, GroupedMetadata) else (each,)


def _meets(value: Any, limit: Any) -> bool:
    match limit:
        case Ge():
            return bool(value >= limit.ge)
        case Gt():
            return bool(value > limit.gt)
        case Le():
            return bool(value <= limit.le)
        case Lt():
            return bool(value < limit.lt)
        case MinLen():
            return bool(len(value) >= limit.min_length)
    if isinstance(limit, BaseMetadata):
        raise NotImplementedError(f"no check of {limit}")
    return True  # words for the message


def _words(limit: Any) -> str:
    match limit:
        case Interval():
            high = f"{limit.le}" if limit.le is not None else f"below {limit.lt}"
            return (
                f"above {limit.gt} to {high}" if limit.ge is None else f"from {limit.ge} to {high}"
            )
        case Ge():
            return f"of at least {limit.ge}"
        case Gt():
            return f"above {limit.gt}"
        case Le():
            return f"of at most {limit.le}"
        case Lt():
            return f"below {limit.lt}"
    return ""
