"""The tiny model, once for all tests of the studio, and tests that must not be skipped."""

import pytest

from tests import tiny
from tests.required import unskipped

# With this variable, as in .ci/run, a skipped test of the studio counts as failed.
REQUIRED = "BROWSER_REQUIRED"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    return unskipped((yield), REQUIRED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    return unskipped((yield), REQUIRED)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("studio_model"))
