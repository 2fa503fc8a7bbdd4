"""Export a run: `python convert/run_to_model.py --source WORKDIR --output DIR`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax.commands.main import run_script

if __name__ == "__main__":
    run_script("export")
