"""Compare frames that are decoded in chunks with the same frames decoded at once: a table.

    python benchmarks/decoder_seams.py
    python benchmarks/decoder_seams.py --model svd --chunk 10

By default, the bundled model decodes the latents of examples/bikes.mp4. `--model svd` takes a
decoder of the full size with random weights, and latents of random noise that changes slowly.

The columns are differences of 8-bit codes: the mean, the largest mean of a frame, and the seam:
the largest mean change of the difference from a frame to the next, which is what flickers.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import DEMO, cli, open_film
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models import functional
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import Model, load_model
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.sampling.decode import decode_chunks, encode_frames
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import model_size, small_gray

FILM = Path(__file__).resolve().parents[1] / "examples" / "bikes.mp4"
WAYS = ((0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0), (2, 2), (2, 4))  # context, fade
SIDE = 8  # height and width of the random latents


def random_decoder() -> Model:
    """Return SVD with random weights of its VAE alone.

    Each layer keeps the variance of its input, so that no activation leaves the natural range,
    and spatial and temporal layers count the same.
    """
    config, rng = model_config.svd(), np.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> jax.Array:
        if name.endswith("kernel"):
            deviation = 1.0 / math.sqrt(math.prod(shape[:-1]))
            return jnp.asarray(rng.normal(0.0, deviation, shape), jnp.float32)
        return jnp.full(shape, float(name.endswith("scale")), jnp.float32)

    shapes = functional.shapes(VAE, config.vae)
    params = functional.nest({name: draw(name, leaf.shape) for name, leaf in shapes.items()})
    return Model(config, {"vae": params})


def random_latents(frames: int, channels: int) -> np.ndarray:
    """Return latents `[frames, h, w, C]` of unit variance that change slowly."""
    noise = np.random.default_rng(1).normal(size=(frames + 16, SIDE * SIDE * channels))
    slow = cv2.GaussianBlur(noise, (1, 31), 4.0)[8:-8]
    return (slow / slow.std()).reshape(frames, SIDE, SIDE, channels).astype(np.float32)


def film_latents(model: Model, encode, frames: int) -> np.ndarray:
    """Return the latents of the first frames of the example."""
    film = open_film(FILM)
    short_side = model.config.sampling.short_side
    size = model_size(film.height, film.width, short_side, model.config.pixel_multiple)
    grays = [
        small_gray(frame, film, size)
        for frame, _ in zip(read_frames(film), range(frames), strict=False)
    ]
    return np.concatenate(list(encode_frames(encode, grays, 8)))


def main(argv: Sequence[str] | None = None) -> None:
    """Decode and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(DEMO), help="model folder, or svd (%(default)s)")
    parser.add_argument("--frames", type=int, default=36, help="frames to decode (36)")
    parser.add_argument("--chunk", type=int, help="frames of a chunk (the model's)")
    options = parser.parse_args(argv)
    random = options.model == "svd"
    model = random_decoder() if random else load_model(Path(options.model), ("vae",))
    networks = load_networks(model)
    if random:
        latents = random_latents(options.frames, model.config.vae.latent_channels)
    else:
        latents = film_latents(model, networks.encode, options.frames)
    chunk = options.chunk or model.config.sampling.decode_chunk

    def decoded(size: int, context: int, fade: int) -> np.ndarray:
        shots = [(0, len(latents))]
        frames = np.concatenate(
            list(decode_chunks(networks.decode, latents, shots, size, context, fade))
        )
        return 127.5 * frames

    whole = decoded(len(latents), 0, 0)
    print(f"standard deviation of the frames: {whole.std():.1f} codes; chunks of {chunk} frames\n")
    print("| context | fade | frames decoded | mean | worst frame | seam |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for context, fade in WAYS:
        error = decoded(chunk, context, fade) - whole
        worst = np.abs(error).mean((1, 2, 3)).max()
        seam = np.abs(np.diff(error, axis=0)).mean((1, 2, 3)).max()
        share = chunk / (chunk - 2 * context - fade)
        numbers = f"{np.abs(error).mean():.2f} | {worst:.2f} | {seam:.2f}"
        print(f"| {context} | {fade} | {share:.2f} | {numbers} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
