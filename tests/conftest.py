"""Property tests draw the same examples in every run, and none fails because the machine was busy.

Where everything is installed that tests need (`.ci/run` says so), one that is skipped fails.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("sendlab", deadline=None, derandomize=True, database=None)
settings.load_profile("sendlab")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SENDLAB_SKIPS") == "none":
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be: {report.longreprtext}"
    return report
