"""What each stage measures: its cases, and the columns of its table.

A case is measured in a process of its own, so that a crash, a lack of memory or the memory that a
framework holds stays there. This file imports neither JAX nor PyTorch.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A column of a table: a row's key, the heading, and how a value is written."""

    key: str
    heading: str
    form: str = ".1f"


class Stage(NamedTuple):
    """A stage: its title, the cases that it measures, its columns and what they mean."""

    title: str
    cases: tuple[str, ...]
    columns: tuple[Column, ...]
    note: str


class Request(NamedTuple):
    """What a process that measures one case gets."""

    stage: str
    case: str
    toy: bool  # tiny shapes, one or two repetitions
    platform: str = ""  # `cpu`, `gpu` or `tpu`: what the run measures
    seconds: float = 0.0  # until the process is ended
    output: str = ""  # folder for files
    model: str = ""  # folder of the model that the stage `demo` trains
    cache: str = ""  # folder of its latents; empty: none


# Keys of configs/davis.py that each case of `train` changes.
TRAIN: Mapping[str, Mapping[str, Any]] = {
    "remat=layers": {"remat": "layers"},
    "remat=attention": {"remat": "attention"},
    "remat=none": {"remat": "none"},
    "remat=layers-64MiB": {"remat": "layers", "remat_budget_mib": 64},
}

_NETWORK = (
    Column("compile_s", "to compile, s", ".0f"),
    Column("ms", "ms"),
    Column("tflops", "TFLOP/s"),
    Column("share", "share of the product rate", ".0%"),
)

STAGES: Mapping[str, Stage] = {
    "attention": Stage(
        "Attention",
        ("paths",),
        (
            Column("frames", "frames", "d"),
            Column("forward_ms", "forward, ms", ".3f"),
            Column("forward_tflops", "TFLOP/s"),
            Column("both_ms", "forward and backward, ms", ".3f"),
            Column("both_tflops", "TFLOP/s"),
            Column("largest_error", "largest error", ".1e"),
            Column("relative_error", "relative error", ".1e"),
            Column("gradient_error", "relative error of gradients", ".1e"),
        ),
        "Tokens x heads x head size of one frame, bfloat16, standard normal inputs. `*`: the path "
        "that the models take there. Errors are against `plain` in float32 at the highest "
        "precision: the largest difference, norms of differences over norms, and the largest such "
        "ratio of the gradients of query, key and value. FLOPs are two products forward and five "
        "backward, whatever a path computes again.",
    ),
    "unet": Stage(
        "The UNet",
        ("jax", "diffusers"),
        (*_NETWORK, Column("peak_gib", "peak memory, GiB", ".2f")),
        "One forward pass of one clip with random weights. FLOPs are this project's count for "
        "every row. Each framework has a process of its own; a peak is that of the process.",
    ),
    "train": Stage(
        "A training step",
        tuple(TRAIN),
        (
            *_NETWORK,
            Column("step_tflop", "TFLOP a step"),
            Column("predicted_gib", "memory as compiled, GiB", ".2f"),
            Column("peak_gib", "peak memory, GiB", ".2f"),
        ),
        "The step of configs/davis.py with one clip on one device, random weights: float32 "
        "parameters, AdamW moments and moving average, bfloat16 compute. FLOPs count what is "
        "computed again. Memory as compiled is what the compiler reports before the step runs: "
        "arguments, temporaries, and results that take no argument's place.",
    ),
    "clip": Stage(
        "A complete clip",
        ("jax", "diffusers"),
        (
            Column("first_s", "first run, s"),
            Column("total_s", "second run, s", ".2f"),
            Column("encode_s", "encode, s", ".2f"),
            Column("denoise_s", "denoise, s", ".2f"),
            Column("decode_s", "decode, s", ".2f"),
            Column("peak_gib", "peak memory, GiB", ".2f"),
        ),
        "From frames on the host to frames on the host, with random weights and without guidance. "
        "The first run compiles. `jax` encodes every gray frame and the reference, diffusers one "
        "picture. Both decode ten frames at a time; `jax` decodes some twice, which overlap.",
    ),
    "demo": Stage(
        "Training the demo model",
        ("jax",),
        (
            Column("steps", "steps", "d"),
            Column("clips", "windows", "d"),
            Column("train_s", "seconds, compiling included", ".0f"),
            Column("loss", "loss", ".4f"),
        ),
        "From the weights of the model folder with a fresh optimizer. The averaged weights are in "
        "the output, in files under 15 MiB.",
    ),
}


def reason(error: Exception) -> str:
    """Return the reason of a failure as one line for a table."""
    words = " ".join(str(error).replace("|", "/").split())
    if "RESOURCE_EXHAUSTED" in words or type(error).__name__ == "OutOfMemoryError":
        words = f"out of memory: {words}"
    return (words or type(error).__name__)[:160]
