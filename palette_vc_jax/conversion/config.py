"""Checks that the config readers of all three networks share."""

import math
from collections.abc import Collection, Mapping
from typing import Any


def check_keys(
    source: str, values: Mapping[str, Any], needed: Collection[str], known: Collection[str]
) -> None:
    """Check that `values` has all keys of `needed` and none beyond `needed` and `known`.

    Keys with a leading underscore are a library's notes to itself. Raises ValueError.
    """
    missing = sorted(set(needed) - set(values))
    if missing:
        raise ValueError(f"{source}: config.json lacks {', '.join(missing[:3])}.")
    unknown = sorted(
        key for key in set(values) - set(needed) - set(known) if not key.startswith("_")
    )
    if unknown:
        raise ValueError(
            f"{source}: config.json has keys that are not supported: {', '.join(unknown[:3])}."
        )


def check_values(source: str, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Check that every key of `fixed` that `values` has, has that value. Raises ValueError."""
    for key, allowed in fixed.items():
        if key in values and values[key] != allowed:
            raise ValueError(
                f"{source}: config.json says {key} = {values[key]!r}; "
                f"only {allowed!r} is supported."
            )


def check_sizes(
    source: str,
    values: Mapping[str, Any],
    numbers: Collection[str],
    lists: Collection[str] = (),
) -> None:
    """Check that `numbers` are positive whole numbers in `values`, and `lists` lists of these.

    A key that is in both may be either. Raises ValueError.
    """
    for key in {**dict.fromkeys(numbers), **dict.fromkeys(lists)}:
        value = values[key]
        listed = isinstance(value, list | tuple)
        given = value if listed else [value]
        allowed = key in lists if listed else key in numbers
        if not (allowed and given and all(type(size) is int and size > 0 for size in given)):
            kinds = (
                ("a positive whole number", numbers),
                ("a list of positive whole numbers", lists),
            )
            needed = " or ".join(kind for kind, keys in kinds if key in keys)
            raise ValueError(f"{source}: config.json says {key} = {value!r}; it must be {needed}.")


def check_positive(source: str, values: Mapping[str, Any], keys: Collection[str]) -> None:
    """Check that `keys` are positive, finite numbers in `values`. Raises ValueError."""
    for key in keys:
        value = values[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0.0 < value < math.inf:
            raise ValueError(
                f"{source}: config.json says {key} = {value!r}; it must be a positive number."
            )


def uniform(source: str, key: str, value: Any) -> Any:
    """Give the one value of an entry that may be a list with an element per level."""
    if not isinstance(value, list | tuple):
        return value
    if len(set(value)) != 1:
        raise ValueError(
            f"{source}: config.json says {key} = {list(value)!r}; levels that differ in this "
            "are not supported."
        )
    return value[0]
