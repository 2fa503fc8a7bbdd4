"""The same step on several meshes of simulated devices, in a process of its own.

`python -m tests.multidevice.meshes OUT.npz` computes, on each of `MESHES`, the gradients of a
small model's loss and what three steps of plain SGD move.
"""

import gc
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax import cli
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models import functional
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.parallel.rules import state_shardings
from palette_vc_jax.training.config import RatesConfig
from palette_vc_jax.training.losses import edm_loss

MESHES = {  # name -> devices, sizes, what the backward pass computes again
    "one": (1, dict(data=1, fsdp=1, frames=1), "none"),
    "data": (8, dict(data=8, fsdp=1, frames=1), "none"),
    "fsdp": (8, dict(data=1, fsdp=-1, frames=1), "layers"),
    "all": (8, dict(data=2, fsdp=2, frames=2), "attention"),
}
CONFIG = model_config.ModelConfig(
    "multidevice",
    unet=model_config.UNetConfig(
        block_out_channels=(16, 32),
        attention=(False, False),  # there is one in the middle
        num_attention_heads=(2, 4),
        layers_per_block=1,
        cross_attention_dim=16,
        addition_time_embed_dim=8,
        norm_groups=4,
    ),
)
RATES = RatesConfig(
    palette_dropout=0.3, gray_dropout=0.2, reference_color=0.5, reference_none=0.2,
    joint_dropout=0.1,
)  # fmt: skip
RATE, STEPS, BATCH = 1e-2, 3, 8


def random_params(seed: int = 0) -> functional.Params:
    """Draw parameters that all show in the output: none is zero."""
    rng = np.random.default_rng(seed)
    flat = {}
    for name, leaf in functional.shapes(UNet, CONFIG.unet).items():
        fan_in = np.prod(leaf.shape[:-1]) if name.endswith("kernel") else 25
        center = float(name.endswith("scale"))
        flat[name] = rng.normal(center, fan_in**-0.5, leaf.shape).astype(np.float32)
    return functional.nest(flat)


def random_batch(seed: int = 7, frames: int = 4) -> dict[str, np.ndarray]:
    """Draw latents of 4 x 6 places, and what goes with them."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(BATCH, *shape)).astype(np.float32)

    latents = (frames, 4, 6, CONFIG.unet.latent_channels)
    contexts = {f"context_{kind}": normal(1, 16) for kind in ("color", "gray")}
    turned = rng.random(BATCH) < 0.5
    batch = {"color": normal(*latents), "gray": normal(*latents), "hue_shifted": turned}
    return batch | contexts | {"palette": np.tanh(normal(15))}


def run(name: str) -> dict[str, np.ndarray]:
    """Return the first loss and gradients, and how far `STEPS` steps move, on mesh `name`."""
    devices, sizes, remat = MESHES[name]
    mesh = make_mesh(sizes, jax.devices()[:devices])
    start = {"unet": random_params()}
    places = state_shardings(start, mesh, split_from=32)
    batch = placement.put_batch(random_batch(), mesh)

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        sigma = jnp.exp(jax.random.normal(key, (BATCH,)))
        # In as many parts as there are frames or places, where the backward pass computes again.
        size = None if remat == "none" else 1
        return edm_loss(params, batch, sigma, key, CONFIG, RATES, remat=remat, chunk_bytes=size)[0]

    compute = jax.jit(jax.value_and_grad(loss), out_shardings=(None, places))
    found, moved = {}, jax.tree.map(lambda leaf: np.zeros(leaf.shape), start)
    for step in range(STEPS):
        # What was moved is summed in float64: parameters round to more than the smallest moves.
        params = jax.tree.map(lambda leaf, by: (leaf - by).astype(np.float32), start, moved)
        with jax.set_mesh(mesh):
            params = jax.device_put(params, places)
            value, gradient = compute(params, batch, jax.random.key(step))
        found = found or {"loss": np.asarray(value)} | _flat("gradient", gradient)
        moved = jax.tree.map(lambda by, g: by + RATE * np.asarray(g, np.float64), moved, gradient)
    return found | _flat("moved", moved)


def _flat(kind: str, tree: Any) -> dict[str, np.ndarray]:
    return {f"{kind}/{k}": np.asarray(v) for k, v in functional.flatten(tree).items()}


if __name__ == "__main__":
    gc.set_threshold(cli.COLLECT_EVERY)  # as commands do
    np.savez(sys.argv[1], **{f"{m}/{k}": v for m in MESHES for k, v in run(m).items()})
