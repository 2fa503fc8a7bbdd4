"""The stages of `benchmarks/accelerator.py`, one module each."""
