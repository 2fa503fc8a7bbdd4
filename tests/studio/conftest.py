"""The tiny model, once for all tests of the studio."""

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("studio_model"))
