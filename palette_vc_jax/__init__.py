"""JAX video colorization by palette."""
