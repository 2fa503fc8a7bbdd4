"""Convert the metric networks' weights: `python convert/metric_weights.py FILE...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax.commands.main import run_script

if __name__ == "__main__":
    run_script("metric-weights")
