"""What a log says about one limit: when it was asked, what it counted, and how well the log knows when.

Refusals with the same words at the same stage are one limit's; replies that were kept back are another's.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import quantiles
from typing import Final, NamedTuple

from simlib.hypothesis import Asked, Kind, Lasting, Take, Trials
from simlib.provider import STAGES, Stage
from simlib.replies import Outcome

__all__ = ["EARLY", "Counting", "Family", "Log", "countings", "masked", "numbered"]

EARLY: Final = ("CONNECT", "EHLO", "AUTH")
"""The stages before MAIL: what is asked there is asked once a session."""
BEFORE: Final = 1e-5
"""Just before a held message was let through, in seconds: ten times what counts as one instant."""
FINEST: Final = 4.0
ORDINARY: Final = 10.0
"""A reply counts as kept back if it took so many times as long as the quick quarter of them, and over a second."""


class Family(NamedTuple):
    """Refusals in the same words, at the same stage; the words are empty for replies that were kept back.

    Parameters
    ----------
    stage, code, enhanced : Stage, int, str
        What a refusal in these words answers, and with which codes.
    words : str
        The text without what differs from one reply to the next (`masked`).
    """

    stage: Stage
    code: int
    enhanced: str
    words: str


@dataclass(frozen=True)
class Log:
    """What one provider answered, and how well the log knows when.

    Parameters
    ----------
    outcomes : tuple of Outcome
        By the time of the reply.
    dated : bool
        Whether times have dates, so that a clock of the provider can be told.
    """

    outcomes: tuple[Outcome, ...]
    dated: bool

    @cached_property
    def slack(self) -> float:
        """How long a reply may have been on its way: no longer than the quickest of all took, in seconds."""
        took = (one.ended - one.began for one in self.outcomes if one.code)
        return min(min(took, default=0.0), min((one.setup for one in self.outcomes if one.setup), default=math.inf))

    @cached_property
    def resolution(self) -> float:
        """The unit in which the log's clock counts, in seconds; 0 if it is finer than milliseconds."""
        times = [one.ended for one in self.outcomes]
        return next((u for u in (1.0, 0.1, 0.01, 0.001) if all(abs(t / u - round(t / u)) < 1e-4 for t in times)), 0.0)

    @cached_property
    def held(self) -> frozenset[int]:
        """Which outcomes were kept back."""
        marked = frozenset(row for row, one in enumerate(self.outcomes) if one.held)
        took = [one.ended - one.began for one in self.outcomes if 200 <= one.code < 300]
        if marked or len(took) < 2:
            return marked
        long = max(1.0, ORDINARY * quantiles(took, n=4)[0])
        return frozenset(
            row for row, one in enumerate(self.outcomes) if 200 <= one.code < 300 and one.ended - one.began > long
        )

    @cached_property
    def families(self) -> dict[Family, list[int]]:
        """The refusals by their words, and the replies that were kept back."""
        found: dict[Family, list[int]] = {}
        for row, one in enumerate(self.outcomes):
            if one.code >= 400:
                family = Family(one.stage, one.code, one.enhanced, masked(one.text) or "(no text)")
                found.setdefault(family, []).append(row)
        if self.held:
            found[Family("EOD", 250, "", "")] = sorted(self.held)
        return found

    @cached_property
    def sessions(self) -> dict[tuple[str, str], tuple[float, float, int]]:
        """By address and session: when it began, when it ended, its first attempt; empty if attempts don't say."""
        found: dict[tuple[str, str], tuple[float, float, int]] = {}
        for row, one in enumerate(self.outcomes):
            if not one.session:
                return {}
            key = one.ip, one.session
            began, ended, first = found.get(key, (one.began, one.ended, row))
            found[key] = min(began, one.began), max(ended, one.ended), first
        return found

    @cached_property
    def partitions(self) -> dict[str, list[int]]:
        """By what a limit may be counted by, whose window each attempt belongs to; only what the log knows."""
        known = {
            "account": [one.account for one in self.outcomes],
            "ip": [one.ip for one in self.outcomes],
            "sender": [one.mail_from for one in self.outcomes],
            "tenant": [one.account.rpartition("@")[2] for one in self.outcomes],
            "domain": [one.mail_from.rpartition("@")[2] for one in self.outcomes],
        }
        return {per: numbered(labels) for per, labels in known.items() if any(labels)}

    @cached_property
    def reach(self) -> dict[str, float]:
        """By stage, how long it takes an attempt to get there: no longer than the slowest that was refused there."""
        found: dict[str, float] = {}
        for one in self.outcomes:
            if one.code >= 400:
                known = 0.0 if one.setup is None or one.stage in EARLY else one.setup
                found[one.stage] = max(found.get(one.stage, 0.0), one.ended - one.began - known)
        return found

    @property
    def finest(self) -> float:
        """The shortest window that the log can say anything about, in seconds: some times as long as it is unsure."""
        return FINEST * (self.slack + self.resolution)

    def let_through(self, row: int) -> tuple[float, float]:
        """Return between which moments an attempt was accepted, or let go if it had been kept back."""
        one = self.outcomes[row]
        return max(one.began, one.ended - self.slack), one.ended + self.resolution

    def moment(self, row: int, stage: str) -> tuple[float, float]:
        """Return between which moments an attempt was decided at a stage; where replies are kept back, before that."""
        one = self.outcomes[row]
        if one.stage == stage if one.code >= 400 else stage == "EOD" and not self.held:
            return self.let_through(row)
        since = one.began if one.setup is None or stage in EARLY else one.began + one.setup
        return since, min(one.ended, since + max(self.slack, self.reach.get(stage, math.inf))) + self.resolution


def numbered(labels: Sequence[str]) -> list[int]:
    """Return the labels as numbers, in the order in which they first come.

    Parameters
    ----------
    labels : sequence of str
        In any order.

    Returns
    -------
    list of int
        From 0, one a label.

    Examples
    --------
    >>> numbered(["b", "a", "b"])
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


WORDS: Final = re.compile(
    r"\S*@\S+|\b[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,7}\b|\b(?=\w*\d)[\w.-]*[\w-]|\d+", re.IGNORECASE
)


def masked(text: str) -> str:
    """Return a reply's words without what differs from one to the next: addresses, numbers, names with digits in them.

    Parameters
    ----------
    text : str
        A reply, with or without its enhanced code.

    Returns
    -------
    str
        With ``#`` for each of them.

    Examples
    --------
    >>> masked("4.7.28 Our system has detected mail from 203.0.113.5, see a1b2-3c")
    '# Our system has detected mail from #, see #'
    """
    return " ".join(WORDS.sub("#", text).split())


@dataclass(frozen=True, slots=True)
class Counting:
    """A way to count, with the evidence counted so.

    Parameters
    ----------
    kinds : tuple of Kind
        Windows that count so.
    count : str
        What is counted, as in the facts.
    trials : Trials
        When it was asked, and what it had counted.
    """

    kinds: tuple[Kind, ...]
    count: str
    trials: Trials


def countings(log: Log, family: Family, rows: Sequence[int]) -> Iterator[Counting]:
    """Yield what a limit at a family's stage may count.

    Parameters
    ----------
    log : Log
        What a provider answered.
    family : Family
        The refusals, or the replies that were kept back.
    rows : sequence of int
        Which outcomes of the log they are.

    Yields
    ------
    Counting
        One a way to count.
    """
    early = family.stage in EARLY
    if early and not log.sessions:
        return
    refused = set(rows)
    hold = not family.words
    tests, takes, starts = _transactions(log, family, refused, hold)
    asks: dict[str, list[float]] = {
        "messages": [1.0] * len(log.outcomes),
        "recipients": [float(one.recipients) for one in log.outcomes],
        "bytes": [float(one.bytes) for one in log.outcomes],
    }
    varies = {name: len({asks[name][test.row] for test in tests}) > 1 for name in asks}
    ones = asks["messages"]
    none = [0] * len(log.outcomes)
    windows: tuple[Kind, ...] = ("sliding", "fixed", "token_bucket")
    if early:
        tests = _logins(log, family, refused)
        began = [Take(one.since, one.at, one.row, one.full) for one in tests]
        what = "logins" if family.stage == "AUTH" else "sessions"
        yield Counting(windows, what, Trials(tests, began, ones, ones, none, starts))
        open_ = list(_connected(log, refused, early))
        yield Counting(("in_use",), "connections", Trials(tests, (), ones, ones, none, lasting=open_))
    for count in ("messages", "recipients"):
        if count == "messages" or varies[count]:
            at_once = family.stage in ("RCPT", "DATA", "EOD") and count == "recipients"
            asked = asks[count] if at_once else ones
            yield Counting(windows, count, Trials(tests, takes, asked, asks[count], none, starts))
    if early or hold:
        return
    if family.stage != "CONNECT" and log.sessions:
        yield Counting(("session",), "messages", Trials(tests, takes, ones, ones, _by_session(log)))
    for count in ("recipients", "bytes"):
        if varies[count]:
            yield Counting(("message",), count, Trials(tests, (), asks[count], asks[count], none))
    yield Counting(("in_use",), "transactions", Trials(tests, (), ones, ones, none, lasting=list(_transacting(log))))
    if log.sessions:
        first = {key: row for key, (_, _, row) in log.sessions.items()}
        owners = [first[one.ip, one.session] for one in log.outcomes]
        open_ = list(_connected(log, refused, early))
        yield Counting(("in_use",), "connections", Trials(tests, (), ones, ones, none, lasting=open_, owners=owners))


def _by_session(log: Log) -> list[int]:
    return numbered([f"{one.ip} {one.session}" for one in log.outcomes])


def _transactions(
    log: Log, family: Family, refused: set[int], hold: bool
) -> tuple[list[Asked], list[Take], list[Take]]:
    """Return when a limit at MAIL or later was asked, what was taken, and what begins a client's window."""
    tests, takes, starts = [], [], []
    place = STAGES.index(family.stage)
    for row, one in enumerate(log.outcomes):
        if not one.code:
            continue
        since, at = log.let_through(row) if hold and one.code < 400 else log.moment(row, family.stage)
        starts.append(Take(since, at, row, False))
        if row in refused:
            if hold:
                tests.append(Asked(since - BEFORE, at - BEFORE, row, True))
                tests.append(Asked(since, at, row, False))
                takes.append(Take(since, at, row, False))
            else:
                tests.append(Asked(since, at, row, True))
                takes.append(Take(since, at, row, True))
            continue
        reached = STAGES.index(one.stage) if one.code >= 400 else len(STAGES)
        if reached > place:
            tests.append(Asked(since, at, row, False))
        if reached >= place:
            at_the_end = one.code < 400 and family.stage in ("EOD", *EARLY)  # where nothing can be taken before MAIL
            taken = log.let_through(row) if at_the_end else (since, at)
            takes.append(Take(*taken, row, one.code >= 400))
    return tests, takes, starts


def _logins(log: Log, family: Family, refused: set[int]) -> list[Asked]:
    """Return when a limit before MAIL was asked: once a session."""
    tests = [Asked(*log.moment(row, family.stage), row, True) for row in sorted(refused)]
    place = STAGES.index(family.stage)
    for began, _, row in log.sessions.values():
        one = log.outcomes[row]
        if row not in refused and one.code and (one.code < 400 or STAGES.index(one.stage) > place):
            tests.append(Asked(began, began + log.slack + log.resolution, row, False))
    return tests


def _transacting(log: Log) -> Iterator[Lasting]:
    """Yield from when a transaction may have been in progress, from when it was, and until when."""
    firsts = {row for _, _, row in log.sessions.values()}
    for row, one in enumerate(log.outcomes):
        if one.stage in ("DATA", "EOD", "RCPT") and one.code:
            begun = one.began + (one.setup or 0.0)
            known = one.setup is not None or (log.sessions and row not in firsts)
            surely_from = begun + log.slack + log.resolution if known else math.inf
            yield Lasting(begun, surely_from, one.ended - log.slack, one.ended + log.resolution, row)


def _connected(log: Log, refused: set[int], early: bool) -> Iterator[Lasting]:
    """Yield when sessions were open; a client may take as long as a reply does to close one."""
    for began, ended, row in log.sessions.values():
        if not (early and row in refused):
            surely = began + log.slack + log.resolution, ended - log.slack
            yield Lasting(began, *surely, ended + 2 * log.slack + log.resolution, row)
