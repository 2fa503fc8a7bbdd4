"""Compare a converted model with PyTorch: `python convert/check_parity.py --torch A --flax B`."""

import argparse
import sys

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--torch", required=True, type=flags.path, help="diffusers folder")
    add("--flax", required=True, type=flags.path, help="model folder converted from it")
    add("--frames", type=int, default=3, help="number of frames")
    add("--height", type=int, default=128, help="height in pixels, a multiple of 64 for SVD")
    add("--width", type=int, default=192, help="width in pixels, a multiple of 64 for SVD")
    add("--steps", type=int, default=25, help="denoising steps of the pipeline")
    add("--palette", action="store_true", help="use a palette, which a hook adds in PyTorch")
    add(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="what the networks compute in here, while PyTorch computes in float32; errors of "
        "the narrow types have no limit",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Compare and print the table; exit with 1 if a row fails."""
    args = parse(argv)
    try:
        from palette_vc_jax.parity import case, check, report
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the package {error.name} is needed; run `pip install -r requirements-dev.txt`."
        ) from None

    sizes = args.frames, args.height, args.width, args.steps
    rows = []
    for row in check.check(args.torch, args.flax, case.Case(*sizes, args.palette, args.dtype)):
        rows.append(row)
        print(f"{row.name}: {row.relative:.1e}", file=sys.stderr)
    print(report.table(rows))
    failed = [row.name for row in rows if not row.passed]
    if failed:
        print(f"{len(failed)} of {len(rows)} comparisons failed: {', '.join(failed)}")
        sys.exit(cli.FAILURE)
