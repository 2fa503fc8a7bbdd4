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


@pytest.fixture(scope="session")
def metric_weights() -> Path:
    """Give the folder with the converted weights of the metric networks, or skip."""
    folder = Path(__file__).resolve().parents[1] / ".venv" / "metric_weights"
    if not folder.is_dir():
        pytest.skip("needs .venv/metric_weights: make test downloads and converts them")
    return folder
