"""Stable Video Diffusion's networks in Flax NNX: UNet, temporal VAE and CLIP image tower."""
