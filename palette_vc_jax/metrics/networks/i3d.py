"""The network of the Frechet video distance: I3D on RGB, trained on Kinetics-400.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", with the weights of TensorFlow Hub's
deepmind/i3d-kinetics-400/1; FVD compares its 400 logits before the softmax. Other published weights
called I3D come from other trainings and give other distances.
"""

import jax

from palette_vc_jax.metrics.networks.layers import (
    Conv,
    Mixed,
    Params,
    Pool,
    convolve,
    resize,
    run,
    shapes,
)

SIDE = 224  # pixels of the frames that the network reads
MIN_FRAMES = 9  # frames of a clip; with fewer, the last pool has no pair to average
POINT, CUBE = (1, 1, 1), (3, 3, 3)
HEAD = "Logits.Conv3d_0c_1x1"


def _mixed(name: str, a: int, b: int, c: int, d: int, e: int, f: int) -> Mixed:
    """Return a block of widths a | b, c | d, e | f."""
    return Mixed(
        name,
        (
            (Conv("Branch_0.Conv3d_0a_1x1", a, POINT),),
            (Conv("Branch_1.Conv3d_0a_1x1", b, POINT), Conv("Branch_1.Conv3d_0b_3x3", c, CUBE)),
            (Conv("Branch_2.Conv3d_0a_1x1", d, POINT), Conv("Branch_2.Conv3d_0b_3x3", e, CUBE)),
            (Pool("pool", "max", CUBE), Conv("Branch_3.Conv3d_0b_1x1", f, POINT)),
        ),
    )


LAYERS = (
    Conv("Conv3d_1a_7x7", 64, (7, 7, 7), stride=2),
    Pool("MaxPool3d_2a_3x3", "max", (1, 3, 3), (1, 2, 2)),
    Conv("Conv3d_2b_1x1", 64, POINT),
    Conv("Conv3d_2c_3x3", 192, CUBE),
    Pool("MaxPool3d_3a_3x3", "max", (1, 3, 3), (1, 2, 2)),
    _mixed("Mixed_3b", 64, 96, 128, 16, 32, 32),
    _mixed("Mixed_3c", 128, 128, 192, 32, 96, 64),
    Pool("MaxPool3d_4a_3x3", "max", CUBE, 2),
    _mixed("Mixed_4b", 192, 96, 208, 16, 48, 64),
    _mixed("Mixed_4c", 160, 112, 224, 24, 64, 64),
    _mixed("Mixed_4d", 128, 128, 256, 24, 64, 64),
    _mixed("Mixed_4e", 112, 144, 288, 32, 64, 64),
    _mixed("Mixed_4f", 256, 160, 320, 32, 128, 128),
    Pool("MaxPool3d_5a_2x2", "max", (2, 2, 2), 2),
    _mixed("Mixed_5b", 256, 160, 320, 32, 128, 128),
    _mixed("Mixed_5c", 384, 192, 384, 48, 128, 128),
)


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors on file; the norms have no scale."""
    head = Conv(HEAD, 400, POINT, norm=False)
    return shapes((*LAYERS, head), norm=("bias", "mean", "var"))


@jax.jit
def prepare(frames: jax.Array) -> jax.Array:
    """Convert frames `[T, H, W, 3]`, sRGB in [0, 1], to `[T, 224, 224, 3]` in [-1, 1].

    Resizing is bilinear, without antialiasing and without keeping the aspect ratio, as in FVD.
    """
    return 2.0 * resize(frames, SIDE, SIDE) - 1.0


@jax.jit
def logits(params: Params, clips: jax.Array) -> jax.Array:
    """Return the logits `[B, 400]` of clips `[B, T, 224, 224, 3]` from `prepare`.

    Raises:
        ValueError: if clips have fewer than 9 frames or another size.
    """
    if clips.shape[1] < MIN_FRAMES or clips.shape[2:] != (SIDE, SIDE, 3):
        raise ValueError(
            f"clips of {clips.shape[1]} frames of {clips.shape[3]}x{clips.shape[2]}; FVD's network "
            f"needs at least {MIN_FRAMES} of {SIDE}x{SIDE}: give longer films, resized."
        )
    *_, x = run(LAYERS, params, clips).values()  # [B, ceil(T / 8), 7, 7, 1024]
    pairs = 0.5 * (x[:, :-1] + x[:, 1:])
    # The head is linear, so the mean over positions and time can be taken before it.
    mean = pairs.mean(axis=(1, 2, 3), keepdims=True)
    return convolve(mean, params[HEAD])[:, 0, 0, 0]
