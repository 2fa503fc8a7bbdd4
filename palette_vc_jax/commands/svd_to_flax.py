"""Convert SVD's weights: `python convert/svd_to_flax.py --source SVD --output DIR`."""

import argparse

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--source",
        required=True,
        help="diffusers folder, single file (.safetensors), or a model on the hub "
        "(stabilityai/stable-video-diffusion-img2vid-xt-1-1)",
    )
    add(
        "--base",
        help="whole SVD, for the networks that --source lacks: as --source, or a converted model",
    )
    add("--output", required=True, type=flags.path, help="folder to write")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="type of the weights")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Convert the weights, and print the source of the palette layer."""
    args = parse(argv)
    from palette_vc_jax.conversion.svd import convert_svd

    cli.local_path(args.source, "--source")
    if args.base:
        cli.local_path(args.base, "--base")
    palette = convert_svd(args.source, args.output, args.dtype, args.base)
    if palette is None:
        cli.print_line(f"no palette layer next to {args.source}: it starts at zero")
    else:
        cli.print_line(f"palette layer: {palette}")
    cli.print_line(f"converted: {args.output}")
