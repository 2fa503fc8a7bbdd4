"""Embed the tagger's words: `python convert/text_table.py --text_tower CLIP --model DIR`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax.commands.main import run_script

if __name__ == "__main__":
    run_script("text-table")
