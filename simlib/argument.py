"""What commands share of reading what was typed: an error is one line, and says how a text must look.

Only the standard library is imported: commands that start fast begin with this.
"""

import argparse
import contextlib
import datetime as dt
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

__all__ = [
    "Parser",
    "amount",
    "bad_input",
    "count",
    "date",
    "facts_options",
    "file",
    "folder",
    "place",
    "port",
    "positive",
    "reading",
    "whole",
]

PORTS: Final = 65535


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options are written out.

    Examples
    --------
    >>> Parser(prog="it").allow_abbrev
    False
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """End the process with 2, and say why on stderr.

        Parameters
        ----------
        message : str
            What is wrong, and with which argument.
        """
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def bad_input(prog: str, error: ValueError | OSError) -> int:
    """Say on stderr, in one line, what is wrong with what a command was given.

    Parameters
    ----------
    prog : str
        The command.
    error : ValueError or OSError
        What is wrong; the file is named where it is one that can't be used.

    Returns
    -------
    int
        The exit code: 2.

    Examples
    --------
    >>> bad_input("sendlab", ValueError("name: missing"))
    2
    """
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or error}"
    print(f"{prog}: {' '.join(text.split())}", file=sys.stderr)
    return 2


def port(text: str) -> int:
    """Read a port.

    Parameters
    ----------
    text : str
        A number; 0 is any that is free.

    Returns
    -------
    int
        The port.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> port("2525")
    2525
    """
    if not (text.isascii() and text.isdigit() and int(text) <= PORTS):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {PORTS}, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """Read a number above 0.

    Parameters
    ----------
    text : str
        How it was typed.

    Returns
    -------
    float
        The number, which is finite.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> positive("2.5")
    2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def date(text: str) -> dt.date:
    """Read a date.

    Parameters
    ----------
    text : str
        Year, month and day.

    Returns
    -------
    date
        The day.

    Raises
    ------
    argparse.ArgumentTypeError
        If there is no such day.

    Examples
    --------
    >>> date("2026-12-01")
    datetime.date(2026, 12, 1)
    """
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a date like 2026-12-01, got {text!r}") from None


def reading(text: str) -> tuple[str, str]:
    """Read which reading of a limit is meant.

    Parameters
    ----------
    text : str
        ``LIMIT=NAME``.

    Returns
    -------
    tuple of str
        The limit with its provider, and the reading's name; whether they exist is for others to say.

    Raises
    ------
    argparse.ArgumentTypeError
        If it doesn't look so.

    Examples
    --------
    >>> reading("office365/messages-per-minute=reject")
    ('office365/messages-per-minute', 'reject')
    """
    return _of_limit(text, "office365/messages-per-minute=reject")


def amount(text: str) -> tuple[str, str | float]:
    """Read an amount of one's own for a limit.

    Parameters
    ----------
    text : str
        ``LIMIT=AMOUNT``.

    Returns
    -------
    tuple
        The limit with its provider, and the amount: a number, or what a provider's file could say (``"100/min"``).

    Raises
    ------
    argparse.ArgumentTypeError
        If it doesn't look so.

    Examples
    --------
    >>> amount("office365/messages-per-minute=100/min")
    ('office365/messages-per-minute', '100/min')
    >>> amount("own-postfix/connections=3")
    ('own-postfix/connections', 3.0)
    """
    limit, given = _of_limit(text, "office365/messages-per-minute=100/min")
    try:
        return limit, float(given)
    except ValueError:
        return limit, given


def _of_limit(text: str, such_as: str) -> tuple[str, str]:
    limit, equals, given = text.partition("=")
    if not equals or "/" not in limit or not given:
        raise argparse.ArgumentTypeError(f"must look like {such_as}, got {text!r}")
    return limit, given


def count(text: str) -> int:
    """Read how many.

    Parameters
    ----------
    text : str
        A whole number above 0.

    Returns
    -------
    int
        The number.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> count("20")
    20
    """
    return _at_least(1, text)


def whole(text: str) -> int:
    """Read a whole number that may be 0, such as a seed.

    Parameters
    ----------
    text : str
        A whole number.

    Returns
    -------
    int
        The number.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> whole("0")
    0
    """
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)


def folder(text: str) -> Path:
    """Read a folder to write into: whether that is possible should be known before anything is simulated.

    Parameters
    ----------
    text : str
        Its path; it need not exist yet.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    argparse.ArgumentTypeError
        If there can't be one, or it may not be written to.

    Examples
    --------
    >>> folder("out/demo").name
    'demo'
    """
    path = Path(text)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not text or not there.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder, got {text!r}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"must be a folder that may be written to, got {text!r}")
    return path


def file(text: str) -> Path:
    """Read a file to write: whether that is possible should be known before anything is simulated.

    Parameters
    ----------
    text : str
        Its path, in a folder that exists.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    argparse.ArgumentTypeError
        If it may not be written.

    Examples
    --------
    >>> file("card.html").suffix
    '.html'
    """
    path = Path(text)
    if not text or path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that exists, got {text!r}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be a file that may be written to, got {text!r}")
    return path


@contextlib.contextmanager
def place(out: Path | None) -> Iterator[Path]:
    """Give the folder to write to: the one that was named, or one that is gone afterwards.

    Parameters
    ----------
    out : Path or None
        What `folder` read.

    Yields
    ------
    Path
        A folder that exists.

    Examples
    --------
    >>> with place(None) as found:
    ...     found.is_dir()
    True
    >>> found.exists()
    False
    """
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
    else:
        with tempfile.TemporaryDirectory(prefix="sendlab-") as name:
            yield Path(name)


def facts_options(parser: argparse.ArgumentParser, readings: bool = True) -> None:
    """Let a command be asked which facts apply, and for JSON.

    Parameters
    ----------
    parser : ArgumentParser
        The command's.
    readings : bool, optional
        Whether it may be told to read a disputed fact another way.

    Examples
    --------
    >>> parser = Parser()
    >>> facts_options(parser)
    >>> parser.parse_args(["--as-of", "2026-12-01"]).as_of
    datetime.date(2026, 12, 1)
    """
    parser.add_argument("--as-of", type=date, metavar="DATE", help="the date whose facts apply (the scenario's)")
    if readings:
        parser.add_argument(
            "--reading",
            action="append",
            default=[],
            type=reading,
            metavar="LIMIT=NAME",
            help="where sources disagree, another reading: office365/messages-per-minute=reject (repeatable)",
        )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
