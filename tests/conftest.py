"""Fixtures that all tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder with footage and weights that is not part of the product, or skip."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "footage").is_dir():
        pytest.skip("needs ../shared/footage beside the repository")
    return folder
