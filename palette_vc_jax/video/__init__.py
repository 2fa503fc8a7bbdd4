"""Film in and out: reading luma, color spaces, resizing, shots, writing."""
