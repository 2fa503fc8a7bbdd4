"""Convert a model back: `python convert/flax_to_svd.py --source DIR --output DIR`."""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import atomic, cli


def main(argv: list[str] | None = None) -> None:
    """Read the flags and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, type=cli.path, help="model folder, or the workdir of a run")
    add("--output", required=True, type=cli.path, help="folder to write")
    add("--format", default="diffusers", choices=["diffusers", "sgm"], help="of the output")
    add(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights",
    )
    add("--weights", default="ema", choices=["ema", "raw"], help="of a run's newest checkpoint")
    options = parser.parse_args(argv)

    from palette_vc_jax.conversion import svd
    from palette_vc_jax.training import export

    with contextlib.ExitStack() as stack:
        source = options.source
        if export.has_checkpoints(source):
            atomic.check_folder(options.output)
            beside = options.output.absolute().parent  # has room for a model, as /tmp may not
            source = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=beside)))
            source = source / "model"
            export.export_run(options.source, source, options.weights)
        svd.flax_to_svd(source, options.output, options.format, options.dtype)
    print(f"converted: {options.output}")


if __name__ == "__main__":
    cli.run(main)
