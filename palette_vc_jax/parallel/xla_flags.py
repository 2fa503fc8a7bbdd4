"""A flag with which XLA computes faster on x86 CPUs. It has to be set before JAX uses a device."""

import os
import platform
from importlib.metadata import version

VARIABLE = "XLA_FLAGS"
FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# Products and convolutions by XLA's own code instead of YNNPACK: 1.1 and 1.25 times as fast on two
# AVX-512 cores with jaxlib 0.10.2, 1.1 and 1.4 times with 0.12.0.
WITHOUT_YNNPACK = f"{FLAG}=-individual_dot,-individual_convolution"
JAXLIB = {(0, 10), (0, 11), (0, 12)}  # versions with the flag; an unknown one ends the process


def set_xla_flags() -> None:
    """Add the flag to `XLA_FLAGS` in the environment, unless it is there with another value.

    XLA takes a text without `--` at its beginning for the name of a file of flags, which is kept.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if given and not given.startswith("--"):
        return
    minor = tuple(map(int, version("jaxlib").split(".")[:2]))
    if platform.machine() in ("x86_64", "AMD64") and minor in JAXLIB and FLAG not in given:
        os.environ[VARIABLE] = f"{given} {WITHOUT_YNNPACK}".strip()
