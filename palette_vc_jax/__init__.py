"""Consistent video colorization by palette guidance, in JAX and Flax."""

from pathlib import Path

__version__ = "0.1.0"

DEMO = Path(__file__).resolve().parent / "demo"  # folder of the bundled model
