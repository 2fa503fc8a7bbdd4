"""The inputs that PyTorch and JAX are run on."""

from typing import NamedTuple

import numpy as np

from palette_vc_jax.models.config import ModelConfig

GUIDANCES = (1.0, 2.0)  # guidance scales of the pipeline runs: off, and constant
SMALL = 1e-3  # factor of a block's inputs at which the epsilon of a norm matters


class Case(NamedTuple):
    """Size and length of a comparison."""

    frames: int = 3
    height: int = 128  # pixels, a multiple of 64 for SVD
    width: int = 192
    steps: int = 25  # steps of the pipeline
    palette: bool = False
    dtype: str = "float32"  # what the JAX side computes in
    seed: int = 0

    def limit(self, limit: float) -> float:
        """Return the limit of an error in float32; narrower types have none."""
        return limit if self.dtype == "float32" else np.inf


def draw_inputs(config: ModelConfig, case: Case) -> dict[str, np.ndarray]:
    """Draw random inputs at the scales that occur in sampling.

    Raises:
        ValueError: if the model does not support the size, or there are too few frames or steps.
    """
    multiple = config.pixel_multiple
    if min(case.height, case.width) < 1 or case.height % multiple or case.width % multiple:
        raise ValueError(
            f"{case.width}x{case.height} pixels; give multiples of {multiple} for this model."
        )
    if case.frames < 1 or case.steps < 2:
        raise ValueError(
            f"{case.frames} frames, {case.steps} steps; give at least 1 frame and 2 steps."
        )
    rng = np.random.default_rng(case.seed)
    height, width = case.height // config.vae.downscale, case.width // config.vae.downscale
    latents = (case.frames, height, width, config.vae.latent_channels)
    smooth = rng.normal(size=(case.height // 8 + 1, case.width // 8 + 1, 3))
    image = np.tanh(np.kron(smooth, np.ones((8, 8, 1)))[: case.height, : case.width])

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "image": np.rint((image + 1.0) * 127.5).astype(np.uint8),  # [H, W, 3]
        "noise": normal(*latents),
        "sample": normal(1, *latents[:3], 2 * latents[3]),
        "context": normal(1, 1, config.unet.cross_attention_dim),
        "latents": 5.0 * normal(1, *latents),  # the scale of unscaled latents
        "palette": rng.uniform(-1.0, 1.0, (1, 3 * config.unet.palette_colors)).astype(np.float32),
        "ids": np.array([[6.0, 127.0, 0.0]], np.float32),
        "sigma": np.array([10.0], np.float32),
    }
