"""Convert a model back: `python convert/flax_to_svd.py --source DIR --output DIR`."""

import argparse
import contextlib
import tempfile
from pathlib import Path

from palette_vc_jax import atomic, cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, type=flags.path, help="model folder, or a run's workdir")
    add("--output", required=True, type=flags.path, help="folder to write")
    add("--format", default="diffusers", choices=["diffusers", "sgm"], help="format of the output")
    add(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="type of the weights",
    )
    flags.add_run_weights(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Convert a model folder, or the newest checkpoint of a run."""
    args = parse(argv)
    from palette_vc_jax.conversion import svd
    from palette_vc_jax.training.workdir import has_checkpoints

    with contextlib.ExitStack() as stack:
        source = args.source
        if has_checkpoints(source):
            from palette_vc_jax.training.export import export_run  # loads what training needs

            atomic.check_folder(args.output)
            parent = args.output.absolute().parent  # /tmp may be too small for a model
            source = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=parent)))
            source = source / "model"
            export_run(args.source, source, args.weights)
        svd.flax_to_svd(source, args.output, args.format, args.dtype)
    cli.print_line(f"converted: {args.output}")
