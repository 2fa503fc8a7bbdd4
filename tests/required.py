"""Count skipped tests as failed where they are required, as in .ci/run."""

import os

import pytest


def unskipped(
    report: pytest.CollectReport | pytest.TestReport, variable: str
) -> pytest.CollectReport | pytest.TestReport:
    """Return a report that has failed if it was skipped and the environment has a variable."""
    if report.skipped and os.environ.get(variable):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped, and {variable} is set: {report.longrepr}"
    return report
