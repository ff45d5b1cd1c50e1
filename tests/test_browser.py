"""In a real browser: JupyterLab as `sendlab lab` opens it, its notebooks, and the app; nothing leaves the machine."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import sendlab, visit
from nbformat import write
from playwright.sync_api import Browser, Page, expect
from test_notebooks import FOUND, complaints, made_quick, notebook

from simlib.lab import unpack
from simlib.port import held_port
from simlib.words import Words, languages

RAN = re.compile(r"\[\d+\]:")
SECONDS = 1000.0  # Playwright counts in milliseconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks, unpacked and made quick."""
    folder = tmp_path_factory.mktemp("home") / "mine"
    unpack(folder)
    for path in folder.glob("*.ipynb"):
        write(made_quick(path), path)  # type: ignore[no-untyped-call]
    return folder


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[dict[str, Any]]:
    """JupyterLab on them."""
    with sendlab(folder.parent, "lab", str(folder)) as said:
        yield said


def test_the_start_page_is_what_opens_and_nothing_pops_up(chromium: Browser, lab: dict[str, Any]) -> None:
    with visit(chromium) as visitor:
        visitor.page.goto(lab["url"])
        expect(visitor.page.get_by_role("heading", name="Start here")).to_be_visible()
        for path in FOUND:
            expect(visitor.page.get_by_role("link", name=path.stem)).to_be_visible()
        expect(visitor.page.locator(".jp-Notification-Toast, .jp-Dialog")).to_have_count(0)
        visitor.keep("start")


def run_all(page: Page, name: str) -> None:
    """Open a notebook from the start page and run it by the menu, as people do."""
    page.get_by_role("link", name=name).click()
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible()
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_a_notebook_runs_in_the_browser(chromium: Browser, lab: dict[str, Any], folder: Path, path: Path) -> None:
    with visit(chromium) as visitor:
        page = visitor.page
        page.goto(f"{lab['url']}&reset")
        run_all(page, path.stem)
        done = page.locator(".jp-Notebook .jp-CodeCell").last.locator(".jp-InputArea-prompt", has_text=RAN)
        error = page.locator("[data-mime-type='application/vnd.jupyter.error']")
        expect(done.or_(error).first).to_be_attached(timeout=240 * SECONDS)
        assert error.all_inner_texts() == []
        page.locator(".jp-Notebook .jp-OutputArea-output:is(:has(img), :has(table))").first.scroll_into_view_if_needed()
        if page.locator(".noUi-handle").count():
            answer_moves_with_the_slider(page)
        visitor.keep(path.stem)
        page.keyboard.press("Control+s")
        expect(page.locator(".jp-mod-dirty")).to_have_count(0)
        assert complaints(notebook(folder / path.name)) == []


def answer_moves_with_the_slider(page: Page) -> None:
    """Move the first slider, and see another picture and another answer; every channel is in the table in the end."""
    status, picture, rows = (
        page.locator("p[role=status]").first,
        page.locator("img[alt]"),
        page.locator(".sendlab tbody tr"),
    )
    expect(rows).to_have_count(4)
    answer, source = status.text_content() or "", picture.get_attribute("src")
    page.locator(".noUi-handle").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(status).not_to_have_text(answer)
    expect(picture).not_to_have_attribute("src", source or "")
    expect(rows).to_have_count(4)
    expect(page.locator("p[role=status]")).to_have_count(1)  # nothing is being simulated any more


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with held_port() as port, sendlab(tmp_path_factory.mktemp("home"), "app", port=port) as said:
        yield said


@pytest.mark.parametrize("language", languages())
def test_the_app_answers_in_the_browser(chromium: Browser, app: dict[str, Any], language: str) -> None:
    words = Words(language)
    with visit(chromium) as visitor:
        page = visitor.page
        page.goto(app["url"].replace("lang=en", f"lang={language}"))
        expect(page.get_by_role("heading", name=words.say("app_title"))).to_be_visible()
        answer_moves_with_the_slider(page)
        visitor.keep(f"app-{language}")
        assert page.locator(".jp-InputArea, pre").all_inner_texts() == [], "code"
        for width in (800, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            visitor.keep(f"app-{language}-{width}")
        page.get_by_label(words.say("app_deadline")).fill("08:00")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text(words.say("app_bad_order", start="09:00", deadline="08:00"))


def test_the_app_lets_nobody_in_without_its_token(chromium: Browser, app: dict[str, Any]) -> None:
    with visit(chromium) as visitor:
        reply = visitor.page.request.get(app["url"].partition("?")[0])
        assert urlsplit(reply.url).path == "/login"
