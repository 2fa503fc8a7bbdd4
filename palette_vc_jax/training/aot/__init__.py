"""Ahead of time: compile a step for hardware that is not there, and count its operations."""
