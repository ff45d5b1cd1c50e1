"""`sendlab import` and `sendlab learn`: what your own logs say."""

import argparse
import contextlib
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from simlib import argument

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `import` and `learn` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["import", "mail.log", "--format", "postfix"]).year is None
    True
    """
    _add_import(commands)
    _add_learn(commands)


def _add_import(commands: Any) -> None:
    import_ = commands.add_parser(
        "import",
        help="a trace and the replies from your own log",
        description="Reads a mail server's or a service's log and writes trace.csv, which a scenario replays, and "
        "replies.csv, which `sendlab learn` reads. Addresses are replaced by keyed hashes; the key is made for this "
        "one import and kept by nobody. Exit 1 if there are lines that could not be read; they are listed.",
        epilog="example: sendlab import /var/log/mail.log --format postfix --zone Asia/Tokyo --out imported",
    )
    import_.add_argument(
        "logs", metavar="LOG", nargs="+", type=Path, help="the log, oldest file first; .gz is unpacked"
    )
    import_.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        choices=("postfix", "exim", "kumomta", "ses", "sparkpost", "csv"),
        help="postfix, exim, kumomta, ses, sparkpost or csv",
    )
    import_.add_argument(
        "--out", type=argument.folder, default=Path("imported"), metavar="DIR", help="where to write (imported)"
    )
    import_.add_argument("--keep-addresses", action="store_true", help="leave the addresses as they are")
    import_.add_argument(
        "--zone", type=_zone, default=dt.UTC, metavar="NAME", help="zone of times that name none (UTC)"
    )
    import_.add_argument(
        "--year",
        type=argument.count,
        metavar="N",
        help="the first line's year where dates have none (by the file's own date)",
    )
    import_.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    import_.set_defaults(run=_import)


def _add_learn(commands: Any) -> None:
    learn = commands.add_parser(
        "learn",
        help="which limits a provider has, from its replies",
        description="Reads timestamped replies and says which limits they show: the window, the amount with its "
        "interval, what counts and what the log can't tell apart. Exit 1 if for some refusals there is not enough to "
        "say which limit it is.",
        epilog="A table is CSV (time,code and any of took, setup, provider, session, ip, account, mail_from, "
        "recipients, bytes, stage, enhanced, text) or a ledger (.jsonl). What --out writes can be simulated: "
        '[providers] my-relay-observed = "my-relay-observed.toml" in a scenario.',
    )
    learn.add_argument("replies", metavar="REPLIES", type=Path, help="what `sendlab import` writes, or a ledger")
    learn.add_argument("--provider", metavar="NAME", help="only this one of those in the table")
    learn.add_argument("--out", type=argument.folder, metavar="DIR", help="write NAME-observed.toml here")
    learn.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    learn.set_defaults(run=_learn)


def _zone(text: str) -> dt.tzinfo:
    """Read a zone: a name such as Asia/Tokyo, or an offset such as +09:00."""
    from zoneinfo import ZoneInfo

    with contextlib.suppress(ValueError):
        offset = dt.datetime.fromisoformat(f"2000-01-01T00:00{text}").tzinfo
        if offset is not None:
            return offset
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise argparse.ArgumentTypeError(f"must be a zone like Asia/Tokyo or +09:00, got {text!r}") from None


def _import(options: argparse.Namespace) -> int:
    from simlib.importing import import_log

    found = import_log(
        options.logs,
        options.format,
        options.out,
        keep_addresses=options.keep_addresses,
        zone=options.zone,
        year=options.year,
    )
    for name, number, why in found.shown:
        print(f"{name}: line {number}: {why}", file=sys.stderr)
    if found.unreadable > len(found.shown):
        print(f"and {found.unreadable - len(found.shown):,} more, see unreadable.csv", file=sys.stderr)
    print(json.dumps(found.json()) if options.json else "\n".join(found.told()))
    return 1 if found.unreadable else 0


def _learn(options: argparse.Namespace) -> int:
    from simlib.learn import learn

    found = learn(options.replies, options.provider)
    written = []
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for one in found:
            if one.learned:
                written.append(options.out / f"{one.slug}-observed.toml")
                written[-1].write_text(one.toml(), encoding="utf-8")
    if options.json:
        providers = {one.name: one.json() for one in found}
        print(json.dumps({"providers": providers, "written": [str(path) for path in written]}, allow_nan=False))
    else:
        print("\n\n".join("\n".join(one.lines()) for one in found))
        if written:
            print("\nwritten: " + ", ".join(map(str, written)))
    return 0 if all(one.enough or not one.findings for one in found) and any(one.findings for one in found) else 1
