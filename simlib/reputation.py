"""What a mailbox provider thinks of an IP: a model, as pure functions of what the IP has sent.

Everybody on an IP shares its reputation. Each day some of the accepted messages are complained about; the share, drawn
towards that of an unknown IP while little has been sent, puts the IP into a band, and the band scales the provider's
limits per IP. No provider publishes such a model: the lines at 0.1 % and 0.3 % and the seven days of recovery are
Google's, the rest is assumed, and stands in ``simlib/reputation.toml`` with a source or the word.

Nothing here knows a clock. A day is a number of messages and one of complaints; who counts them is the receiver.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, model_validator

from simlib.facts import Fact, Frozen, check, read_toml

__all__ = [
    "Band",
    "Day",
    "LeftOut",
    "Parameter",
    "Reputation",
    "Rules",
    "Standing",
    "chance",
    "complaints",
    "left_out",
    "mixed",
    "parameters",
    "shrunk",
]

Band = Literal["high", "medium", "low", "blocked"]
DEVIATIONS: Final = 12.0
"""Standard deviations below the mean at which a sum of probabilities begins: less than rounding lies below (1e-32)."""


class Parameter(Fact):
    """One number of the model.

    Parameters
    ----------
    id : str
        Its name: that of a field of `Rules`.
    value : float
        In days, messages, or as a share.
    meaning : str
        What it does here.
    """

    id: str
    value: float
    meaning: str


class LeftOut(Fact):
    """Something that the model leaves out, and what it could change."""

    id: str
    meaning: str


class Rules(Frozen):
    """The numbers of the model: those of ``reputation.toml`` (see there what each means), or a scenario's own.

    Examples
    --------
    >>> rules = Rules.of({"low": 0.2})
    >>> rules.ceiling, rules.low
    (0.003, 0.2)
    """

    aim: float = Field(gt=0, le=1)
    ceiling: float = Field(gt=0, le=1)
    recovery_days: int = Field(ge=0)
    memory_days: int = Field(ge=1, le=3660)
    prior_messages: float = Field(ge=0)
    prior_rate: float = Field(ge=0, le=1)
    medium: float = Field(gt=0, le=1)
    low: float = Field(gt=0, le=1)
    listed_days: float = Field(gt=0)

    @model_validator(mode="after")
    def _is_ordered(self) -> "Rules":
        if self.aim > self.ceiling:
            raise ValueError(f"aim must be at most the ceiling of {self.ceiling:g}, got {self.aim:g}")
        if self.low > self.medium:
            raise ValueError(f"low must be at most medium, which is {self.medium:g}, got {self.low:g}")
        return self

    @classmethod
    def of(cls, own: Mapping[str, Any], where: str = "reputation") -> "Rules":
        """Return the numbers of the facts, some replaced by one's own.

        Parameters
        ----------
        own : mapping of str to object
            Keys of a scenario's ``[reputation]``; the others are those of ``reputation.toml``.
        where : str, optional
            What errors call it.

        Returns
        -------
        Rules
            Checked.

        Raises
        ------
        ValueError
            If one of them isn't there, or breaks a rule.
        """
        published = {one.id: int(one.value) if one.value.is_integer() else one.value for one in parameters()}
        return check(cls, {**published, **own}, where)

    def scale(self, band: Band) -> float:
        """Return what is left of a limit per IP in a band; a blocked IP gets nothing.

        Parameters
        ----------
        band : str
            ``high``, ``medium``, ``low`` or ``blocked``.

        Returns
        -------
        float
            What a limit is multiplied by, from 0 to 1.
        """
        return {"high": 1.0, "medium": self.medium, "low": self.low, "blocked": 0.0}[band]


class Day(NamedTuple):
    """What an IP sent on one day: accepted messages, and how many of them were complained about.

    Parameters
    ----------
    messages, complaints : int
        Accepted, and complained about.
    """

    messages: int
    complaints: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a provider thinks of an IP at the beginning of a day; an IP that has sent nothing starts so.

    Parameters
    ----------
    days : tuple of Day
        The days that count, the oldest first.
    band : str
        ``high``, ``medium`` or ``low``. That an IP is ``blocked`` is a list's doing, not that of its complaints.
    good_days : int
        How many days in a row ended below the ceiling.

    Examples
    --------
    >>> rules = Rules.of({})
    >>> bad = Standing().after(Day(10_000, 100), rules)
    >>> good = bad.after(Day(30_000, 0), rules)
    >>> bad.band, good.band, round(shrunk(good.days, rules), 6)
    ('low', 'low', 0.002451)
    """

    days: tuple[Day, ...] = ()
    band: Band = "high"
    good_days: int = 0

    def after(self, day: Day, rules: Rules) -> "Standing":
        """Return the standing after one more day."""
        days = (*self.days, day)[-rules.memory_days :]
        rate = shrunk(days, rules)
        if rate >= rules.ceiling:
            return Standing(days, "low", 0)
        good_days = self.good_days + 1
        if self.band == "low" and good_days < rules.recovery_days:
            return Standing(days, "low", good_days)
        return Standing(days, "high" if rate < rules.aim else "medium", good_days)


def shrunk(days: Sequence[Day], rules: Rules) -> float:
    """Return the share of complaints over some days, drawn towards the rate of an unknown IP.

    Parameters
    ----------
    days : sequence of Day
        What is remembered.
    rules : Rules
        How many messages at which rate stand for an unknown IP.

    Returns
    -------
    float
        From 0 to 1.

    Examples
    --------
    >>> shrunk([Day(1000, 3), Day(0, 0)], Rules.of({}))
    0.00175
    """
    messages = rules.prior_messages + sum(day.messages for day in days)
    if not messages:
        return rules.prior_rate
    return (rules.prior_messages * rules.prior_rate + sum(day.complaints for day in days)) / messages


def mixed(shares: Iterable[tuple[float, float]]) -> float:
    """Return the complaint rate of an IP from the ``(volume, complaint rate)`` of those who share it.

    Parameters
    ----------
    shares : iterable of tuple of (float, float)
        Messages a day, and the share of them that is complained about.

    Returns
    -------
    float
        The mean, weighed by volume; 0 where nothing is sent.

    Examples
    --------
    >>> round(mixed([(950, 0.0005), (50, 0.01)]), 6)
    0.000975
    """
    volume = total = 0.0
    for messages, rate in shares:
        volume += messages
        total += messages * rate
    return total / volume if volume else 0.0


def chance(*name: object) -> float:
    """Return a number in [0, 1) that looks random and is always the same for the same name.

    Parameters
    ----------
    *name : object
        What the chance is of.

    Returns
    -------
    float
        Uniform over names.

    Examples
    --------
    >>> chance(1, "google-mx", 3) == chance(1, "google-mx", 3) != chance(1, "google-mx", 4)
    True
    """
    digest = hashlib.blake2b("\x1f".join(map(str, name)).encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def complaints(messages: int, rate: float, luck: float) -> int:
    """Return how many of a day's messages are complained about: a quantile of the binomial distribution.

    With the same luck, a higher rate never gives fewer.

    Parameters
    ----------
    messages : int
        How many were accepted.
    rate : float
        The chance of each.
    luck : float
        Which quantile, in [0, 1): see `chance`.

    Returns
    -------
    int
        From 0 to `messages`.

    Examples
    --------
    >>> [complaints(1000, 0.001, luck) for luck in (0.3, 0.5, 0.95)]
    [0, 1, 3]
    """
    if rate <= 0 or messages <= 0:
        return 0
    if rate >= 1:
        return messages
    mean = messages * rate
    least = max(0, math.floor(mean - DEVIATIONS * math.sqrt(mean * (1 - rate))))
    odds = rate / (1 - rate)
    here = math.exp(
        math.lgamma(messages + 1)
        - math.lgamma(least + 1)
        - math.lgamma(messages - least + 1)
        + least * math.log(rate)
        + (messages - least) * math.log1p(-rate)
    )
    count, below = least, here
    while below <= luck and count < messages:
        here *= odds * (messages - count) / (count + 1)
        if count > mean and here < below * 1e-17:
            break  # what is left is less than rounding
        count += 1
        below += here
    return count


@dataclass(frozen=True, slots=True)
class Reputation:
    """What a receiver needs to know to keep an opinion of each IP.

    Parameters
    ----------
    rules : Rules
        The numbers of the model.
    rates : mapping of str to float
        Of each sender's domain, the share of accepted messages that are complained about; others are never.
    seed, replication : int
        Which luck complaints are drawn with.
    """

    rules: Rules
    rates: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1
    replication: int = 0

    def day(self, provider: str, ip: str, number: int, messages: int, expected: float) -> Day:
        """Return what became of an IP's day at a provider.

        Parameters
        ----------
        provider, ip : str
            Whose opinion of whom.
        number : int
            Which day it is; each has its own luck.
        messages : int
            How many were accepted.
        expected : float
            The sum of their senders' complaint rates.

        Returns
        -------
        Day
            Messages, and the complaints about them.
        """
        if not messages:
            return Day(0, 0)
        luck = chance(self.seed, self.replication, "complaints", provider, ip, number)
        return Day(messages, complaints(messages, expected / messages, luck))


class _File(Frozen):
    parameters: tuple[Parameter, ...]
    left_out: tuple[LeftOut, ...]


@cache
def _read() -> _File:
    path = Path(str(files("simlib") / "reputation.toml"))
    return check(_File, read_toml(path), path.name)


def parameters() -> tuple[Parameter, ...]:
    """Return the numbers of the model, each with its source or graded assumed.

    Returns
    -------
    tuple of Parameter
        In the order of the file.

    Examples
    --------
    >>> [one.id for one in parameters() if not one.rests_on_assumption]
    ['listed_days']
    """
    return _read().parameters


def left_out() -> tuple[LeftOut, ...]:
    """Return what the model leaves out.

    Returns
    -------
    tuple of LeftOut
        Each with its source, or graded assumed.

    Examples
    --------
    >>> [one.id for one in left_out()]
    ['domain_reputation']
    """
    return _read().left_out
