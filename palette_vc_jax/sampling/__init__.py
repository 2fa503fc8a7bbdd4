"""Color films: plan windows, sample latents, decode in chunks, and write the result."""
