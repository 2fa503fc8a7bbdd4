"""Fixtures of tests of evaluate.py."""

import pytest

from tests.evaluation.clips import frames, write


@pytest.fixture
def films(tmp_path):
    """Write a reference of two clips, and an output whose clips are the reference's mirrored."""
    for seed, name in enumerate(("a", "b")):
        images = frames(6 + seed, seed)
        write(tmp_path / "truth" / name, images)
        write(tmp_path / "mine" / name, [image[:, ::-1] for image in images])
    return tmp_path
