"""Metrics of colored films: pure measures, and the networks that some of them need."""
