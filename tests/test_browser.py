"""In a real browser: JupyterLab as `sendlab lab` opens it, and every notebook in it; nothing leaves the machine."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, needs_chromium, sendlab, visit
from nbformat import read, write
from playwright.sync_api import Browser, Page, expect
from test_notebooks import FOUND, QUICK, parameters

from simlib.lab import unpack

pytestmark = needs_chromium

RAN = re.compile(r"\[\d+\]:")
SECONDS = 1000.0  # Playwright counts in milliseconds


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


def run_all(page: Page, name: str) -> None:
    """Open a notebook from the start page and run it, by the menu, as people do."""
    page.get_by_role("link", name=name).click()
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible()
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible(timeout=30 * SECONDS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def test_the_start_page_is_what_opens_and_nothing_pops_up(chromium: Browser, lab: dict[str, Any]) -> None:
    with visit(chromium) as visitor:
        visitor.page.goto(lab["url"])
        expect(visitor.page.get_by_role("heading", name="Start here")).to_be_visible()
        for path in FOUND:
            expect(visitor.page.get_by_role("link", name=path.stem)).to_be_visible()
        expect(visitor.page.locator(".jp-Notification-Toast, .jp-Dialog")).to_have_count(0)
        visitor.keep("start")


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_a_notebook_runs_in_the_browser(chromium: Browser, lab: dict[str, Any], path: Path) -> None:
    with visit(chromium) as visitor:
        page = visitor.page
        page.goto(f"{lab['url']}&reset")
        run_all(page, path.stem)
        done = page.locator(".jp-Notebook .jp-CodeCell").last.locator(".jp-InputArea-prompt", has_text=RAN)
        error = page.locator("[data-mime-type='application/vnd.jupyter.error']")
        expect(done.or_(error).first).to_be_attached(timeout=150 * SECONDS)
        assert error.all_inner_texts() == []
        page.locator(".jp-Notebook .jp-OutputArea-output:is(:has(img), :has(table))").first.scroll_into_view_if_needed()
        visitor.keep(path.stem)
