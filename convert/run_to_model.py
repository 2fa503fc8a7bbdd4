"""Export a run's newest checkpoint: `python convert/run_to_model.py --source WORKDIR --output DIR`.

The run may still be going on. The model folder is what `sample.py --checkpoint` takes.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import cli


def main(argv: list[str] | None = None) -> None:
    """Read the flags and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, help="the --workdir of a run of train.py")
    add("--output", required=True, help="model folder to write; it appears when it is complete")
    add(
        "--weights",
        default="ema",
        choices=["ema", "raw"],
        help="the moving average over steps, or the last step's (%(default)s)",
    )
    add(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights (%(default)s)",
    )
    options = parser.parse_args(argv)
    source = cli.local_path(options.source, "--source")
    output = cli.local_path(options.output, "--output")

    from palette_vc_jax import atomic
    from palette_vc_jax.conversion.tensors import DTYPES
    from palette_vc_jax.training import export

    atomic.check_folder(output)
    export.export_run(source, output, options.weights, DTYPES[options.dtype])
    print(f"model: {output}")


if __name__ == "__main__":
    cli.run(main)
