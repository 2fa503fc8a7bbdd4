"""Clips for training: frame folders, crops, cached latents and palettes."""
