"""`palette-vc NAME ...`: the entry point of all commands, and of the scripts of a checkout.

Without an installation, `python -m palette_vc_jax NAME ...` does the same.
"""

import importlib
import sys

from palette_vc_jax import __version__, cli
from palette_vc_jax.parallel.xla_flags import set_xla_flags

PROGRAM = "palette-vc"
# Name -> module of this package with `main(argv)`, and the command's description. A module is
# imported when its command runs, so that --help is fast.
COMMANDS = {
    "sample": ("sample", "color a film, a folder of frames or an image"),
    "plan": ("plan", "write a plan of a film's shots that can be edited"),
    "preview": ("preview", "show shots of a film under several palettes"),
    "studio": ("studio", "choose palettes in the browser, and color films from there"),
    "trim": ("trim", "change the colors of a finished film, without a model"),
    "palette": ("palette", "make a palette without coloring a film"),
    "evaluate": ("evaluate", "measure colored films, or reproduce the paper's tables"),
    "train": ("train", "train or fine-tune a model, or compile its step ahead of time"),
    "mixture": ("mixture", "fit the palette mixture to color clips"),
    "export": ("export", "write a run's newest checkpoint as a model folder"),
    "convert": ("svd_to_flax", "convert SVD's weights to a model folder"),
    "convert-back": ("flax_to_svd", "convert a model folder to SVD's formats"),
    "check-parity": ("check_parity", "compare a converted model with PyTorch"),
    "verify": ("verify", "convert, compare, sample and train here, and write a report"),
    "text-table": ("text_table", "embed the words that films are tagged with"),
    "metric-weights": ("metric_weights", "convert the weights of the metric networks"),
}


def main(argv: list[str]) -> None:
    """Run the command named by the first element of `argv`.

    Raises:
        ValueError: if there is no such command.
    """
    if argv[:1] in (["-h"], ["--help"]):
        print(_help())
        return
    if argv[:1] == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return
    name = argv[0] if argv else ""
    if name not in COMMANDS:
        given = f"command {name!r} is not known" if argv else "no command given"
        raise ValueError(f"{given}; use one of {', '.join(COMMANDS)}, or --help.")
    # argparse and absl print this as the name of the program.
    sys.argv = [f"{PROGRAM} {name}", *argv[1:]]
    _load(name).main(argv[1:])


def run() -> None:
    """Run as the console script, with errors in one line and an exit code."""
    set_xla_flags()
    cli.run(lambda: main(sys.argv[1:]))


def run_script(name: str) -> None:
    """Run one command from a script of the checkout, under the script's name."""
    set_xla_flags()
    cli.run(lambda: _load(name).main(sys.argv[1:]))


def _load(name: str):
    return importlib.import_module(f"palette_vc_jax.commands.{COMMANDS[name][0]}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} NAME [FLAGS], {PROGRAM} NAME --help, {PROGRAM} --version",
            "",
            *lines,
        ]
    )
