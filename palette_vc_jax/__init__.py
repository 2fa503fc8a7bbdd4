"""Consistent video colorization by palette guidance, in JAX and Flax."""

__version__ = "0.1.0"
