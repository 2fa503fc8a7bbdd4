"""Which weights are trained: patterns on flat names split parameters in two, and merge them back.

A flat name is that of `functional.flatten` over all networks, such as
`unet.down_blocks.0.attentions.1.temporal_transformer_blocks.0.attn1.to_q.kernel`.
"""

import re
from collections.abc import Iterable, Sequence

from palette_vc_jax.models.functional import Params, flatten, nest

PRESETS = {
    "unet": r"unet\..*",  # the paper: all of it, the palette layer included
    "temporal": r"unet\..*\.(temporal_\w+|time_mixer|time_pos_embed)\..*",  # what joins frames
    "attention": r"unet\..*\.attn[12]\..*",  # of both transformers, within frames and along time
    "palette": r"unet\.palette_embedding\..*",
    "image_encoder": r"image_encoder\..*",
}


def select(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Return the flat names that any of `patterns` matches from end to end.

    Args:
        names: to select from.
        patterns: names of `PRESETS`, or regular expressions.

    Raises ValueError if there is no pattern, or for one that is not valid or matches nothing.
    """
    if not patterns:
        raise ValueError(f"trained: no weights are selected; give at least one of {_known()}.")
    names, found = list(names), set()
    for pattern in patterns:
        try:
            expression = re.compile(PRESETS.get(pattern, pattern))
        except re.error as error:
            raise ValueError(
                f"trained: {pattern!r} is not a regular expression ({error}); use one, or "
                f"{_known()}."
            ) from None
        matches = set(filter(expression.fullmatch, names))
        if not matches:
            raise ValueError(
                f"trained: {pattern!r} matches no weight; use {_known()}, or a regular expression "
                r"for whole names, such as unet\.up_blocks\..*"
            )
        found |= matches
    return found


def split(params: Params, patterns: Sequence[str]) -> tuple[Params, Params]:
    """Split nested parameters, networks at the top, into trained and frozen ones.

    Branches that would be empty are left out. Raises ValueError as `select`.
    """
    flat = flatten(params)
    names = select(flat, patterns)
    trained = {name: leaf for name, leaf in flat.items() if name in names}
    frozen = {name: leaf for name, leaf in flat.items() if name not in names}
    return nest(trained), nest(frozen)


def merge(trained: Params, frozen: Params) -> Params:
    """Undo `split`; where both have a weight, it is the trained one."""
    return nest(flatten(frozen) | flatten(trained))


def _known() -> str:
    return ", ".join(PRESETS)
