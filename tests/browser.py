"""A browser to try pages in: Debian's Chromium, driven by Playwright; nothing is downloaded."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Route, WebSocket, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = Path(__file__).parents[1] / "out" / "screenshots"
HERE = ("127.0.0.1", "localhost")

PATIENCE = 60_000.0  # milliseconds until what is expected of a page has to be there, on a busy machine as well
expect.set_options(timeout=PATIENCE)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start one."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """One visitor: the page, what it asked of other machines, and what it complained about.

    Parameters
    ----------
    page : Page
        Where to look.
    abroad : list of str
        Requests beyond this machine; they are refused.
    complaints : list of str
        Errors on the console, and exceptions.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.abroad: list[str] = []
        self.complaints: list[str] = []
        page.route("**/*", self._ask)
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self._complain("error", str(error)))
        page.on("websocket", self._call)

    def _ask(self, route: Route) -> None:
        if self._note(route.request.url):
            route.abort()
        else:
            route.continue_()

    def _call(self, socket: WebSocket) -> None:
        self._note(socket.url)

    def _note(self, url: str) -> bool:
        parts = urlsplit(url)
        abroad = parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in HERE
        if abroad:
            self.abroad.append(url)
        return abroad

    def _complain(self, kind: str, text: str) -> None:
        if kind == "error":
            self.complaints.append(text)

    def keep(self, name: str) -> None:
        """Keep a screenshot for those who look at the run."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def left_nothing_to_say(self) -> None:
        assert (self.complaints, self.abroad) == ([], [])


@contextmanager
def visit(chromium: Browser, width: int = 1400, height: int = 900) -> Iterator[Visit]:
    """Give somebody who has never been here, and check that all went well and nothing left the machine."""
    context = chromium.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(PATIENCE)
    visitor = Visit(context.new_page())
    yield visitor
    visitor.left_nothing_to_say()
    context.close()


@contextmanager
def sendlab(home: Path, *words: str, port: int = 0) -> Iterator[dict[str, Any]]:
    """Run a command that serves until it is stopped, with an empty home; give what it says when it is ready."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "IPYTHON"))}
    with subprocess.Popen(
        [sys.executable, "-m", "simlib", *words, "--json", "--no-browser", "--", f"--port={port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "HOME": str(home)},
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
