"""From a team's own log to a trace that a scenario replays, and to the replies that `learn` reads.

Addresses, of mail and of IP, become keyed hashes (HMAC-SHA-256, RFC 2104) under a key that is made for one import and
written nowhere: who has the files can't try addresses out, and two imports can't be brought together. Host names of
the servers that took the mail stay. Nothing of a log but what is in the queue is kept in memory; the trace is sorted
by SQLite in a file of its own.
"""

import csv
import datetime as dt
import gzip
import hashlib
import hmac
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from simlib.log_events import Csv, KumoMta, Ses, SparkPost
from simlib.log_exim import Exim
from simlib.log_postfix import Postfix
from simlib.logs import MONTHS, Arrived, Clock, Reader, Replied
from simlib.provider import Provider, names
from simlib.replies import COLUMNS

__all__ = ["FORMATS", "Imported", "Pseudonyms", "import_log"]

FORMATS: Final[dict[str, Callable[[Clock], Reader]]] = {
    "postfix": Postfix,
    "exim": Exim,
    "kumomta": KumoMta,
    "ses": Ses,
    "sparkpost": SparkPost,
    "csv": Csv,
}
MOST: Final = 1_000_000
"""Recipients of a message beyond which a number is a slip; what a trace takes (`simlib.workload`)."""
SHOWN: Final = 20
"""How many unreadable lines are told; all are in `unreadable.csv`."""
MAIL: Final = re.compile(r"[^\s<>()\[\],;:\"'=]+@[\w.-]*\w")
IP: Final = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]\d)|(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}\b", re.I
)
ODD: Final = re.compile(r"[\s@<>()\[\]\\,;:\"]")
"""What a trace takes in no sender's name."""


class Pseudonyms:
    """Names in place of addresses: always the same for the same address and key.

    Parameters
    ----------
    key : bytes, optional
        The key; a random one, which nobody learns, by default.

    Examples
    --------
    >>> hidden = Pseudonyms(b"key")
    >>> hidden.address("Rep01@us.example") == hidden.address("rep01@us.example")
    True
    >>> hidden.text("450 no room for rep01@us.example")
    '450 no room for u...@d....example'
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(32) if key is None else key
        self.address = lru_cache(100_000)(self._address)

    def _hash(self, what: str, size: int = 10) -> str:
        return hmac.new(self._key, what.lower().encode(), hashlib.sha256).hexdigest()[:size]

    def _address(self, address: str) -> str:
        """Return another address: its domain is the same for all of a domain."""
        if not address:
            return ""
        domain = address.rpartition("@")[2]
        return f"u{self._hash(address)}@{self.domain(domain)}"

    def domain(self, domain: str) -> str:
        """Return a reserved domain in place of a domain."""
        return f"d{self._hash(domain, 6)}.example"

    def ip(self, ip: str) -> str:
        """Return a name in place of an IP address."""
        return f"ip-{self._hash(ip, 8)}" if ip else ""

    def text(self, text: str) -> str:
        """Replace the addresses within a text."""
        return IP.sub(lambda found: self.ip(found[0]), MAIL.sub(lambda found: self.address(found[0]), text))


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a log.

    Parameters
    ----------
    lines, messages, replies : int
        How many lines there were, how many messages of ours and replies to attempts in them.
    others, reports : int
        Lines about something else; messages from the null sender, left out of the trace.
    unreadable : int
        Lines that ought to say something and could not be read.
    shown : sequence of (str, int, str)
        The first of these: file, line and what is wrong.
    start : datetime or None
        Second 0 of the trace: the midnight before its first message.
    days : int
        How many days it takes.
    senders : int
        How many senders it has.
    written : sequence of Path
        The files.
    """

    lines: int
    messages: int
    replies: int
    others: int
    reports: int
    unreadable: int
    shown: tuple[tuple[str, int, str], ...]
    start: dt.datetime | None
    days: int
    senders: int
    written: tuple[Path, ...]

    def json(self) -> dict[str, object]:
        """Return it as `sendlab import --json` has it.

        Returns
        -------
        dict
            What `json.dumps` takes.
        """
        return {
            "lines": self.lines,
            "messages": self.messages,
            "senders": self.senders,
            "replies": self.replies,
            "others": self.others,
            "reports": self.reports,
            "unreadable": self.unreadable,
            "start": None if self.start is None else self.start.isoformat(timespec="minutes"),
            "duration": f"{self.days}d",
            "written": [str(path) for path in self.written],
        }

    def told(self) -> list[str]:
        """Say it in words, with what to write into a scenario.

        Returns
        -------
        list of str
            Lines for a terminal.
        """
        found = [
            f"{self.lines:,} lines: {self.messages:,} messages of {self.senders:,} senders, {self.replies:,} replies",
            f"{self.others:,} lines are about something else, {self.unreadable:,} could not be read",
        ]
        if self.reports:
            found.append(f"{self.reports:,} messages are reports from the null sender, and not in the trace")
        if self.start is not None:
            trace = next(path for path in self.written if path.name == "trace.csv")
            found += [
                "",
                "in a scenario:",
                f'  start = "{self.start.isoformat(timespec="minutes")}"',
                f'  duration = "{self.days}d"',
                f'  arrivals = {{ kind = "trace", file = "{trace}" }}',
            ]
        return [*found, "", "written: " + ", ".join(map(str, self.written))]


def import_log(
    logs: Sequence[Path],
    format_: str,
    out: Path,
    *,
    keep_addresses: bool = False,
    zone: dt.tzinfo = dt.UTC,
    year: int | None = None,
    key: bytes | None = None,
) -> Imported:
    """Read a log, and write ``trace.csv``, ``replies.csv`` and, if a line can't be read, ``unreadable.csv``.

    Parameters
    ----------
    logs : sequence of Path
        The log, in one file or several in order of time; those with the ending ``.gz`` are unpacked.
    format_ : str
        One of `FORMATS`.
    out : Path
        The folder to write into.
    keep_addresses : bool
        Whether addresses stay as they are.
    zone : tzinfo
        The zone of times that name none.
    year : int, optional
        The year of the first line, where dates have none; by default the file's last change is the last line's.
    key : bytes, optional
        The key of the hashes; a random one by default.

    Returns
    -------
    Imported
        What was written, and how many lines could not be read.

    Raises
    ------
    ValueError
        If no line could be read, or nothing in the log is a message of ours.
    OSError
        If a file can't be read or written.
    """
    hidden = None if keep_addresses else Pseudonyms(key)
    counts = {"lines": 0, "replies": 0, "others": 0, "reports": 0, "unreadable": 0}
    shown: list[tuple[str, int, str]] = []
    for path in logs:
        path.open("rb").close()  # whether it can be read should be known before anything is written
    out.mkdir(parents=True, exist_ok=True)
    hosts = _hosts()
    with ExitStack() as stack:
        table = sqlite3.connect("")  # a file of its own, gone when it is closed
        stack.callback(table.close)
        table.execute("create table trace (id text primary key, at real, sender text, recipients int, bytes int)")
        replies = _writer(stack, out / "replies.csv", COLUMNS)
        unreadable: Callable[[Sequence[object]], object] | None = None

        def keep(row: Arrived | Replied) -> None:
            if row.recipients > MOST or row.bytes > MOST * MOST:
                raise ValueError(f"recipients or bytes beyond belief, got {row.recipients:g} and {row.bytes:g}")
            if isinstance(row, Replied):
                replies(_reply(row, hidden, hosts))
                counts["replies"] += 1
            elif not row.mail_from:
                counts["reports"] += 1
            else:
                sender = row.mail_from.lower() if hidden is None else hidden.address(row.mail_from)
                values = row.id, row.time.timestamp(), sender, row.recipients, row.bytes
                # the record of an attempt knows of one recipient, that of the reception of all
                table.execute("insert or ignore into trace values (?, ?, ?, ?, ?)", values)

        for path in logs:
            reader = FORMATS[format_](Clock(zone, year or _year_of_first(path, zone)))
            for number, line in enumerate(_lines(path), 1):
                counts["lines"] += 1
                try:
                    rows = reader.read(line) if line else ()
                    for row in rows or ():
                        keep(row)
                except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
                    if unreadable is None:
                        unreadable = _writer(stack, out / "unreadable.csv", ("file", "line", "why"))
                    counts["unreadable"] += 1
                    why = " ".join(str(error).split())
                    unreadable((path.name, number, why))
                    if len(shown) < SHOWN:
                        shown.append((path.name, number, why))
                else:
                    counts["others"] += rows is None
            for row in reader.finish():
                keep(row)
        messages, senders, start, days = _write_trace(table, out / "trace.csv", zone)
    written = [out / name for name in ("trace.csv", "replies.csv", "unreadable.csv")]
    if not messages and not counts["replies"]:
        for path in written:
            path.unlink(missing_ok=True)
        first = f" (line {shown[0][1]}: {shown[0][2]})" if shown else ""
        raise ValueError(f"{logs[0]}: has no message that {format_} sent on{first}")
    if not counts["unreadable"]:
        written.pop().unlink(missing_ok=True)  # of an import before
    return Imported(
        messages=messages, senders=senders, start=start, days=days, shown=tuple(shown), written=tuple(written), **counts
    )


def _writer(stack: ExitStack, path: Path, columns: Sequence[str]) -> Callable[[Sequence[object]], object]:
    file = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
    writer = csv.writer(file)
    writer.writerow(columns)
    return writer.writerow


def _lines(path: Path) -> Iterator[str]:
    """Yield a file's lines without their ends; what isn't UTF-8 stays visible."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="backslashreplace") as file:
        for line in file:
            yield line.rstrip("\r\n")


def _year_of_first(path: Path, zone: dt.tzinfo) -> int:
    """Guess the year of a log's first line: the file was last changed with its last, less than a year later."""
    changed = dt.datetime.fromtimestamp(path.stat().st_mtime, zone)
    first = next((line[:3] for line in _lines(path)), "")
    return changed.year - (first in MONTHS[changed.month :])


def _hosts() -> dict[str, str]:
    """Return by host name, or by what it ends in, the one provider that has it."""
    owners: dict[str, list[str]] = {}
    for name in names():
        for host in Provider.load(name).hosts:
            owners.setdefault(host, []).append(name)
    return {host: found[0] for host, found in owners.items() if len(found) == 1}


def _provider(host: str, hosts: dict[str, str]) -> str:
    if host in hosts:
        return hosts[host]
    endings = [ending for ending in hosts if ending.startswith(".") and host.endswith(ending)]
    return hosts[max(endings, key=len)] if endings else host


def _reply(row: Replied, hidden: Pseudonyms | None, hosts: dict[str, str]) -> Sequence[object]:
    """Return a row of the reply table, times in UTC."""
    moment = row.time.astimezone(dt.UTC).isoformat(timespec="microseconds" if row.time.microsecond else "seconds")
    provider = _provider(row.provider, hosts)
    if provider.startswith("@"):  # no host, but whose mail it is
        provider = hidden.domain(provider[1:]) if hidden else provider[1:]
    account, sender, ip, text = row.account, row.mail_from.lower(), row.ip, row.text
    if hidden:
        account = hidden.address(account) if "@" in account else account
        sender, ip, text = hidden.address(sender), hidden.ip(ip), hidden.text(text)
    seconds = ["" if value is None else f"{value:g}" for value in (row.took, row.setup)]
    return [
        moment.replace("+00:00", "Z"),
        *seconds,
        provider,
        row.session,
        ip,
        account,
        sender,
        row.recipients,
        row.bytes or "",
        row.stage,
        row.code,
        row.enhanced,
        text,
    ]


def _write_trace(table: sqlite3.Connection, path: Path, zone: dt.tzinfo) -> tuple[int, int, dt.datetime | None, int]:
    """Write the trace by time; return how many messages and senders there were, its second 0, and its days."""
    count, first, last = table.execute("select count(*), min(at), max(at) from trace").fetchone()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("seconds", "sender", "recipients", "bytes"))
        if not count:
            return 0, 0, None, 0
        start = dt.datetime.fromtimestamp(first, zone).replace(hour=0, minute=0, second=0, microsecond=0)
        own = table.execute("select sender from trace order by at limit 1").fetchone()[0].rpartition("@")[2]
        senders = table.execute("select count(distinct sender) from trace").fetchone()[0]
        query = "select at, sender, recipients, bytes from trace order by at, rowid"
        for at, sender, recipients, size in table.execute(query):
            local, _, domain = sender.rpartition("@")
            name = local if domain == own else f"{local}={domain}"
            seconds = f"{at - start.timestamp():.3f}".rstrip("0").rstrip(".")
            writer.writerow((seconds, ODD.sub("_", name), max(1, recipients), size or ""))
    days = int((last - start.timestamp()) // 86400) + 1
    return count, senders, start, days
