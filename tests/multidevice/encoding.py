"""Encode frames on all devices: `python -m tests.multidevice.encoding FOLDER` of a tiny model."""

import sys
from pathlib import Path

import jax
import numpy as np

from palette_vc_jax.data import latents
from palette_vc_jax.models.store import load_model


def frames() -> np.ndarray:
    """Draw five frames."""
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)


def encode(folder: Path) -> dict[str, np.ndarray]:
    """Return what is made of the frames, and how many of them each device was given."""
    encoder, given = latents.Encoder(load_model(folder), True), []
    compiled = latents._encode

    def noted(params, frame, seed, **options):
        given.append(frame.device.id)
        return compiled(params, frame, seed, **options)

    latents._encode = noted
    try:
        color, gray = encoder.latents(frames())
    finally:
        latents._encode = compiled
    return {
        "color": color,
        "gray": gray,
        "contexts": encoder.contexts(frames()),
        "given": np.bincount(given, minlength=jax.local_device_count()),
    }


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]) / "out.npz", **encode(Path(sys.argv[1])))
