"""Run PyTorch and JAX on the same inputs and compare."""
