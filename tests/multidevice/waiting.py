"""One of two processes that wait for each other: `python -m tests.multidevice.waiting LATE`.

The second process comes in time to the first meeting, and LATE seconds late to the next.
"""

import sys
import time

import jax

from palette_vc_jax import cli
from palette_vc_jax.parallel.mesh import join_processes
from palette_vc_jax.parallel.placement import wait_for_all


def main() -> None:
    """Meet twice."""
    jax.devices()
    late = float(sys.argv[1]) if jax.process_index() == 1 else 0.0
    wait_for_all("the start", limit=120)
    time.sleep(late)
    wait_for_all("the latent cache", limit=2, every=0.2)


if __name__ == "__main__":
    join_processes()
    cli.run(main)
