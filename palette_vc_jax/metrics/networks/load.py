"""Load the networks whose features metrics compare."""

import functools
from collections.abc import Iterable
from pathlib import Path

from palette_vc_jax.metrics.chunk import FeatureNetwork
from palette_vc_jax.metrics.networks import i3d, inception, lpips, weights
from palette_vc_jax.metrics.networks.layers import Params


def _lpips(params: Params) -> FeatureNetwork:
    return FeatureNetwork(
        functools.partial(lpips.features, params), functools.partial(lpips.distance, params)
    )


def _inception(params: Params) -> FeatureNetwork:
    return FeatureNetwork(functools.partial(inception.features, params))


def _i3d(params: Params) -> FeatureNetwork:
    return FeatureNetwork(i3d.prepare, videos=functools.partial(i3d.logits, params))


# Name of the weights -> function from parameters to the network.
BUILDERS = {
    "lpips_alex": _lpips,
    "lpips_vgg": _lpips,
    "inception_pytorch_fid": _inception,
    "i3d": _i3d,
}


def load_feature_networks(
    names: Iterable[str], folder: Path = weights.FOLDER
) -> tuple[dict[str, FeatureNetwork], dict[str, str]]:
    """Load networks from a folder of weights.

    Args:
        names: keys of `BUILDERS`.
        folder: see `weights`.

    Returns:
        The networks by name, and for each network without weights the command that gets them.

    Raises:
        ValueError: if weights are damaged.
    """
    networks: dict[str, FeatureNetwork] = {}
    missing: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if command := weights.missing(name, folder):
            missing[name] = command
        else:
            networks[name] = BUILDERS[name](weights.load(name, folder))
    return networks, missing
