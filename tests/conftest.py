"""Property tests draw the same examples in every run, and none fails because the machine was busy.

Where everything is installed that tests need (`.ci/run` says so), one that is skipped fails.
"""

import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from simlib.load import Load

settings.register_profile("sendlab", deadline=None, derandomize=True, database=None)
settings.load_profile("sendlab")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SENDLAB_SKIPS") == "none":
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be: {report.longreprtext}"
    return report


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process: its exit code, stdout and stderr."""
    from simlib.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:  # argparse ends the process
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> "Load":
    """A load test by two generators, which several files look at: it takes ten seconds."""
    from loads import ORDER, SCALE, mixed, undisturbed

    from simlib.load import load

    folder = tmp_path_factory.mktemp("measured")
    return undisturbed(lambda: load(mixed(), "all", folder, time_scale=SCALE, processes=2), ORDER)


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser for the tests of a file: longer, and none of asyncio's could run beside it."""
    from browser import CHROMIUM, browser

    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with browser() as found:
        yield found
