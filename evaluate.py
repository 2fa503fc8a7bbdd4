"""Measure colored films against the truth: `python evaluate.py --reference DIR --output DIR`."""

from palette_vc_jax import cli
from palette_vc_jax.commands.evaluate import main

if __name__ == "__main__":
    cli.run(main)
