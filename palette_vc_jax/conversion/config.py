"""Checks that the config readers of all three networks share."""

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
