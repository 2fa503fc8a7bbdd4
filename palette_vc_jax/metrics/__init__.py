"""Metrics of colored films, and the networks that some of them need."""
