"""Check the values of published config files."""

import math
from collections.abc import Collection, Mapping
from typing import Any


def check_keys(
    source: str, values: Mapping[str, Any], needed: Collection[str], known: Collection[str]
) -> None:
    """Check that `values` has all keys of `needed` and no others except those of `known`.

    Keys with a leading underscore are the library's bookkeeping and are ignored.

    Raises:
        ValueError: if a key is missing or unknown.
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
    """Check that `values` agrees with `fixed` on the keys of both; raise ValueError otherwise."""
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
    """Check that keys have positive integers, or lists of them.

    Args:
        source: name of the config in messages.
        values: the config.
        numbers: keys whose values may be positive integers.
        lists: keys whose values may be lists of positive integers.

    Raises:
        ValueError: if a value is neither.
    """
    for key in {**dict.fromkeys(numbers), **dict.fromkeys(lists)}:
        value = values[key]
        listed = isinstance(value, list | tuple)
        given = value if listed else [value]
        allowed = key in lists if listed else key in numbers
        if not (allowed and given and all(type(size) is int and size > 0 for size in given)):
            kinds = (
                ("a positive integer", numbers),
                ("a list of positive integers", lists),
            )
            needed = " or ".join(kind for kind, keys in kinds if key in keys)
            raise ValueError(f"{source}: config.json says {key} = {value!r}; it must be {needed}.")


def check_positive(source: str, values: Mapping[str, Any], keys: Collection[str]) -> None:
    """Check that `keys` have positive, finite numbers in `values`; raise ValueError otherwise."""
    for key in keys:
        value = values[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0.0 < value < math.inf:
            raise ValueError(
                f"{source}: config.json says {key} = {value!r}; it must be a positive number."
            )


def uniform(source: str, key: str, value: Any) -> Any:
    """Return the value of an entry that may be a list with equal elements, one per level."""
    if not isinstance(value, list | tuple):
        return value
    if len(set(value)) != 1:
        raise ValueError(
            f"{source}: config.json says {key} = {list(value)!r}; levels with different values "
            "are not supported."
        )
    return value[0]
