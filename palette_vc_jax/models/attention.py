"""The one entry to attention: it alone decides how the softmax is computed.

Logits of a whole spatial layer at 1024x576 (9216 x 9216 a head and frame) do not fit any device.
Long sequences go through a fused kernel where the hardware has one, and elsewhere the queries are
taken in chunks, each against all keys.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from palette_vc_jax.parallel import placement

ATTENTION = "attention"  # name of what a kernel gives, for remat policies
LOGITS_BUDGET = 2**28  # bytes of fp32 logits held at once; above it, queries go in chunks
# Queries and keys from which on a fused kernel pays; cuDNN's was measured (docs/benchmarks.md).
PAYS_FROM = {"cudnn": 128, "splash": 1024}
LANES = 128  # a TPU's sequences are padded to multiples of it
TPU_BLOCKS = (1024, 768, 512, 384, 256, 128)  # of queries or keys; those that divide fit the lanes
HALF = (jnp.bfloat16, jnp.float16)
CHOICES = ("auto", "cudnn", "splash", "chunked")  # what computes the attention of long sequences
CUDNN_FROM = (8, 0)  # compute capability

_choice: contextvars.ContextVar[str] = contextvars.ContextVar("choice", default="auto")


@contextlib.contextmanager
def using(choice: str) -> Iterator[None]:
    """Set what computes the attention of long sequences; enter it inside of the traced function.

    Args:
        choice: `cudnn` (NVIDIA GPUs), `splash` (TPUs), `chunked` (XLA, any device), or `auto`: the
            kernel of the device that the program is compiled for, if it has one. Sequences that a
            kernel does not take are computed by XLA.
    """
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


def check_choice(choice: str, device: jax.Device) -> None:
    """Raise ValueError if `choice` is not known, or `device` cannot compute it."""
    if choice not in CHOICES:
        raise ValueError(f"attention {choice!r} is not known; use one of {', '.join(CHOICES)}.")
    own = kernel_of(device.platform, placement.compute_capability(device))
    if choice in KERNELS and choice != own:
        raise ValueError(
            f"attention {choice!r} on {device.device_kind}; give auto or chunked: cudnn needs an "
            "NVIDIA GPU of compute capability 8.0 or more, and splash a TPU."
        )


def kernel_of(platform: str, capability: tuple[int, int] | None) -> str | None:
    """Name the fused kernel of a platform, or of a GPU of a compute capability; None without."""
    if platform == "tpu":
        return "splash"
    fits = platform == "gpu" and capability is not None and capability >= CUDNN_FROM
    return "cudnn" if fits else None


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attend: softmax(q k^T / sqrt(D)) v, with the softmax in fp32.

    Args:
        query: `[B, S, N, D]`, or `[B, M, S, N, D]` with M frames or places that attend alone.
        key, value: the same with L in place of S.

    Returns:
        The shape and type of the query.
    """
    own = kernel_of(placement.platform(), placement.target_capability())
    wanted = own if _choice.get() == "auto" else _choice.get()
    kind = choose(wanted, query.dtype, query.shape[-3], key.shape[-3], key.shape[-1])
    if kind is None:
        return checkpoint_name(_budgeted(query, key, value), ATTENTION)
    if query.ndim == 4:
        return attention(query[:, None], key[:, None], value[:, None])[:, 0]
    kernel = KERNELS[kind]

    def fused(*parts: jax.Array) -> jax.Array:
        folded = (x.reshape(-1, *x.shape[2:]) for x in parts)  # [B*M, S, N, D]
        return kernel(*folded).reshape(parts[0].shape)

    return placement.on_each_device(fused, query, key, value)


def choose(kernel: str | None, dtype: jnp.dtype, queries: int, keys: int, size: int) -> str | None:
    """Return `kernel` if it takes S queries, L keys and heads of `size`, and pays; else None.

    Both take half precision and heads up to 128. cuDNN takes heads in multiples of 8; in training,
    JAX gives it no odd lengths.
    """
    if kernel not in KERNELS or dtype not in HALF or size > 128:
        return None
    if min(queries, keys) < PAYS_FROM[kernel]:
        return None
    refused = kernel == "cudnn" and (size % 8 or queries % 2 or keys % 2)
    return None if refused else kernel


def plain_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attend with all logits in memory; `[..., S, N, D]` and `[..., L, N, D]`."""
    scale = query.shape[-1] ** -0.5
    logits = jnp.einsum("...snd,...lnd->...nsl", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * scale, axis=-1).astype(value.dtype)
    return jnp.einsum("...nsl,...lnd->...snd", weights, value)


def chunked_attention(query: jax.Array, key: jax.Array, value: jax.Array, chunk: int) -> jax.Array:
    """Attend `chunk` queries at a time; shapes as in `plain_attention`, any chunk from 1 up.

    The backward pass computes each chunk's logits again instead of keeping them.
    """
    *lead, length, heads, size = query.shape
    chunk = min(chunk, length)
    count = -(-length // chunk)
    border = [(0, 0)] * len(lead) + [(0, count * chunk - length), (0, 0), (0, 0)]
    chunks = jnp.pad(query, border).reshape(*lead, count, chunk, heads, size)
    attend = jax.checkpoint(lambda part: plain_attention(part, key, value))
    out = jax.lax.map(attend, jnp.moveaxis(chunks, -4, 0))  # [count, ..., chunk, N, D]
    out = jnp.moveaxis(out, 0, -4).reshape(*lead, count * chunk, heads, size)
    return out[..., :length, :, :]


def _budgeted(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    *lead, length, heads, _ = query.shape
    row_bytes = 4 * math.prod(lead) * heads * key.shape[-3] // placement.num_devices()
    if length * row_bytes <= LOGITS_BUDGET:
        return plain_attention(query, key, value)
    return chunked_attention(query, key, value, max(1, LOGITS_BUDGET // max(1, row_bytes)))


def _cudnn(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")


def _splash(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Run JAX's TPU kernel a frame at a time: its temporaries are a frame's then."""
    lengths = query.shape[1], key.shape[1]
    padded = [length + -length % LANES for length in lengths]
    kernel = _splash_kernel(query.shape[2], *padded)
    scaled = query * query.shape[-1] ** -0.5
    heads_first = [x.swapaxes(1, 2) for x in (scaled, key, value)]  # [B, N, S, D]
    ids = None
    if padded != list(lengths):
        from jax.experimental.pallas.ops.tpu import splash_attention as splash

        heads_first = [
            jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % LANES), (0, 0))) for x in heads_first
        ]
        # Padding is a segment of its own, which nothing else attends to.
        ids = splash.SegmentIds(
            *(
                (jnp.arange(whole) >= length).astype(jnp.int32)
                for whole, length in zip(padded, lengths, strict=True)
            )
        )
    out = jax.lax.map(lambda parts: kernel(*parts, segment_ids=ids), heads_first)
    return out[:, :, : lengths[0]].swapaxes(1, 2)


def _splash_kernel(heads: int, queries: int, keys: int) -> Callable[..., jax.Array]:
    # Made anew for each trace: what it holds of the mask belongs to the traced program.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    rows, columns = (
        next(size for size in TPU_BLOCKS if length % size == 0) for length in (queries, keys)
    )
    blocks = splash.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_q_dq=rows,
        block_kv_dq=columns,
    )
    mask = splash.MultiHeadMask([splash.FullMask((queries, keys))] * heads)
    return splash.make_splash_mha_single_device(
        mask, block_sizes=blocks, residual_checkpoint_name=ATTENTION
    )


KERNELS = {"cudnn": _cudnn, "splash": _splash}
