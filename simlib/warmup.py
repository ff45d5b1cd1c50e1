"""Warm-up: how a new IP's daily volume may grow. The schedules stand in ``simlib/warmups.toml``."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from simlib.facts import Fact, Frozen, check, read_toml

__all__ = ["Warmup", "warmups"]

HOURS = 24


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

    @model_validator(mode="after")
    def _grows(self) -> "Warmup":
        if list(self.amounts) != sorted(self.amounts) or any(amount < 1 for amount in self.amounts):
            raise ValueError(f"amounts must be at least 1 and never fall, got {list(self.amounts)}")
        if (self.full_after is None) != (self.full is None):
            raise ValueError(f"full_after and full belong together, got {self.full_after} and {self.full}")
        return self

    def cap(self, day: int) -> int | None:
        """Return how many messages the IP may send on a day, counted from 1; None where that is not published."""
        if day < 1:
            raise ValueError(f"day must be at least 1, got {day}")
        if day <= len(self.amounts):
            return self.amounts[day - 1] * (HOURS if self.per == "h" else 1)
        last = self.cap(len(self.amounts)) if self.amounts and self.then == "double" else None
        return None if last is None else last << (day - len(self.amounts))

    def days(self, volume: int) -> int | None:
        """Return the first day on which the IP may carry so many messages a day; None where that is not published."""
        if not self.amounts:
            return self.full_after if self.full is not None and volume <= self.full else None
        day = 1
        while (allowed := self.cap(day)) is not None:
            if allowed >= volume:
                return day
            day += 1
        return None

    def elsewhere(self, volume: int) -> float | None:
        """Return the share of the mail until then, that day included, that has to go another way or wait."""
        day = self.days(volume)
        caps = [self.cap(one) for one in range(1, (day or 0) + 1)]
        known = [min(cap, volume) for cap in caps if cap is not None]
        return None if day is None or len(known) < day else 1 - sum(known) / (volume * day)


class _Warmups(Frozen):
    warmups: tuple[Warmup, ...]


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
