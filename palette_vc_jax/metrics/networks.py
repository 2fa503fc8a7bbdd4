"""The networks that metrics need, put together from their weights."""

import functools
from collections.abc import Iterable
from pathlib import Path

from palette_vc_jax.metrics import i3d, inception, lpips, weights
from palette_vc_jax.metrics.chunk import Network
from palette_vc_jax.metrics.layers import Params
from palette_vc_jax.metrics.meters import METRICS
from palette_vc_jax.metrics.pooled import POOLED


def _lpips(params: Params) -> Network:
    return Network(
        functools.partial(lpips.features, params), functools.partial(lpips.distance, params)
    )


def _inception(params: Params, variant: str) -> Network:
    return Network(lambda frames: inception.features(params, frames, variant))


def _i3d(params: Params) -> Network:
    return Network(i3d.prepare, videos=functools.partial(i3d.logits, params))


# Name of the weights -> the network, given its parameters.
NETWORKS = {
    "lpips_alex": _lpips,
    "lpips_vgg": _lpips,
    "inception_pytorch_fid": functools.partial(_inception, variant="pytorch-fid"),
    "inception_torchvision": functools.partial(_inception, variant="torchvision"),
    "i3d": _i3d,
}


def load_networks(
    names: Iterable[str], folder: Path = weights.FOLDER
) -> tuple[dict[str, Network], dict[str, str]]:
    """Load what the metrics `names` need from a folder of weights.

    Returns the networks by name, and for each metric whose weights are missing the line that gets
    them. Raises ValueError for weights that are damaged.
    """
    networks: dict[str, Network] = {}
    gaps = {}
    for name in names:
        network = (METRICS | POOLED)[name].network if name in METRICS or name in POOLED else None
        if network is None or network in networks:
            continue
        get = weights.missing(network, folder)
        if get:
            gaps[name] = f"no weights; get them with: {get}"
        else:
            networks[network] = NETWORKS[network](weights.load(network, folder))
    return networks, gaps
