"""Convert between the published PyTorch weights and this package's parameters."""
