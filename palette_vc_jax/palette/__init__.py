"""Palettes: five colors that guide the colors of a film, and their sources."""
