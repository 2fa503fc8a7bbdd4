"""Export a run's newest checkpoint: `python convert/run_to_model.py --source WORKDIR --output DIR`.

The run may still be in progress. `sample.py --checkpoint` takes the model folder.
"""

import argparse

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, help="the --workdir of a training run")
    add("--output", required=True, help="model folder to write; it is created when it is complete")
    flags.add_run_weights(parser)
    add(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="type of the weights (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Export the run."""
    args = parse(argv)
    source = cli.local_path(args.source, "--source")
    output = cli.local_path(args.output, "--output")
    from palette_vc_jax import atomic
    from palette_vc_jax.conversion.tensors import DTYPES
    from palette_vc_jax.training import export

    atomic.check_folder(output)
    export.export_run(source, output, args.weights, DTYPES[args.dtype])
    cli.print_line(f"model: {output}")
