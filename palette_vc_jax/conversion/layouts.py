"""Find the tensors of the networks in a file, under SGM's names or those of diffusers."""

from collections.abc import Collection, Mapping

import numpy as np

from palette_vc_jax.conversion import clip, recognize, sgm, unet, vae
from palette_vc_jax.conversion.table import Table, mismatches, torch_mismatches
from palette_vc_jax.conversion.tensors import Tensor
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.functional import shapes
from palette_vc_jax.models.store import NETWORKS

TABLES = {
    "unet": unet.unet_table,
    "vae": vae.vae_table,
    "image_encoder": clip.image_encoder_table,
}


def tables(config: ModelConfig) -> dict[str, Table]:
    """Return the table of each network."""
    return {name: TABLES[name](shapes(NETWORKS[name], getattr(config, name))) for name in NETWORKS}


def from_diffusers(
    stored: Mapping[str, Tensor], networks: Collection[str], config: ModelConfig, name: str
) -> tuple[dict[str, dict[str, Tensor]], str]:
    """Return the tensors of networks under diffusers' names, and what is wrong with them."""
    tensors: dict[str, dict[str, Tensor]] = {}
    for network in networks:
        named = {recognize.own_name(network, key): tensor for key, tensor in stored.items()}
        tensors[network] = {key: tensor for key, tensor in named.items() if key is not None}
    by_network = tables(config)
    wrong = (torch_mismatches(by_network[n], shapes_of(tensors[n])) for n in networks)
    return tensors, "".join(wrong)


def from_sgm(
    stored: Mapping[str, Tensor], networks: Collection[str], config: ModelConfig, name: str
) -> tuple[dict[str, dict[str, Tensor]], str]:
    """Return the tensors of networks in an SGM file, and what is wrong with them.

    Tensors of networks that are not asked for are ignored.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    wanted, other = {}, set()
    for network, table in tables(config).items():
        if network not in networks:
            other |= set(sgm.PREFIXES[network])
            continue
        tensors[network] = {}
        for entry in table.entries:
            if entry.torch in table.zero_if_absent:
                continue
            location = sgm.locate(network, entry.torch, config)
            shape = sgm.sgm_shape(entry.torch_shape, location.part)
            wanted[location.name] = shape
            if location.name in stored and stored[location.name].shape == shape:
                tensors[network][entry.torch] = part_of(stored[location.name], location.part)
    given = {
        key: tensor.shape
        for key, tensor in stored.items()
        if key in wanted or not (sgm.is_unused(key) or key.startswith(tuple(other)))
    }
    return tensors, mismatches(name, wanted, given)


def part_of(tensor: Tensor, part: str) -> Tensor:
    """Return a part of an SGM tensor, as named by `sgm.Location`."""
    shape, read = tensor
    if part == "full":
        return tensor
    if part == "conv1x1":
        return Tensor(shape[:2], lambda: read().reshape(shape[:2]))
    if part == "transposed":
        return Tensor(shape[::-1], lambda: np.ascontiguousarray(read().T))
    third, index = shape[0] // 3, "qkv".index(part)
    return Tensor((third, *shape[1:]), lambda: read()[index * third : (index + 1) * third])


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors by name."""
    return {name: tensor.shape for name, tensor in tensors.items()}
