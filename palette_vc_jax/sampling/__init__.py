"""Sampling: windows over a film, the sampler on its latents, and the VAE in chunks."""
