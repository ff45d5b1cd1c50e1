"""Postfix's log: its queue manager says what arrived, its SMTP client what became of it.

The formats are those of Postfix's own source, src/global/log_adhoc.c (``to=<…>, relay=…, delays=a/b/c/d``: before the
queue manager, in it, connecting with TLS and AUTH, transmitting) and src/qmgr/qmgr_active.c. Attempts that ended with
another host of the same destination tried next are not in there as such, nor who logged in.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from simlib.logs import Arrived, Clock, Replied, Row, said, stage_of
from simlib.provider import Stage

__all__ = ["Postfix"]

LINE = re.compile(
    r"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+)\s+\S+\s+([\w./-]+)(?:\[(\d+)\])?:\s?(.*)", re.DOTALL
)
ARRIVED = re.compile(r"(\w+): from=<(.*?)>, size=(\d+), nrcpt=(\d+) ")
DELIVERY = re.compile(
    r"(\w+): to=<(?:.*?)>, (?:orig_to=<.*?>, )?relay=(.*?), (?:conn_use=(\d+), )?delay=[\d.]+, "
    r"delays=[\d.]+/[\d.]+/([\d.]+)/([\d.]+), dsn=([\d.]+), status=(\w+) \((.*)\)"
)
ANSWER = re.compile(r"(?:host|server) \S+ (said|refused to talk to me): ")
IN_REPLY_TO = re.compile(r" \(in reply to ([^()]*)\)$")
TOGETHER = 60.0  # seconds: recipients of one transaction are logged as each is decided


class Message(NamedTuple):
    """A message in the queue."""

    arrived: Arrived
    told: bool


@dataclass
class Transaction:
    """The recipients of one attempt, by what was said to them."""

    key: tuple[str, str, str]
    session: str
    first: Replied
    by_reply: dict[tuple[Stage, int, str, str], Replied] = field(default_factory=dict)
    recipients: int = 0


class Postfix:
    """Reads Postfix's log, syslog's or its own.

    Parameters
    ----------
    clock : Clock
        How its times are to be read.

    Examples
    --------
    >>> reader = Postfix(Clock(dt.UTC, 2026))
    >>> line = "Nov  4 09:05:30 mail postfix/qmgr[7]: 9E9B5: from=<rep01@us.example>, size=291, nrcpt=1 (queue active)"
    >>> reader.read(line)
    []
    >>> line = (
    ...     "Nov  4 09:05:31 mail postfix/smtp[8]: 9E9B5: to=<a@b.example>, relay=mx.b.example[192.0.2.1]:25, "
    ...     "delay=0.9, delays=0.1/0.1/0.3/0.4, dsn=4.7.1, status=deferred (host mx.b.example[192.0.2.1] said: "
    ...     "450 4.7.1 too much mail (in reply to RCPT TO command))"
    ... )
    >>> reader.read(line)[0].mail_from
    'rep01@us.example'
    >>> [(row.provider, row.stage, row.code, row.text) for row in reader.finish()]
    [('mx.b.example', 'RCPT', 450, 'too much mail')]
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: dict[str, Message] = {}
        self._open: dict[str, Transaction] = {}  # by process
        self._sessions: dict[str, tuple[str, int]] = {}  # by relay: the session used last, and how often
        self._opened = 0

    def read(self, line: str) -> list[Row] | None:
        """Return what a line completes; None if it is another program's."""
        found = LINE.fullmatch(line)
        if not found:
            raise ValueError("does not begin as a line of syslog does, with a time, a host and a program")
        moment, program, process, words = found.groups()
        if not program.startswith("postfix"):
            return None
        service = program.rpartition("/")[2]
        if service == "qmgr":
            return self._managed(moment, words)
        if service == "smtp" and ": to=<" in words:
            return self._delivered(moment, process or "", words)
        return None

    def finish(self) -> Iterable[Row]:
        """Return the transactions that are still open."""
        for transaction in self._open.values():
            yield from _rows(transaction)
        self._open.clear()

    def _time(self, text: str) -> dt.datetime:
        return self._clock.iso(text) if text[0].isdigit() else self._clock.syslog(text)

    def _managed(self, moment: str, words: str) -> list[Row] | None:
        if words.endswith(": removed"):
            id_ = words.removesuffix(": removed")
            self._queue.pop(id_, None)
            return self._close(lambda transaction: transaction.key[0] == id_)
        if ": from=<" not in words or "status=" in words:
            return None
        found = ARRIVED.match(words)
        if not found:
            raise ValueError(f"must say from, size and nrcpt, got {words!r}")
        id_, sender, size, recipients = found.groups()
        if id_ not in self._queue:
            at = self._time(moment)
            arrived = Arrived(at, f"{id_} {at}", sender, int(recipients), int(size))
            self._queue[id_] = Message(arrived, False)
        return []

    def _delivered(self, moment: str, process: str, words: str) -> list[Row] | None:
        found = DELIVERY.fullmatch(words)
        if not found:
            raise ValueError(f"must say relay, delays, dsn and status, got {words!r}")
        id_, relay, use, setup, transmission, _, status, answer = found.groups()
        stage, code, enhanced, text = _answer(status, answer)
        if relay == "none" and not (answer.startswith("connect to ") or code):
            return None  # put off without an attempt
        at = self._time(moment)
        host = relay.partition("[")[0].lower()
        rows: list[Row] = []
        message = self._queue.get(id_)
        if message is not None and not message.told:
            self._queue[id_] = Message(message.arrived, True)
            rows.append(message.arrived)
        key = id_, relay, use or ""
        current = self._open.get(process)
        if current and (current.key != key or (at - current.first.time).total_seconds() > TOGETHER):
            rows += _rows(self._open.pop(process))
            current = None
        reply = Replied(
            at,
            float(setup) + float(transmission),
            float(setup),
            host,
            "",
            "",
            "",
            message.arrived.mail_from if message else "",
            1,
            message.arrived.bytes if message else 0,
            stage,
            code,
            enhanced,
            text,
        )
        if current is None:
            current = self._open[process] = Transaction(key, self._session(relay, int(use or 1)), reply)
        current.recipients += 1
        same = current.by_reply.get((stage, code, enhanced, text))
        current.by_reply[stage, code, enhanced, text] = reply._replace(recipients=(same.recipients if same else 0) + 1)
        return rows

    def _session(self, relay: str, use: int) -> str:
        """Return the session's number: a connection's first use opens one, its third follows its second."""
        last, used = self._sessions.get(relay, ("", 0))
        if use == 1 or used != use - 1:
            self._opened += 1
            last = str(self._opened)
        self._sessions[relay] = last, use
        return last

    def _close(self, ended: Callable[[Transaction], bool]) -> list[Row]:
        over = [process for process, transaction in self._open.items() if ended(transaction)]
        return [row for process in over for row in _rows(self._open.pop(process))]


def _rows(transaction: Transaction) -> Iterator[Replied]:
    """Yield a row for each reply; a refused recipient is one too many of all that were offered."""
    for reply in transaction.by_reply.values():
        refused = reply.stage == "RCPT" and reply.code >= 400
        recipients = transaction.recipients if refused else reply.recipients
        yield reply._replace(session=transaction.session, recipients=recipients)


def _answer(status: str, answer: str) -> tuple[Stage, int, str, str]:
    """Return stage, code, enhanced code and text of what the server said; code 0 if it said nothing."""
    if status == "sent":
        return "EOD", *said(answer)
    found = ANSWER.search(answer)
    if not found:
        return stage_of(answer), 0, "", answer
    words = answer[found.end() :]
    ending = IN_REPLY_TO.search(words)
    if ending:
        return stage_of(ending[1]), *said(words[: ending.start()])
    if found[1] == "said":
        return "AUTH" if "authentication failed" in answer else "EOD", *said(words)
    return "CONNECT", *said(words)
