"""Networks that metrics compare films by: LPIPS, Inception and I3D, with their weights."""
