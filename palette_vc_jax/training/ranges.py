"""Rules for the values of a config's keys: what a value may be, and what to say if it is not."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A condition on one value, and the advice for a user whose value does not meet it."""

    allows: Callable[[Any], bool]
    advice: str  # follows `key=value; `


def whole(least: int, most: int, advice: str = "") -> Rule:
    """Allow integers from `least` to `most`."""

    def allows(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Rule(allows, advice or f"give a whole number from {least} to {most}")


def number(least: float, most: float, above: bool = False, advice: str = "") -> Rule:
    """Allow finite numbers from `least` (or, with `above`, greater than it) to `most`."""

    def allows(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return least <= value <= most and not (above and value == least)  # never true of nan

    start = f"above {least:g}, up to" if above else f"from {least:g} to"
    return Rule(allows, advice or f"give a number {start} {most:g}")


def several(rule: Rule, length: int | None = None) -> Rule:
    """Allow tuples of values that `rule` allows: `length` of them, or one or more."""

    def allows(value: Any) -> bool:
        if not isinstance(value, tuple | list) or not value or length not in (None, len(value)):
            return False
        return all(map(rule.allows, value))

    return Rule(allows, f"give {length or 'one or more'} values; for each, {rule.advice}")


def choice(*known: str, advice: str = "") -> Rule:
    """Allow the words in `known`."""

    def allows(value: Any) -> bool:
        return isinstance(value, str) and value in known

    return Rule(allows, advice or f"use one of {', '.join(known)}")


def below_one() -> Rule:
    """Allow numbers from 0 to 1, without 1."""
    allows = number(0.0, 1.0).allows
    return Rule(lambda value: allows(value) and value < 1, "give a number from 0 to below 1")


def optional(rule: Rule) -> Rule:
    """Allow None too."""
    return Rule(lambda value: value is None or rule.allows(value), f"{rule.advice}, or None")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_local(value: Any) -> bool:
    return _is_text(value) and "://" not in value


_ON_DISK = "give a path on this machine (buckets and file shares have to be mounted)"
PATH = Rule(lambda value: _is_local(value) and value.strip() != "", _ON_DISK)
PATH_OR_NONE = Rule(_is_local, f"{_ON_DISK}, or an empty text")
FLAG = Rule(lambda value: isinstance(value, bool), "use True or False")
TEXT = Rule(lambda value: _is_text(value) and value.strip() != "", "give a text that is not empty")
PROBABILITY = number(0.0, 1.0, advice="give a probability from 0 to 1")
