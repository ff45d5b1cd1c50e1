"""What a log of any format comes to: messages that arrived, and replies that were given to attempts.

A reader is told one line at a time and answers with what the line completes. It keeps what is in the queue, no more, so
a log may be longer than memory. A line that ought to say something and can't be read is a ValueError.
"""

import datetime as dt
import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from simlib.provider import Stage

__all__ = ["Arrived", "Clock", "Reader", "Replied", "Row", "said", "stage_of"]


class Arrived(NamedTuple):
    """A message of ours, as a log has it.

    Parameters
    ----------
    time : datetime
        When it came.
    id : str
        Under which name the log knows it.
    mail_from : str
        Who sent it.
    recipients, bytes : int
        To how many, and how big it is.
    """

    time: dt.datetime
    id: str
    mail_from: str
    recipients: int
    bytes: int


class Replied(NamedTuple):
    """One attempt and its last reply; the fields are the columns of the reply table (`simlib.replies`).

    Parameters
    ----------
    time : datetime
        When the reply came.
    took, setup : float or None
        Seconds of the attempt, and of the connection before it; None where the log doesn't say.
    provider : str
        The host that answered, or @ and the domain whose mail it took.
    session, ip, account, mail_from : str
        Of the attempt; empty where the log doesn't say.
    recipients, bytes : int
        Of the message.
    stage, code, enhanced, text : str, int, str, str
        What was answered, and the codes and words of the answer.
    """

    time: dt.datetime
    took: float | None
    setup: float | None
    provider: str  # the host that answered, or @ and the domain whose mail it took
    session: str
    ip: str
    account: str
    mail_from: str
    recipients: int
    bytes: int
    stage: Stage
    code: int
    enhanced: str
    text: str


Row = Arrived | Replied


class Reader(Protocol):
    """What a format is: something that is told the lines of a log in order."""

    def read(self, line: str) -> Iterable[Row] | None:
        """Return what a line completes; None if it is about something else."""

    def finish(self) -> Iterable[Row]:
        """Return what the log's end completes."""


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Clock:
    """How a log's times are meant: the zone of those that name none, and the year where there is none.

    Parameters
    ----------
    zone : tzinfo
        The zone.
    year : int
        The year of the first line; it goes on where a month is followed by one much earlier.

    Examples
    --------
    >>> clock = Clock(dt.UTC, 2026)
    >>> clock.syslog("Dec 31 23:59:58").isoformat(), clock.syslog("Jan  1 00:00:01").isoformat()
    ('2026-12-31T23:59:58+00:00', '2027-01-01T00:00:01+00:00')
    """

    def __init__(self, zone: dt.tzinfo, year: int) -> None:
        self._zone = zone
        self._year = year
        self._month = 0

    def syslog(self, text: str) -> dt.datetime:
        """Read a time as in RFC 3164, ``Nov  4 09:05:30``."""
        if text[:3] not in MONTHS:
            raise ValueError(f"time must look like 'Nov  4 09:05:30', got {text!r}")
        month = MONTHS.index(text[:3]) + 1
        if self._month - month > 6:
            self._year += 1
        self._month = month
        hour, minute, second = text[7:].split(":")
        return dt.datetime(self._year, month, int(text[4:6]), int(hour), int(minute), int(second), tzinfo=self._zone)

    def iso(self, text: str) -> dt.datetime:
        """Read a time as in ISO 8601 or RFC 3339, or seconds since 1970."""
        try:
            return dt.datetime.fromtimestamp(float(text), dt.UTC)
        except ValueError:
            pass
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"time must look like 2026-11-04T09:05:30+09:00, got {text!r}") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=self._zone)


REPLY = re.compile(r"([2-5]\d\d)[ -]?(?:([245]\.\d{1,3}\.\d{1,3})(?:\s+|$))?(.*)", re.DOTALL)


def said(text: str) -> tuple[int, str, str]:
    r"""Split a reply as a log has it, its lines on one, into code, enhanced code and text.

    Parameters
    ----------
    text : str
        A reply; codes may stand before each of its lines.

    Returns
    -------
    tuple of (int, str, str)
        Code, enhanced code and text; 0 and empty for what is not there.

    Examples
    --------
    >>> said("550-5.7.26 This mail is unauthenticated. 550 5.7.26 See our page.")
    (550, '5.7.26', 'This mail is unauthenticated.\nSee our page.')
    """
    found = REPLY.match(text.strip())
    if not found:
        return 0, "", text.strip()
    code, enhanced, rest = found[1], found[2] or "", found[3]
    again = rf"\s+{code}[- ]{re.escape(enhanced)}\s+" if enhanced else rf"\s+{code}[- ]"
    return int(code), enhanced, re.sub(again, "\n", rest).strip()


STAGES_SAID: tuple[tuple[str, Stage], ...] = (
    ("end of data", "EOD"),
    ("sending data block", "EOD"),
    ("message body", "EOD"),
    ("mail from", "MAIL"),
    ("rcpt to", "RCPT"),
    ("data", "DATA"),
    ("auth", "AUTH"),
    ("ehlo", "EHLO"),
    ("helo", "EHLO"),
    ("starttls", "EHLO"),
    ("initial", "CONNECT"),
    ("connect", "CONNECT"),
)


def stage_of(command: str) -> Stage:
    """Return the stage that a log's words for a command mean; the end of the data where there are none.

    Parameters
    ----------
    command : str
        A log's words.

    Returns
    -------
    Stage
        As in the facts.

    Examples
    --------
    >>> stage_of("RCPT TO command"), stage_of("pipelined MAIL FROM:<a@b.example>"), stage_of(".")
    ('RCPT', 'MAIL', 'EOD')
    """
    words = command.lower()
    return next((stage for name, stage in STAGES_SAID if name in words), "EOD")
