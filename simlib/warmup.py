"""Warm-up: how a new IP's daily volume may grow. The schedules stand in ``simlib/warmups.toml``."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from simlib.facts import Fact, Frozen, check, read_toml

__all__ = ["Allotment", "Warmup", "named", "warmups"]

HOURS = 24
DAY = 86400.0


class Warmup(Fact):
    """What an email service allows, or advises, a new IP to send in its first weeks.

    Parameters
    ----------
    name, title : str
        Whose schedule.
    per : str
        What an amount is for: ``"d"``, a day, or ``"h"``, an hour.
    amounts : tuple of int
        Messages an IP may send, one entry a day from the first day on; empty where they are not published.
    then : str
        After the last entry: ``"double"`` every day, or ``"unknown"``.
    full_after, full : int or None
        Where only the end is published: after so many days, so many messages a day.
    share_an_hour : float or None
        What share of a day's amount an hour takes at most; all of it by default.
    again_after : int or None
        Days without mail after which an IP begins again; never by default.

    Examples
    --------
    >>> schedule = next(one for one in warmups() if one.name == "sparkpost")
    >>> schedule.days(1000), round(schedule.elsewhere(1000), 4)
    (3, 0.4333)
    """

    name: str
    title: str
    per: Literal["d", "h"]
    amounts: tuple[int, ...] = ()
    then: Literal["double", "unknown"] = "unknown"
    full_after: int | None = Field(default=None, ge=1)
    full: int | None = Field(default=None, ge=1)
    share_an_hour: float | None = Field(default=None, gt=0, lt=1)
    again_after: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _grows(self) -> "Warmup":
        if list(self.amounts) != sorted(self.amounts) or any(amount < 1 for amount in self.amounts):
            raise ValueError(f"amounts must be at least 1 and never fall, got {list(self.amounts)}")
        if (self.full_after is None) != (self.full is None):
            raise ValueError(f"full_after and full belong together, got {self.full_after} and {self.full}")
        return self

    def cap(self, day: int) -> int | None:
        """Return how many messages the IP may send on a day, counted from 1; None where that is not published.

        Parameters
        ----------
        day : int
            Of the warm-up, counted from 1.

        Returns
        -------
        int or None
            Messages.

        Raises
        ------
        ValueError
            If `day` is less than 1.
        """
        if day < 1:
            raise ValueError(f"day must be at least 1, got {day}")
        if day <= len(self.amounts):
            return self.amounts[day - 1] * (HOURS if self.per == "h" else 1)
        last = self.cap(len(self.amounts)) if self.amounts and self.then == "double" else None
        return None if last is None else last << (day - len(self.amounts))

    def days(self, volume: int) -> int | None:
        """Return the first day on which the IP may carry so many messages a day; None where that is not published.

        Parameters
        ----------
        volume : int
            Messages a day.

        Returns
        -------
        int or None
            The day, counted from 1.
        """
        if not self.amounts:
            return self.full_after if self.full is not None and volume <= self.full else None
        day = 1
        while (allowed := self.cap(day)) is not None:
            if allowed >= volume:
                return day
            day += 1
        return None

    def allot(
        self, created_at: Sequence[float], ips: int, since_midnight: float = 0.0, day: int = 1, waits: bool = False
    ) -> list[float]:
        """Return when each message may go out over IPs that are being warmed up, in the order of creation.

        In each day, or where amounts are for an hour, in each hour, the first come go out, as many as `ips` times the
        amount, and no more than `share_an_hour` of that in an hour; days are calendar days. What is over waits for a
        later one, first come first served, or goes elsewhere.
        After the last day that is published there is no limit.

        Parameters
        ----------
        created_at : sequence of float
            When each message is there, in seconds; ascending.
        ips : int
            How many IPs share the mail.
        since_midnight : float
            How long before second 0 the day began, in seconds.
        day : int
            Which day of the schedule second 0 lies in.
        waits : bool
            Whether what is over waits; else it has to go elsewhere.

        Returns
        -------
        list of float
            In seconds; inf: not over these IPs.

        Examples
        --------
        >>> mailtrap = named("mailtrap")
        >>> at = mailtrap.allot([0.0] * 301 + [86400.0], ips=1, waits=True)
        >>> at[59], at[60], at[299], at[300], at[301]
        (0.0, 3600.0, 14400.0, 86400.0, 86400.0)
        """
        return Allotment(self, ips, since_midnight, day, waits).more(created_at)

    def elsewhere(self, volume: int) -> float | None:
        """Return the share of the mail until then, that day included, that has to go another way or wait.

        Parameters
        ----------
        volume : int
            Messages a day.

        Returns
        -------
        float or None
            From 0 to 1; None where that is not published.
        """
        day = self.days(volume)
        caps = [self.cap(one) for one in range(1, (day or 0) + 1)]
        known = [min(cap, volume) for cap in caps if cap is not None]
        return None if day is None or len(known) < day else 1 - sum(known) / (volume * day)


class Allotment:
    """How far IPs are with their schedule, told the messages some after the other: `Warmup.allot`, to be continued.

    When a message may go out is known from what came before it, even if that is on a later day.

    Parameters
    ----------
    schedule, ips, since_midnight, day, waits
        As for `Warmup.allot`.

    Examples
    --------
    >>> allotment = Allotment(named("mailtrap"), ips=1)
    >>> allotment.more([0.0] * 59), allotment.more([0.0] * 2)
    ([0.0, ...], [0.0, inf])
    """

    def __init__(
        self, schedule: Warmup, ips: int, since_midnight: float = 0.0, day: int = 1, waits: bool = False
    ) -> None:
        self._schedule, self._ips, self._since_midnight, self._waits = schedule, ips, since_midnight, waits
        hourly = schedule.per == "h" or schedule.share_an_hour is not None
        self._period = DAY / HOURS if hourly else DAY
        self._share = schedule.share_an_hour or self._period / DAY
        self._number = -math.inf  # of the period that is being filled
        self._left = 0.0  # how many more it takes
        self._today, self._gone = -1, 0  # the day that it lies in, from second 0's, and how many went out on it
        self._first = 1 - day  # the day on which the schedule began

    def more(self, created_at: Sequence[float]) -> list[float]:
        """Return when each of these may go out, none of them created before one that was told already.

        Parameters
        ----------
        created_at : sequence of float
            When each message is there, in seconds; ascending.

        Returns
        -------
        list of float
            In seconds; inf: not over these IPs.
        """
        found: list[float] = []
        while (begun := len(found)) < len(created_at):
            number = (created_at[begun] + self._since_midnight) // self._period
            if number > self._number:
                self._begin(number)
            starts, ends = (n * self._period - self._since_midnight for n in (self._number, self._number + 1))
            there = bisect_left(created_at, ends, begun + 1)
            room = int(min(there, begun + self._left))
            found += [max(at, starts) for at in created_at[begun:room]]
            self._left -= room - begun
            self._gone += room - begun
            if not self._waits:
                found += [math.inf] * (there - room)
            elif room < there:
                self._begin(self._number + 1)
        return found

    def _begin(self, number: float) -> None:
        """Begin a period: what is left of the one before is lost, and an IP without mail for long begins again."""
        schedule, today = self._schedule, int(number * self._period // DAY)
        if schedule.again_after is not None and today - self._today > schedule.again_after:
            self._first = today
        if today != self._today:
            self._today, self._gone = today, 0
        allowed = schedule.cap(today - self._first + 1)
        self._number, self._left = number, math.inf
        if allowed is not None:
            most = self._ips * allowed
            self._left = min(math.floor(most * self._share), most - self._gone)


class _Warmups(Frozen):
    warmups: tuple[Warmup, ...]


def named(name: str) -> Warmup:
    """Return a published schedule; a ValueError says which there are.

    Parameters
    ----------
    name : str
        A name in ``warmups.toml``.

    Returns
    -------
    Warmup
        With its source.

    Raises
    ------
    ValueError
        If there is no such schedule.

    Examples
    --------
    >>> named("ses").name
    'ses'
    """
    known = {one.name: one for one in warmups()}
    if name not in known:
        raise ValueError(f"unknown schedule {name!r} (there are: {', '.join(known)})")
    return known[name]


@cache
def warmups() -> tuple[Warmup, ...]:
    """Return the published schedules.

    Examples
    --------
    >>> [schedule.days(10_000) for schedule in warmups()]
    [6, 6, 11, 15, 45, 8, None, None]
    """
    path = Path(str(files("simlib") / "warmups.toml"))
    return check(_Warmups, read_toml(path), path.name).warmups
