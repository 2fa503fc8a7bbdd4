"""Convert SVD's weights: `python convert/svd_to_flax.py --source SVD --output DIR`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import atomic, cli


def main(argv: list[str] | None = None) -> None:
    """Read the flags and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--source",
        required=True,
        help="diffusers folder, SGM's single file (.safetensors), or a model on the hub "
        "(stabilityai/stable-video-diffusion-img2vid-xt-1-1)",
    )
    add("--output", required=True, type=cli.path, help="folder to write")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the weights")
    options = parser.parse_args(argv)

    from palette_vc_jax.conversion import hub, svd

    atomic.check_folder(options.output)  # before gigabytes are downloaded
    path = cli.local_path(options.source, "--source")
    if not path.exists() and hub.HUB_ID.fullmatch(options.source):
        path = hub.fetch(options.source)
    palette = svd.svd_to_flax(path, options.output, options.dtype, name=options.source)
    if palette is None:
        print(f"no palette layer beside {options.source}: it starts at zero")
    else:
        print(f"palette layer: {palette}")
    print(f"converted: {options.output}")


if __name__ == "__main__":
    cli.run(main)
