"""In a real browser: JupyterLab as `sendlab lab` opens it; nothing leaves the machine."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import browser, needs_chromium, sendlab, visit
from nbformat import read, write
from playwright.sync_api import Browser, expect
from test_notebooks import FOUND, QUICK, parameters

from simlib.lab import unpack

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """JupyterLab on the notebooks, made small."""
    home = tmp_path_factory.mktemp("home")
    unpack(home / "mine")
    for path in (home / "mine").glob("*.ipynb"):
        document = read(path, as_version=4)  # type: ignore[no-untyped-call]
        (place,) = parameters(document.cells)
        quick = QUICK.get(path.stem, {"replications": 2})
        document.cells[place].source += "".join(f"\n{name} = {value!r}" for name, value in quick.items())
        write(document, path)  # type: ignore[no-untyped-call]
    with sendlab(home, "lab", str(home / "mine")) as said:
        yield said


def test_the_start_page_is_what_opens_and_nothing_pops_up(chromium: Browser, lab: dict[str, Any]) -> None:
    with visit(chromium) as visitor:
        visitor.page.goto(lab["url"])
        expect(visitor.page.get_by_role("heading", name="Start here")).to_be_visible()
        for path in FOUND:
            expect(visitor.page.get_by_role("link", name=path.stem)).to_be_visible()
        expect(visitor.page.locator(".jp-Notification-Toast, .jp-Dialog")).to_have_count(0)
        visitor.keep("start")
