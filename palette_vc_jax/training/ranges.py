"""What each key of a config may hold, as one table: type and range, before anything is read.

What keys have to say to each other stands in `checks.py`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.models.memory import REMAT
from palette_vc_jax.parallel.mesh import AXES


class Rule(NamedTuple):
    """A condition on one value, and what to say to a user whose value does not meet it."""

    allows: Callable[[Any], bool]
    advice: str  # after `key=value; `


def whole(least: int, most: int, advice: str = "") -> Rule:
    """Allow whole numbers from `least` to `most`."""

    def allows(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Rule(allows, advice or f"give a whole number from {least} to {most}")


def number(least: float, most: float, above: bool = False, advice: str = "") -> Rule:
    """Allow finite numbers from `least` (or, with `above`, beyond it) to `most`."""

    def allows(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return least <= value <= most and not (above and value == least)  # never true of nan

    start = f"above {least:g}, up to" if above else f"from {least:g} to"
    return Rule(allows, advice or f"give a number {start} {most:g}")


def several(rule: Rule, length: int | None = None) -> Rule:
    """Allow tuples of what `rule` allows: `length` of them, or one and more."""

    def allows(value: Any) -> bool:
        if not isinstance(value, tuple | list) or not value or length not in (None, len(value)):
            return False
        return all(map(rule.allows, value))

    return Rule(allows, f"give {length or 'one or more'} values; for each, {rule.advice}")


def choice(*known: str, advice: str = "") -> Rule:
    """Allow some words."""
    return Rule(lambda value: value in known, advice or f"use one of {', '.join(known)}")


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


ON_DISK = "give a path on this machine (buckets and file shares have to be mounted)"
PATH = Rule(lambda value: _is_local(value) and value.strip() != "", ON_DISK)
PATH_OR_NONE = Rule(_is_local, f"{ON_DISK}, or an empty text")
FLAG = Rule(lambda value: isinstance(value, bool), "use True or False")
TEXT = Rule(lambda value: _is_text(value) and value.strip() != "", "give a text that is not empty")
SOURCES = ("folders", "videos", "tfds")
COMPUTE = ("float32", "bfloat16")
NARROW = (
    "use float32, or bfloat16 (TPUs, and GPUs of compute capability 8.0 or more); float16 is "
    "refused, for gradients would overflow: losses are not scaled"
)
STEPS, COUNT = 10**9, 10**6
EVERY = whole(1, STEPS)
EVERY_OR_NEVER = whole(0, STEPS, "give a number of steps, or 0 for never")
PIXELS = whole(1, 2**14)
SIZE = several(PIXELS, 2)
PROBABILITY = number(0.0, 1.0, advice="give a probability from 0 to 1")
WAYS = Rule(lambda value: value == -1 or whole(1, COUNT).allows(value), "give 1 or more, or -1")

RULES = {
    "task": TEXT,
    "init_from": PATH_OR_NONE,
    "model": Rule(
        lambda value: isinstance(value, str) and value in PRESETS,
        f"use one of {', '.join(PRESETS)}",
    ),
    "vae": PATH_OR_NONE,
    "trained": several(TEXT),
    "lora.rank": whole(0, 4096, "give 0 (off) or more, up to 4096"),
    "lora.alpha": number(0.0, 1e6, above=True),
    "seed": whole(0, 2**31 - 2),
    "batch_size": whole(1, 2**24),
    "accumulate": whole(1, 2**16),
    **{f"mesh.{axis}": WAYS for axis in AXES},
    "mesh.split_from": whole(1, 2**62),
    "compute_dtype": choice(*COMPUTE, advice=NARROW),
    "remat": choice(*REMAT),
    "remat_budget_mib": whole(0, 2**20, "give MiB, or 0 for the default"),
    "weighting": choice("v", "eps"),
    "sigma_mean": number(-20.0, 20.0),
    "sigma_std": number(0.0, 10.0, above=True),
    "noise_share": number(0.0, 1.0),
    "fps": whole(0, 1000),
    "motion_bucket": whole(0, 255),
    "noise_augmentation": number(0.0, 1.0),
    "ema_decay": below_one(),
    "log_every": EVERY,
    "validate_every": EVERY_OR_NEVER,
    "previews_every": EVERY_OR_NEVER,
    "save_every": EVERY,
    "export_dtype": choice("float32", "bfloat16", "float16"),
    "keep": whole(1, COUNT),
    "keep_every": EVERY_OR_NEVER,
    "validation_clips": whole(1, 2**16),
    "validation_sigmas": several(number(0.0, 1e6, above=True)),
    "color_floor": number(0.0, 1.0, above=True),
    "kl_weight": number(0.0, 1e3),
    "rates.palette_dropout": PROBABILITY,
    "rates.grey_dropout": PROBABILITY,
    "rates.joint_dropout": PROBABILITY,
    "rates.reference_color": PROBABILITY,
    "rates.reference_none": PROBABILITY,
    "data.source": choice(*SOURCES, advice="use 'folders', 'videos' or 'tfds'"),
    "data.root": PATH,
    "data.cache": PATH_OR_NONE,
    "data.workers": whole(0, 256, "give 0 (threads) or a number of processes up to 256"),
    "data.prefetch_batches": whole(1, 1024),
    "data.prefetch_mib": whole(1, 2**20),
    "data.hold_out_every": whole(0, COUNT, "give 0 (no clip), or 2 and more"),
    "data.validation_root": PATH_OR_NONE,
    "data.validation_source": choice(*SOURCES),
    "data.frames": whole(1, 10_000),
    "data.size": SIZE,
    "data.short_sides": SIZE,
    "data.crops": whole(1, 10_000),
    "data.mirrored": FLAG,
    "data.reversed": FLAG,
    "data.turned": optional(PROBABILITY),
    "data.reference_every": whole(1, 10_000),
    "data.window": whole(1, 1024),
    "data.strides": several(whole(1, 1024)),
    "data.patch": SIZE,
    "data.grey_rate": PROBABILITY,
    "optimizer.kind": choice("adamw", "muon", advice="use 'adamw' or 'muon'"),
    "optimizer.learning_rate": number(0.0, 10.0, above=True),
    "optimizer.muon_learning_rate": number(0.0, 10.0, above=True),
    "optimizer.palette_learning_rate": number(
        0.0, 10.0, advice="give 0 (the rate of the rest), or a number up to 10"
    ),
    "optimizer.warmup_steps": whole(0, STEPS),
    "optimizer.steps": whole(1, STEPS),
    "optimizer.decay": choice("cosine", "constant", advice="use 'cosine' or 'constant'"),
    "optimizer.b2": below_one(),
    "optimizer.weight_decay": number(0.0, 10.0),
    "optimizer.clip_norm": number(0.0, 1e6, above=True),
}


def check_ranges(config: Any) -> None:
    """Check every key of a `ConfigDict` that the table names.

    Raises ValueError naming the first key whose value cannot be used.
    """
    for key, value in keys(config):
        rule = RULES.get(key)
        if rule and not rule.allows(value):
            shown = repr(value)
            shown = shown if len(shown) < 60 else f"{shown[:60]}..."
            raise ValueError(f"{key}={shown}; {rule.advice}.")


def keys(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a `ConfigDict`, joined by dots, and their values."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
