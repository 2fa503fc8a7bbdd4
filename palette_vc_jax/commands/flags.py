"""Flags that several commands share: paths, and palettes from words."""

import argparse
import os
from pathlib import Path
from typing import Any

from palette_vc_jax import cli, files
from palette_vc_jax.sampling.plain import PLAIN

TIMEOUT = 120.0  # seconds
LEXICON = "PALETTE_LEXICON"  # environment variable with the default of --lexicon


def gibibytes(text: str) -> float | None:
    """Parse --memory."""
    return None if text == "auto" else float(text)


# Flags that override settings of the model: (type, help).
SETTINGS = {
    "short_side": (int, "short side of the model's frames in pixels"),
    "steps": (int, "denoising steps"),
    "sigma_min": (float, "noise level of the last step"),
    "sigma_max": (float, "noise level of the first step"),
    "rho": (float, "exponent of the schedule of noise levels"),
    "solver": (str, "euler or dpmpp_2m"),
    "shared_noise_fraction": (float, "share of the noise that all frames have in common, 0 to 1"),
    "guidance_scale": (float, "strength of the palette; 1 is off and halves the time"),
    "guidance": (str, "what guidance compares with: no palette (palette) or SVD's branch (svd)"),
    "window": (int, "frames denoised together"),
    "overlap": (int, "frames shared by neighboring windows"),
    "window_mode": (str, "sliding or anchored"),
    "window_weights": (str, "triangular or uniform"),
    "blending": (str, "average windows at each step (step) or once at the end (final)"),
    "fps": (int, "micro-conditioning: frames per second - 1"),
    "motion_bucket": (int, "micro-conditioning: amount of motion, 0 to 255"),
    "neutral_dark": (float, "luma, 0 to 1, below which color fades to gray; 0 keeps all color"),
    "neutral_bright": (float, "luma, 0 to 1, above which color fades to gray; 1 keeps all color"),
    "transitions": (
        str,
        "fades, dissolves, wipes: color them by their shots (bridge), or ignore",
    ),
    "noise_augmentation": (float, "standard deviation of noise on the gray frames, 0 to 1"),
}
# Flags that say how the same film is computed.
HARDWARE = {
    "devices": (int, "devices of this host to use, the first ones; all if not given"),
    "dtype": (str, "type of the networks: auto, bfloat16, float16 or float32"),
    "decode_dtype": (str, "type of the VAE: auto, bfloat16, float16 or float32"),
    "attention": (str, "attention of long sequences: auto, cudnn, splash or chunked"),
    "memory": (
        gibibytes,
        "GiB of a device that may be used, or auto (the default): all that it has",
    ),
    "windows_per_batch": (int, "windows that a device evaluates together"),
    "encode_batch": (int, "frames that a device encodes together"),
    "decode_chunk": (int, "frames that a device decodes together"),
    "decode_context": (int, "frames decoded and dropped at each end of a chunk"),
    "decode_fade": (int, "frames over which neighboring chunks are cross-faded"),
}
# The paper samples windows alone, and averages them once at the end.
PRESETS = {
    "paper": PLAIN
    | {
        "window_mode": "sliding",
        "window_weights": "uniform",
        "blending": "final",
        "guidance_scale": 1.0,
        "solver": "euler",
        "shared_noise_fraction": 0.0,
    }
}


def path(text: str) -> Path:
    """Parse an argument by `cli.local_path`; use as `type=flags.path`."""
    try:
        return cli.local_path(text, "path")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_damaged(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says what is done with damaged frames."""
    parser.add_argument(
        "--damaged",
        choices=("stop", "repeat", "drop"),
        default="stop",
        help="damaged frames: refuse the film, show the frame before again, or leave them out; a "
        "film that is cut off ends where it is cut (default: %(default)s)",
    )


def add_run_weights(parser: argparse.ArgumentParser) -> None:
    """Add the flag that chooses between the weights of a run."""
    parser.add_argument(
        "--weights",
        choices=("ema", "raw"),
        default="ema",
        help="weights of a run: the moving average over steps, or those of the last step "
        "(default: %(default)s)",
    )


def add_settings(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the flags that override a model's settings; return the group of the first of them."""
    group = parser.add_argument_group("settings that override the model's")
    hardware = parser.add_argument_group("devices and memory")
    for flags, where in ((SETTINGS, group), (HARDWARE, hardware)):
        for name, (kind, meaning) in flags.items():
            where.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=meaning)
    add_compile_cache(hardware)
    group.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default=argparse.SUPPRESS,
        help="settings of the paper, with the palette gmm; other flags override them",
    )
    return group


def add_compile_cache(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flag that says where compiled programs are kept."""
    parser.add_argument(
        "--compile_cache",
        metavar="DIR",
        help="folder for compiled programs, or none; by default JAX_COMPILATION_CACHE_DIR, or else "
        "palette_vc_jax in the user's cache folder",
    )


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, as overrides for `colorize.default_settings`."""
    given = vars(args)
    preset = PRESETS.get(given.get("preset", ""), {})
    return preset | {name: given[name] for name in SETTINGS | HARDWARE if name in given}


def add_words_flags(parser: argparse.ArgumentParser) -> None:
    """Add a group of flags for palettes from words."""
    add = parser.add_argument_group("palettes from words").add_argument
    unset = {"default": argparse.SUPPRESS}
    add(
        "--words_model",
        **unset,
        help="language model that proposes colors, on a server of OpenAI's protocol "
        "(OPENAI_MODEL); if unset, a built-in table is used and no server is contacted",
    )
    add(
        "--words_server",
        **unset,
        help="address of the server, such as http://localhost:11434/v1 (OPENAI_BASE_URL, else "
        "OpenAI)",
    )
    add(
        "--words_key_file",
        **unset,
        help="file with the key (OPENAI_API_KEY); a key on the command line would be visible to "
        "all users of the machine",
    )
    add("--words_timeout", type=float, default=TIMEOUT, help="seconds to wait for an answer")
    add(
        "--lexicon",
        **unset,
        help=f"file of words and colors that extends the built-in table ({LEXICON})",
    )
    add(
        "--tagger",
        default="clip",
        help="tagger of films, for the palette 'words' without text: clip (the checkpoint's image "
        "tower and text_table.safetensors) or transformers:MODEL",
    )


def named_files(args: argparse.Namespace) -> list[Path]:
    """Return the input files among the flags of palettes from words."""
    given = vars(args)
    names = [given.get("words_key_file"), given.get("lexicon") or os.environ.get(LEXICON)]
    return [Path(name) for name in names if name]


def proposer_of(
    args: argparse.Namespace, seed: int | None = None, temperature: float | None = None
) -> Any:
    """Return the proposer (`words.Proposer`) of the flags or the environment.

    Raises:
        ValueError: if a key file or a table cannot be read, and as `Server`.
    """
    # Import here so that --help is fast.
    from palette_vc_jax.palette.language_model import from_environment
    from palette_vc_jax.palette.words import proposer

    given, key = vars(args), ""
    if "words_key_file" in given:
        try:
            key = files.read_text(args.words_key_file).strip()
        except (OSError, ValueError):
            raise ValueError(
                f"{args.words_key_file}: the key cannot be read; give a text file with the key."
            ) from None
    server = from_environment(
        given.get("words_model"), given.get("words_server"), key, args.words_timeout
    )
    table = given.get("lexicon") or os.environ.get(LEXICON)
    return proposer(server, table, seed, temperature)
