"""Run `sample.py` in runs of at most 60 frames, and print what was compiled, as JSON.

`python -m tests.sampling.compilations FLAG ...` with a folder in `JAX_COMPILATION_CACHE_DIR`.
"""

import json
import os
import sys
from pathlib import Path

import jax

from palette_vc_jax import cli
from palette_vc_jax.commands import sample
from palette_vc_jax.sampling import plan

MISSES = "/jax/compilation_cache/cache_misses"


def main() -> None:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    plan.RUN_FRAMES = 60
    cli.run(lambda: sample.main(sys.argv[1:]))
    names = [path.name for path in Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).glob("*-cache")]
    print(json.dumps({"misses": events.count(MISSES), "programs": names}))


if __name__ == "__main__":
    main()
