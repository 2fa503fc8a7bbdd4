"""Measure colored films against the truth: `python evaluate.py --reference DIR --output DIR`."""

from palette_vc_jax.commands.main import run_script

if __name__ == "__main__":
    run_script("evaluate")
