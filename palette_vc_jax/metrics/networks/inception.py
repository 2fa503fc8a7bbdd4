"""Inception v3, whose 2048 pooled features the Frechet inception distance compares.

Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", with the weights
of TensorFlow's 2015-12-05 release, as the package pytorch-fid runs them: mean pools do not count
padding, the last block pools by the maximum, and images are scaled to [-1, 1]. Distances by other
Inception weights, such as torchvision's, cannot be compared with these.
"""

import jax

from palette_vc_jax.metrics.networks.layers import (
    Conv,
    Mixed,
    Params,
    Pool,
    resize,
    run,
    shapes,
)

SIDE = 299  # pixels of the images that the network reads


def _conv(name: str, features: int, height: int = 1, width: int | None = None) -> Conv:
    return Conv(name, features, (height, width or height))


def _half(name: str, features: int) -> Conv:
    return Conv(name, features, (3, 3), stride=2, padding="VALID")


def _a(name: str, pooled: int) -> Mixed:
    double = _conv("branch3x3dbl_1", 64), _conv("branch3x3dbl_2", 96, 3)
    return Mixed(
        name,
        (
            (_conv("branch1x1", 64),),
            (_conv("branch5x5_1", 48), _conv("branch5x5_2", 64, 5)),
            (*double, _conv("branch3x3dbl_3", 96, 3)),
            (Pool("pool", "mean", (3, 3)), _conv("branch_pool", pooled)),
        ),
    )


def _b(name: str) -> Mixed:
    double = _conv("branch3x3dbl_1", 64), _conv("branch3x3dbl_2", 96, 3)
    return Mixed(
        name,
        (
            (_half("branch3x3", 384),),
            (*double, _half("branch3x3dbl_3", 96)),
            (Pool("pool", "max", (3, 3), 2, "VALID"),),
        ),
    )


def _c(name: str, narrow: int) -> Mixed:
    return Mixed(
        name,
        (
            (_conv("branch1x1", 192),),
            (
                _conv("branch7x7_1", narrow),
                _conv("branch7x7_2", narrow, 1, 7),
                _conv("branch7x7_3", 192, 7, 1),
            ),
            (
                _conv("branch7x7dbl_1", narrow),
                _conv("branch7x7dbl_2", narrow, 7, 1),
                _conv("branch7x7dbl_3", narrow, 1, 7),
                _conv("branch7x7dbl_4", narrow, 7, 1),
                _conv("branch7x7dbl_5", 192, 1, 7),
            ),
            (Pool("pool", "mean", (3, 3)), _conv("branch_pool", 192)),
        ),
    )


def _d(name: str) -> Mixed:
    return Mixed(
        name,
        (
            (_conv("branch3x3_1", 192), _half("branch3x3_2", 320)),
            (
                _conv("branch7x7x3_1", 192),
                _conv("branch7x7x3_2", 192, 1, 7),
                _conv("branch7x7x3_3", 192, 7, 1),
                _half("branch7x7x3_4", 192),
            ),
            (Pool("pool", "max", (3, 3), 2, "VALID"),),
        ),
    )


def _e(name: str, kind: str) -> Mixed:
    single = (_conv("branch3x3_1", 384),)
    double = _conv("branch3x3dbl_1", 448), _conv("branch3x3dbl_2", 384, 3)
    return Mixed(
        name,
        (
            (_conv("branch1x1", 320),),
            (*single, _conv("branch3x3_2a", 384, 1, 3)),
            (*single, _conv("branch3x3_2b", 384, 3, 1)),
            (*double, _conv("branch3x3dbl_3a", 384, 1, 3)),
            (*double, _conv("branch3x3dbl_3b", 384, 3, 1)),
            (Pool("pool", kind, (3, 3)), _conv("branch_pool", 192)),
        ),
    )


# Named as in torchvision's `inception_v3`.
LAYERS = (
    _half("Conv2d_1a_3x3", 32),
    Conv("Conv2d_2a_3x3", 32, (3, 3), padding="VALID"),
    _conv("Conv2d_2b_3x3", 64, 3),
    Pool("maxpool1", "max", (3, 3), 2, "VALID"),
    _conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), padding="VALID"),
    Pool("maxpool2", "max", (3, 3), 2, "VALID"),
    _a("Mixed_5b", 32),
    _a("Mixed_5c", 64),
    _a("Mixed_5d", 64),
    _b("Mixed_6a"),
    _c("Mixed_6b", 128),
    _c("Mixed_6c", 160),
    _c("Mixed_6d", 160),
    _c("Mixed_6e", 192),
    _d("Mixed_7a"),
    _e("Mixed_7b", "mean"),
    _e("Mixed_7c", "max"),
)


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors on file."""
    return shapes(LAYERS)


@jax.jit
def features(params: Params, frames: jax.Array) -> jax.Array:
    """Return the pooled features `[B, 2048]`.

    Args:
        params: from `weights.load('inception_pytorch_fid')`.
        frames: sRGB `[B, H, W, 3]` in [0, 1], which are resized without antialiasing.
    """
    *_, last = run(LAYERS, params, prepare(frames)).values()
    return last.mean(axis=(1, 2))


def prepare(frames: jax.Array) -> jax.Array:
    """Convert frames `[B, H, W, 3]` in [0, 1] to the network's size and to [-1, 1]."""
    return 2.0 * resize(frames, SIDE, SIDE) - 1.0
