"""Palettes: five colors that steer a film, and where they come from."""
