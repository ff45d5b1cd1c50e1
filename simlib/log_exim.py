"""Exim's main log, as "Exim's log files" in its specification (chapter 53) describes it.

``<=`` is a message that arrived, ``=>`` and ``->`` recipients of a delivery, ``==`` one put off and ``**`` one refused.
It counts the recipients of a message only if the log selector `received_recipients` is on; else they are those that it
has tried.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from simlib.logs import Arrived, Clock, Replied, Row, said, stage_of
from simlib.provider import Stage

__all__ = ["Exim"]

LINE = re.compile(
    r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(?: ([+-]\d{4}))?(?: \[\d+\])?"
    r"(?: (\w{6}-\w{6}-\w\w|\w{6}-\w{11}-\w{4}))? ?(.*)",
    re.DOTALL,
)
HOST = re.compile(r" H=([^ ]+) \[[^\]]*\]")
SIZE = re.compile(r" S=(\d+)")
CONFIRMED = re.compile(r' C="((?:[^"\\]|\\.)*)"')
TOOK = re.compile(r" DT=(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?")
REFUSED = re.compile(r"SMTP error from remote mail server after ([^:]*(?::<[^>]*>[^:]*)?): (.*)", re.DOTALL)
AUTHENTICATOR = re.compile(r"\w+ authenticator failed H=\S+ \[[^\]]*\]:? (.*)", re.DOTALL)


@dataclass
class Message:
    """A message that is still being delivered."""

    arrived: Arrived
    counted: bool  # whether the log said how many recipients it has
    tried: set[str] = field(default_factory=set)
    told: bool = False


class Exim:
    """Reads Exim's main log.

    Parameters
    ----------
    clock : Clock
        How its times are to be read.

    Examples
    --------
    >>> reader = Exim(Clock(dt.UTC, 2026))
    >>> reader.read("2026-11-04 09:05:30 1xVpjb-0003mQ-2g <= rep01@us.example H=(pc) [192.0.2.9] P=esmtp S=275")
    []
    >>> reader.read('2026-11-04 09:05:31 1xVpjb-0003mQ-2g => a@b.example R=r T=t H=mx.b.example [192.0.2.1] C="250 Ok"')
    []
    >>> reader.read("2026-11-04 09:05:31 1xVpjb-0003mQ-2g Completed")
    [Replied(...provider='mx.b.example', ...code=250, enhanced='', text='Ok'), Arrived(...recipients=1, bytes=275)]
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: dict[str, Message] = {}
        self._delivering: dict[str, Replied] = {}  # by message: what further recipients may belong to

    def read(self, line: str) -> list[Row] | None:
        """Return what a line completes; None if it is about no message's way out."""
        found = LINE.fullmatch(line)
        if not found:
            raise ValueError("does not begin with a date and a time as Exim writes them")
        day, clock, zone, id_, words = found.groups()
        if id_ is None:
            return None
        flag, _, rest = words.partition(" ")
        at = self._clock.iso(f"{day}T{clock}{zone or ''}")
        if flag == "<=":
            return self._arrived(at, id_, rest)
        if flag in ("=>", "->", "*>"):
            return self._delivered(at, id_, flag, f" {rest}")
        if flag in ("==", "**"):
            return self._failed(at, id_, f" {rest}")
        if flag == "Completed":
            return [*self._flush(id_), *self._told(id_, last=True)]
        return None

    def finish(self) -> Iterable[Row]:
        """Return the deliveries and messages that the log's end leaves open."""
        for id_ in list(self._delivering):
            yield from self._flush(id_)
        for id_ in list(self._queue):
            yield from self._told(id_, last=True)

    def _arrived(self, at: dt.datetime, id_: str, rest: str) -> list[Row]:
        sender, _, more = rest.partition(" ")
        size = SIZE.search(f" {more}")
        if not sender or not size:
            raise ValueError(f"must say sender and S=, got {rest!r}")
        named = more.rpartition(" for ")[2].split() if " for " in more else []
        arrived = Arrived(at, f"{id_} {at}", "" if sender == "<>" else sender, len(named), int(size[1]))
        self._queue[id_] = Message(arrived, bool(named))
        return []

    def _delivered(self, at: dt.datetime, id_: str, flag: str, rest: str) -> list[Row] | None:
        host = HOST.search(rest)
        if not host:
            return None  # to a mailbox or a program
        words = CONFIRMED.search(rest)
        _, enhanced, text = said(words[1].replace("\\n", "\n").replace("\\", "")) if words else (250, "", "")
        one = self._reply(at, id_, host[1], rest, "EOD", (250, enhanced, text))
        before = self._delivering.get(id_)
        if flag == "->" and before and before[4:] == one._replace(recipients=before.recipients)[4:]:
            self._delivering[id_] = before._replace(recipients=before.recipients + 1)
            return []
        rows = list(self._flush(id_))
        self._delivering[id_] = one
        return rows

    def _failed(self, at: dt.datetime, id_: str, rest: str) -> list[Row] | None:
        host = HOST.search(rest)
        refused = REFUSED.search(rest)
        if refused:
            stage, answer = stage_of(refused[1]), said(refused[2].replace("\\n", "\n"))
        elif found := AUTHENTICATOR.search(rest):
            stage, answer = "AUTH", said(found[1])
        elif host and "retry time not reached" not in rest:
            stage, answer = "CONNECT", (0, "", rest.rpartition(": ")[2].strip())
        else:
            return None  # put off, or given up, without an attempt
        name = host[1] if host else ""
        return [*self._flush(id_), self._reply(at, id_, name, rest, stage, answer)]

    def _reply(
        self, at: dt.datetime, id_: str, host: str, rest: str, stage: Stage, answer: tuple[int, str, str]
    ) -> Replied:
        message = self._queue.get(id_)
        if message:
            message.told = True
            message.tried.add(rest.split(" R=", maxsplit=1)[0].strip())
        took = TOOK.search(rest)
        parts = took.groups(default="0") if took else ()
        seconds = sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False)) if took else None
        sender = message.arrived.mail_from if message else ""
        size = message.arrived.bytes if message else 0
        return Replied(at, seconds, None, host.lower(), "", "", "", sender, 1, size, stage, *answer)

    def _flush(self, id_: str) -> Iterator[Row]:
        if id_ in self._delivering:
            yield self._delivering.pop(id_)

    def _told(self, id_: str, last: bool) -> Iterator[Row]:
        message = self._queue.pop(id_, None)
        if message and message.told:
            count = message.arrived.recipients if message.counted else len(message.tried)
            yield message.arrived._replace(recipients=max(1, count))
