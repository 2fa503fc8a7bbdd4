"""Hardware that is not there, to compile for: TPU slices and GPUs.

The compilers are libtpu and JAX's CUDA plugin. They need no device: a slice has a name that libtpu
knows, and a GPU is described by the numbers of `GPUS`.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental import topologies

GIB = 2**30
MIB = 2**20
KIB = 2**10
CUDNN = (9, 28, 1)  # version that programs for GPUs are compiled for
# Memory that a program cannot use: what the driver keeps, the CUDA context, kernels, NCCL's
# buffers, and workspaces of cuDNN and cuBLAS, which are chosen on the device. An assumption.
RESERVED = 3 * GIB // 2
# Without these libtpu asks the network who it is, and only one process at a time may load it.
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
CUDA = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}  # JAX looks for CUDA's libraries


class Gpu(NamedTuple):
    """What the compiler asks of a GPU, and what its speed is bounded by."""

    kind: str  # as the driver and JAX name it
    capability: tuple[int, int]  # compute capability
    cores: int  # streaming multiprocessors
    threads: int  # of one of them
    fpus: int  # float32 units of one of them
    shared: int  # bytes of shared memory of one of them; a block may use all but 1 KiB
    l2: int  # bytes
    memory: int  # bytes, as `nvidia-smi` shows them
    bandwidth: float  # bytes/s of memory
    links: float  # bytes/s of NVLink, or PCIe where there is none, both directions together
    clock: float  # GHz, boost


# Multiprocessors, L2, memory, bandwidth, links and clock: NVIDIA's data sheets of each GPU (A100,
# H100 and H200 of the SXM form) and the white papers of their architectures. Limits of a
# multiprocessor: CUDA C++ Programming Guide, technical specifications per compute capability.
GPUS = {
    "a100-40": Gpu(
        "NVIDIA A100-SXM4-40GB",
        *((8, 0), 108, 2048, 64, 164 * KIB, 40 * MIB),
        *(40_960 * MIB, 1555e9, 600e9, 1.41),
    ),
    "a100-80": Gpu(
        "NVIDIA A100-SXM4-80GB",
        *((8, 0), 108, 2048, 64, 164 * KIB, 40 * MIB),
        *(81_920 * MIB, 2039e9, 600e9, 1.41),
    ),
    "h100": Gpu(
        "NVIDIA H100 80GB HBM3",
        *((9, 0), 132, 2048, 128, 228 * KIB, 50 * MIB),
        *(81_559 * MIB, 3350e9, 900e9, 1.98),
    ),
    "h200": Gpu(
        "NVIDIA H200",
        *((9, 0), 132, 2048, 128, 228 * KIB, 50 * MIB),
        *(143_771 * MIB, 4800e9, 900e9, 1.98),
    ),
    "rtx4090": Gpu(
        "NVIDIA GeForce RTX 4090",
        *((8, 9), 128, 1536, 128, 100 * KIB, 72 * MIB),
        *(24_564 * MIB, 1008e9, 64e9, 2.52),
    ),
    "l4": Gpu(
        "NVIDIA L4",
        *((8, 9), 58, 1536, 128, 100 * KIB, 48 * MIB),
        *(23_034 * MIB, 300e9, 64e9, 2.04),
    ),
}
# device_kind -> bytes/s of memory, and of all links between chips.
RATES = {
    "TPU v4": (1228e9, 300e9),  # cloud.google.com/tpu/docs
    "TPU v5 lite": (819e9, 200e9),
    "TPU v5": (2765e9, 600e9),
    "TPU v6 lite": (1640e9, 448e9),
} | {gpu.kind: (gpu.bandwidth, gpu.links) for gpu in GPUS.values()}
# device_kind -> bytes of memory a JAX device (of TPU v2 and v3 that is a core).
MEMORY = {
    "TPU v2": 8 * GIB,  # cloud.google.com/tpu/docs
    "TPU v3": 16 * GIB,
    "TPU v4": 32 * GIB,
    "TPU v5 lite": 16 * GIB,
    "TPU v5": 95 * GIB,
    "TPU v6 lite": 32 * GIB,
    "TPU7x": 96 * GIB,
} | {gpu.kind: gpu.memory for gpu in GPUS.values()}
# What a program may use; the TPU compiler itself refuses a program that needs more.
ROOM = {gpu.kind: gpu.memory - RESERVED for gpu in GPUS.values()}
# Without a device no algorithm can be timed, and Triton's matrix products are chosen by timing.
OPTIONS = {"gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}}

_TARGET = """\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: {block_shared}
  shared_memory_per_block_optin: {optin}
  shared_memory_per_core: {gpu.shared}
  threads_per_core_limit: {gpu.threads}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {gpu.bandwidth:.0f}
  l2_cache_size: {gpu.l2}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {gpu.memory}
  cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: {cudnn[0]} minor: {cudnn[1]} patch: {cudnn[2]} }}
device_description_str: "{gpu.kind}"
"""


def memory(kind: str) -> int | None:
    """Return the bytes of memory of a device of `kind`; None if they are not known.

    Kinds that are not in the table are looked up, where this process has such a device.
    """
    if kind in MEMORY:
        return MEMORY[kind]
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.device_kind == kind else None
    return stats.get("bytes_limit") if stats else None


def topology_devices(name: str) -> list[jax.Device]:
    """Return the devices of hardware that is not there, to compile for.

    Args:
        name: a TPU slice, such as `v5e:4x4`, or GPUs of one machine, such as `h100:8`.

    Raises ValueError if the hardware is not known or its compiler is not installed.
    """
    gpu, _, count = name.partition(":")
    try:
        if gpu in GPUS:
            return _gpus(GPUS[gpu], _count(name, count))
        return _slice(name)
    except ValueError:
        raise
    except Exception as error:  # the compilers and JAX each raise their own
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f'topology {name!r}: {reason}; pip install "jax[tpu]" or "jax[cuda13]", and give a '
            "TPU slice, such as v5e:4x4, v5p:2x2x2 or v6e:4x4, or GPU:COUNT with one of "
            f"{', '.join(GPUS)}."
        ) from None


def _count(name: str, count: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", count):
        raise ValueError(
            f"topology {name!r}: {count!r} is no number of GPUs; give 1 to 9999, as in h100:8."
        )
    return int(count)


def _target(gpu: Gpu) -> str:
    """Write a `GpuTargetConfigProto` as text."""
    return _TARGET.format(gpu=gpu, cudnn=CUDNN, block_shared=48 * KIB, optin=gpu.shared - KIB)


def _slice(name: str) -> list[jax.Device]:
    _find("libtpu")
    single = re.fullmatch(r"\w+:1x1(x1)?", name)  # unless told, libtpu takes hosts of four chips
    options = {"chips_per_host_bounds": (1, 1, 1)} if single else {}
    with _environment(LIBTPU):
        described = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
        return list(described.devices)


def _gpus(gpu: Gpu, count: int) -> list[jax.Device]:
    _find("cuda_compiler")
    describe = functools.partial(
        topologies.get_topology_desc,
        gpu.kind,
        platform="cuda",
        target_config=_target(gpu),
        topology=f"1x1x{count}",
    )
    with _environment(CUDA):
        try:
            devices = describe().devices
        except NotImplementedError:  # JAX looked for plugins before the folder was on the path
            from jax_plugins import xla_cuda13

            xla_cuda13.initialize()
            devices = describe().devices
    _answer_for_cudnn()
    return list(devices)


def _answer_for_cudnn() -> None:
    """Let attention be traced for cuDNN where it is not installed.

    JAX asks the installed cuDNN for its version while it traces. The compiler needs no cuDNN.
    """
    from jax._src.cudnn import fused_attention_stablehlo as fused

    try:
        fused.check_cudnn_version()
    except RuntimeError:
        major, minor, patch = CUDNN
        fused.check_cudnn_version = lambda: 10_000 * major + 100 * minor + patch


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while a compiler is loaded; those that are set keep their values."""
    added = values.keys() - os.environ.keys()
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _find(folder: str) -> None:
    """Look for a compiler in the folder of the environment that `make test` installs it to, last.

    On the default path JAX would look for the devices, too.
    """
    path = str(Path(sys.prefix) / folder)
    if path not in sys.path:
        sys.path.append(path)
