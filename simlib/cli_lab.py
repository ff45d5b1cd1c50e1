"""`sendlab lab` and `sendlab app`: the notebooks, and the app without code."""

import argparse
import json
import sys
from typing import Any

from simlib import argument

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `lab` and `app` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["app"]).lang
    'en'
    """
    lab = commands.add_parser(
        "lab",
        help="open the notebooks in JupyterLab",
        description="Opens the notebooks in JupyterLab, on loopback and with a token. Into a folder that lacks them, "
        "notebooks, scenarios and data are unpacked first; a file that is there is never overwritten.",
        epilog="What follows -- goes to JupyterLab: sendlab lab my-notebooks -- --port=9999",
    )
    lab.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=argument.folder,
        help="where (a checkout's notebooks, else sendlab-notebooks)",
    )
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--json", action="store_true", help="one JSON document on stdout when it is ready: url, folder")
    lab.set_defaults(run=_lab)

    app = commands.add_parser(
        "app",
        help="ask which channel with sliders, in a browser and without code",
        description="Opens the app: sliders for senders, volume, group e-mail, deadline, pace and retry, and an answer "
        "that is simulated while they move. On loopback and with a token.",
        epilog="What follows -- goes to Voila: sendlab app -- --port=9999",
    )
    app.add_argument("--lang", choices=("en", "ja"), default="en", help="the language it opens in (en)")
    app.add_argument("--no-browser", action="store_true", help="only print the address")
    app.add_argument("--json", action="store_true", help="one JSON document on stdout when it is ready: url")
    app.set_defaults(run=_app)


def _lab(options: argparse.Namespace) -> int:
    from simlib.lab import default_folder, serve, unpack

    folder = options.folder or default_folder()
    said = sys.stderr if options.json else sys.stdout
    found = unpack(folder)
    if found.written:
        print(f"{len(found.written)} files unpacked into {folder}", file=said)
    if found.kept:
        print(f"kept as they are, though others are shipped: {', '.join(found.kept)}", file=said)

    def ready(url: str) -> None:
        if options.json:
            print(json.dumps({"url": url, "folder": str(folder.resolve())}), flush=True)
        else:
            print(f"The notebooks are at {url}\nCtrl-C ends it.", flush=True)

    serve(folder, [*["--no-browser"] * options.no_browser, *options.passed], ready)
    return 0


def _app(options: argparse.Namespace) -> int:
    import webbrowser

    from simlib.lab import serve_app

    def ready(url: str) -> None:
        print(json.dumps({"url": url}) if options.json else f"The app is at {url}\nCtrl-C ends it.", flush=True)
        if not options.no_browser:
            webbrowser.open(url)

    serve_app(options.lang, options.passed, ready)
    return 0
