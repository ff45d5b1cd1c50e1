"""What is offered: Poisson arrivals, business days, batches and traces, drawn from named random streams.

The same tenant offers the same messages in every alternative, and adding a tenant or a channel changes nobody else's.
"""

import csv
import datetime as dt
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from simlib.facts import Frozen, Rate, duration, read_toml, time_of_day
from simlib.population import ComplaintRates, LogNormal

__all__ = ["Batches", "BusinessDay", "Messages", "Poisson", "Tenant", "Trace", "by_day", "offered", "recipients"]
__all__ += ["stream"]

Floats = np.typing.NDArray[np.float64]
Ints = np.typing.NDArray[np.int64]
Bools = np.typing.NDArray[np.bool_]
DAY = 86400.0
MOST = 1_000_000
"""Senders of a tenant, and recipients of a message, beyond which a number is a slip of the finger."""
DOMAINS = 50
"""Recipients' domains at each provider: a relay's queues and limits go by domain."""
LABELS = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
LOCAL_PART = re.compile(r"[^\s@<>()\[\]\\,;:\"]+")


def stream(seed: int, replication: int, *name: str) -> np.random.Generator:
    """Return the random stream of a name: the same for the same seed, replication and name, whatever else is drawn.

    Parameters
    ----------
    seed, replication : int
        Which run.
    *name : str
        What is drawn from it.

    Returns
    -------
    Generator
        At its beginning.

    Examples
    --------
    >>> stream(1, 0, "us", "arrivals").random() == stream(1, 0, "us", "arrivals").random()
    True
    """
    key = zlib.crc32("\x1f".join(name).encode())
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(replication, key))))


@dataclass(frozen=True, slots=True)
class Day:
    """When second 0 is, so that clock times can be placed.

    Parameters
    ----------
    start : float
        Seconds since midnight.
    duration : float
        How long the scenario lasts, in seconds.
    """

    start: float
    duration: float

    def at(self, moment: float | dt.time) -> float:
        """Return scenario seconds for a duration since the start, or for a time of the first day.

        Parameters
        ----------
        moment : float or time
            Seconds since the start, or a time of the first day.

        Returns
        -------
        float
            Seconds since second 0.
        """
        if isinstance(moment, dt.time):
            return moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6 - self.start
        return moment


@dataclass(frozen=True, slots=True)
class Part:
    """A day of the scenario, or what there is of it: from `begin`, before `end`, in seconds; messages are drawn by it.

    Parameters
    ----------
    begin, end : float
        In seconds since second 0.
    volume : float
        What a tenant's arrival rates are multiplied by.
    dealt : list of int
        For each of its arrival processes, how many messages were dealt to its senders in the parts before.
    """

    begin: float
    end: float
    volume: float
    dealt: list[int]

    def named(self, purpose: str) -> str:
        """Return the name of a random stream: each part has its own."""
        return f"{purpose} day {self.begin / DAY:.0f}" if self.begin else purpose


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Messages of one arrival process; arrays of shape ``(messages,)``.

    Parameters
    ----------
    at : array of float
        When, in seconds.
    sender : array of int
        By which sender, a position among the tenant's.
    recipients : array of int
        To how many.
    bytes : array of int
        How big.
    """

    at: Floats
    sender: Ints
    recipients: Ints
    bytes: Ints


def _rate(value: object) -> object:
    rate = Rate.parse(value)
    if rate.period is None:
        raise ValueError(f"must look like '100/min' (s|min|h|d), got {value!r}")
    return rate


def _moment(value: object) -> object:
    """Read a time since the start (``"30min"``) or a time of day (``"09:00"``)."""
    if isinstance(value, dt.time) or (isinstance(value, str) and ":" in value):
        return time_of_day(value)
    try:
        return duration(value)
    except ValueError:
        raise ValueError(f"must be a time like '09:00' or a duration like '30min', got {value!r}") from None


RateOf = Annotated[Rate, BeforeValidator(_rate)]
Moment = Annotated[float | dt.time, BeforeValidator(_moment)]


class Poisson(Frozen):
    """Messages at random, at a constant rate.

    Parameters
    ----------
    kind : str
        ``poisson``.
    rate : Rate
        The whole tenant's, in messages per time: ``"0.5/s"``.
    senders : int, optional
        The tenant's first so many; by default all.
    label : str, optional
        A column of the record.
    """

    kind: Literal["poisson"]
    rate: RateOf
    senders: int | None = Field(default=None, ge=1)
    label: str = ""

    def expected(self, day: Day, senders: int) -> float:
        """Return how many messages to expect in one run.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        senders : int
            How many share it.

        Returns
        -------
        float
            Messages.
        """
        return self.rate.per_second * day.duration

    def draw(
        self, day: Day, weights: Floats, rng: Callable[[str], np.random.Generator], part: Part, dealt: int
    ) -> tuple[Floats, Ints]:
        """Draw the times and senders of a part of the run, before which so many messages were dealt.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        weights : array of float
            Each sender's share; they add to 1.
        rng : callable
            Gives the random stream of a name.
        part : Part
            Which stretch of the run.
        dealt : int
            Messages that were dealt to the senders before.

        Returns
        -------
        tuple of (array of float, array of int)
            When, in seconds, and by which sender, a position among them.
        """
        expected = self.rate.per_second * (part.end - part.begin) * part.volume
        at = _uniform_times(rng("times"), expected, part.begin, part.end)
        return at, _deal(len(at), weights, rng("senders"), dealt)


class Batches(Frozen):
    """Many messages at one moment: once, every so often, or at random moments.

    Parameters
    ----------
    kind : str
        ``batches``.
    first : float or time, optional
        When the first is: seconds since second 0, or a time of the first day.
    size : int, optional
        Messages of a batch, the whole tenant's; either this or `per_sender`.
    per_sender : int, optional
        Messages of a batch, each sender's.
    every : float, optional
        Seconds from one to the next; by default there is one.
    rate : Rate, optional
        How often, at random moments, in batches per time; instead of `every`.
    senders : int, optional
        The tenant's first so many; by default all.
    label : str, optional
        A column of the record.
    """

    kind: Literal["batches"]
    first: Moment = 0.0
    size: int | None = Field(default=None, ge=1)
    per_sender: int | None = Field(default=None, ge=1)
    every: Annotated[float, BeforeValidator(duration), Field(gt=0)] | None = None
    rate: RateOf | None = None
    senders: int | None = Field(default=None, ge=1)
    label: str = ""

    @model_validator(mode="after")
    def _has_one_size(self) -> "Batches":
        if (self.size is None) == (self.per_sender is None):
            raise ValueError("a batch has either `size` or `per_sender`")
        if self.every is not None and self.rate is not None:
            raise ValueError("a batch repeats by `every` or by `rate`, not both")
        return self

    def expected(self, day: Day, senders: int) -> float:
        """Return how many messages to expect in one run.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        senders : int
            How many share it.

        Returns
        -------
        float
            Messages.
        """
        left = day.duration - max(0.0, day.at(self.first))
        often = left * self.rate.per_second if self.rate else left / self.every if self.every else 1
        return often * (self.size or (self.per_sender or 0) * senders)

    def draw(
        self, day: Day, weights: Floats, rng: Callable[[str], np.random.Generator], part: Part, dealt: int
    ) -> tuple[Floats, Ints]:
        """Draw the times and senders of a part of the run, before which so many messages were dealt.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        weights : array of float
            Each sender's share; they add to 1.
        rng : callable
            Gives the random stream of a name.
        part : Part
            Which stretch of the run.
        dealt : int
            Messages that were dealt to the senders before.

        Returns
        -------
        tuple of (array of float, array of int)
            When, in seconds, and by which sender, a position among them.
        """
        first = day.at(self.first)
        if self.every is not None:
            earliest = first if first >= 0 else first + math.ceil(-first / self.every) * self.every
            moments = np.arange(earliest, part.end, self.every)
        elif self.rate is not None:
            earliest = max(first, part.begin)
            expected = self.rate.per_second * max(0.0, part.end - earliest) * part.volume
            moments = _uniform_times(rng("times"), expected, earliest, part.end)
        else:
            moments = np.array([first])
        moments = moments[(moments >= part.begin) & (moments < part.end)]
        if self.per_sender is not None:
            senders = np.tile(np.arange(len(weights)), self.per_sender * len(moments))
        else:
            assert self.size is not None
            senders = _deal(self.size * len(moments), weights, rng("senders"), dealt)
        return np.repeat(moments, len(senders) // max(1, len(moments))), senders


class BusinessDay(Frozen):
    """Ordinary mail of a working day: hourly shape and spread over senders as in a real week (`business_day.toml`).

    Parameters
    ----------
    kind : str
        ``business_day``.
    per_sender : float
        Messages a sender and 24 hours, expected.
    senders : int, optional
        The tenant's first so many; by default all.
    label : str, optional
        A column of the record.
    """

    kind: Literal["business_day"]
    per_sender: float = Field(gt=0)
    senders: int | None = Field(default=None, ge=1)
    label: str = ""

    def expected(self, day: Day, senders: int) -> float:
        """Return how many messages to expect in one run, every hour as busy as the mean one.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        senders : int
            How many share it.

        Returns
        -------
        float
            Messages.
        """
        return self.per_sender * senders * day.duration / DAY

    def draw(
        self, day: Day, weights: Floats, rng: Callable[[str], np.random.Generator], part: Part, dealt: int
    ) -> tuple[Floats, Ints]:
        """Draw the times and senders of a part of the run: a Poisson process whose rate changes by the hour.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        weights : array of float
            Each sender's share; they add to 1.
        rng : callable
            Gives the random stream of a name.
        part : Part
            Which stretch of the run.
        dealt : int
            Messages that were dealt to the senders before.

        Returns
        -------
        tuple of (array of float, array of int)
            When, in seconds, and by which sender, a position among them.
        """
        shape = hourly_shape()
        expected = self.per_sender * len(weights) * part.volume
        times, pieces, begin = rng("times"), [], part.begin
        while begin < part.end:
            hour = int((day.start + begin) // 3600)
            until = min((hour + 1) * 3600 - day.start, part.end)
            pieces.append(_uniform_times(times, expected * shape[hour % 24] * (until - begin) / 3600, begin, until))
            begin = until
        at = np.concatenate(pieces)
        return at, rng("senders").choice(len(weights), len(at), p=weights)


class Trace(Frozen):
    """Messages from a file: columns ``seconds`` (since second 0) or ``time``, ``sender``, ``recipients``, ``bytes``.

    Parameters
    ----------
    kind : str
        ``trace``.
    file : Path
        CSV.
    resample : str, optional
        What differs between replications: ``senders`` gives each sender the rows of a name drawn with replacement,
        ``none`` repeats the file.
    senders : int, optional
        The tenant's first so many; by default all.
    label : str, optional
        A column of the record.
    """

    kind: Literal["trace"]
    file: Path
    resample: Literal["senders", "none"] = "senders"
    senders: int | None = Field(default=None, ge=1)
    label: str = ""

    def expected(self, day: Day, senders: int) -> float:
        """Return how many messages to expect in one run.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        senders : int
            How many share it.

        Returns
        -------
        float
            Messages.
        """
        return len(self.rows(day)[0])

    def rows(self, day: Day) -> tuple[Floats, list[str], Ints, Ints]:
        """Read the file; `bytes` is 0 where it doesn't say.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.

        Returns
        -------
        tuple of (array of float, list of str, array of int, array of int)
            Seconds since second 0, senders, recipients and bytes, a row each.

        Raises
        ------
        ValueError
            If the file can't be read, or a row can't be; it names the line.
        """
        try:
            changed_at = self.file.stat().st_mtime_ns
        except OSError as error:
            raise ValueError(f"{self.file}: {error.strerror}") from None
        try:
            return _read_trace(self.file, day, changed_at)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{self.file}: not a CSV file in UTF-8: {error}") from None


Arrival = Annotated[Poisson | Batches | BusinessDay | Trace, Field(discriminator="kind")]


def _label(name: str) -> str:
    """Return a tenant's name as a label of a domain (RFC 5890 where it isn't ASCII)."""
    label = name.strip().lower().replace(" ", "-")
    try:
        return label if label.isascii() else label.encode("idna").decode("ascii")
    except UnicodeError:
        return label


def _several(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class Tenant(Frozen):
    """A customer whose mail uses a channel: who sends, how much and when.

    Parameters
    ----------
    name : str
        What tables and plots call it.
    domain : str, optional
        A reserved one (RFC 2606); ``NAME.example`` by default.
    neighbour : bool, optional
        Whether it is a stranger: it may be missing from an alternative.
    senders : int, optional
        Mailboxes, each an account and an address; a trace brings its own.
    arrivals : tuple
        What it sends: `Poisson`, `BusinessDay`, `Batches`, `Trace`.
    spread : str, optional
        How its volume is shared over its senders: ``even``, or ``observed`` as in a real week.
    recipients : int, optional
        Recipients of a message.
    bytes : int, optional
        Bytes of a message.
    complaint_rate : float, optional
        Complaints a message, from 0 to 1.
    count : int, optional
        How many tenants this one stands for (`members`).
    volumes : LogNormal, optional
        How unequal their volumes are.
    complaint_rates : LogNormal or Bad, optional
        How unequal their complaint rates are.

    Examples
    --------
    >>> us = Tenant(name="us", senders=2, arrivals={"kind": "poisson", "rate": "1/s"})
    >>> us.domain, us.addresses(Day(0, 60))
    ('us.example', ('rep01@us.example', 'rep02@us.example'))
    """

    name: str = Field(min_length=1)
    domain: str = ""
    neighbour: bool = False
    senders: int | None = Field(default=None, ge=1, le=MOST)
    arrivals: Annotated[tuple[Arrival, ...], BeforeValidator(_several), Field(min_length=1)]
    spread: Literal["even", "observed"] | None = None
    recipients: int = Field(default=1, ge=1, le=MOST)
    bytes: int = Field(default=20_000, ge=1, le=MOST * MOST)
    complaint_rate: float = Field(default=0.0, ge=0, le=1)
    count: int | None = Field(default=None, ge=2, le=1000)
    volumes: LogNormal | None = None
    complaint_rates: ComplaintRates | None = None

    _place: int = PrivateAttr(default=0)  # which of `count` it is
    _group: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _default_domain(cls, data: object) -> object:
        if isinstance(data, Mapping) and "domain" not in data and isinstance(data.get("name"), str):
            return {**data, "domain": f"{_label(data['name'])}.example"}
        return data

    @field_validator("domain")
    @classmethod
    def _is_reserved(cls, domain: str) -> str:
        domain = domain.lower()
        labels = domain.split(".") if LABELS.fullmatch(domain) else [""]
        top_level, second_level = labels[-1], ".".join(labels[-2:])
        if top_level not in ("example", "test", "invalid", "localhost") and second_level not in (
            "example.com",
            "example.net",
            "example.org",
        ):
            raise ValueError(f"must be a reserved domain (RFC 2606) such as 'us.example', got {domain!r}")
        return domain

    @model_validator(mode="after")
    def _knows_its_senders(self) -> "Tenant":
        if self.senders is None and not any(isinstance(arrival, Trace) for arrival in self.arrivals):
            raise ValueError("senders is missing (only a trace brings its own)")
        return self

    @model_validator(mode="after")
    def _is_one_or_a_group(self) -> "Tenant":
        if self.count is None:
            for key in ("volumes", "complaint_rates"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} belongs to a tenant with a `count`: it says how the many of them differ")
            return self
        if not self.neighbour:
            raise ValueError(f"count is for neighbours: give each tenant of your own a table, got {self.count}")
        for arrival in self.arrivals if self.volumes is not None else ():
            if isinstance(arrival, Trace) or (isinstance(arrival, Batches) and arrival.rate is None):
                raise ValueError(
                    f"volumes needs arrivals with a rate (poisson, business_day, batches by `rate`), got {arrival.kind}"
                )
        return self

    @property
    def group(self) -> str:
        """The name of the table that it is one of many from; else its own."""
        return self._group or self.name

    def members(self) -> "tuple[Tenant, ...]":
        """Return the tenants that a table stands for: `count` of them, each with a name and a domain of its own.

        Returns
        -------
        tuple of Tenant
            Itself alone, without a `count`.

        Examples
        --------
        >>> table = {"name": "others", "neighbour": True, "senders": 1, "arrivals": {"kind": "poisson", "rate": "1/h"}}
        >>> [(one.name, one.domain) for one in Tenant(count=2, **table).members()]
        [('others-1', 'others-1.example'), ('others-2', 'others-2.example')]
        """
        if self.count is None or self._group:
            return (self,)
        found = []
        label, _, rest = self.domain.partition(".")
        for place in range(self.count):
            number = f"{place + 1:0{len(str(self.count))}}"
            one = self.model_copy(update={"name": f"{self.name}-{number}", "domain": f"{label}-{number}.{rest}"})
            one._place, one._group = place, self.name
            found.append(one)
        return tuple(found)

    def volume(self, seed: int, replication: int) -> float:
        """Return what its arrival rates are multiplied by in a replication; 1 on average over its group.

        Parameters
        ----------
        seed, replication : int
            Which run of the random streams.

        Returns
        -------
        float
            A factor.
        """
        if self.volumes is None or self.count is None:
            return 1.0
        rng = stream(seed, replication, "tenant", self.group, "volumes")
        return float(self.volumes.shares(rng, self.count)[self._place])

    def complaints(self, seed: int, replication: int) -> float:
        """Return its complaint rate in a replication.

        Parameters
        ----------
        seed, replication : int
            Which run of the random streams.

        Returns
        -------
        float
            A share of the messages, from 0 to 1.
        """
        if self.complaint_rates is None or self.count is None:
            return self.complaint_rate
        rng = stream(seed, replication, "tenant", self.group, "complaint rates")
        return float(self.complaint_rates.rates(rng, self.count, self.complaint_rate)[self._place])

    def names(self, day: Day) -> tuple[str, ...]:
        """Return the senders' names: a trace's by volume, then name, else rep01, rep02 and so on.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.

        Returns
        -------
        tuple of str
            As many as there are senders.

        Raises
        ------
        ValueError
            If there are more senders than names in the trace.
        """
        volumes: Counter[str] = Counter()
        for arrival in self.arrivals:
            if isinstance(arrival, Trace):
                volumes.update(arrival.rows(day)[1])
        found = [name for name, _ in sorted(volumes.items(), key=lambda item: (-item[1], item[0]))]
        if not found:
            return tuple(f"rep{number:02}" for number in range(1, (self.senders or 0) + 1))
        if self.senders is not None and self.senders > len(found):
            raise ValueError(f"senders must be at most the {len(found)} names of the trace, got {self.senders}")
        return tuple(found[: self.senders])

    def addresses(self, day: Day) -> tuple[str, ...]:
        """Return the senders' addresses, in the order in which arrivals use them.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.

        Returns
        -------
        tuple of str
            ``rep01@us.example`` and so on.
        """
        return tuple(f"{name}@{self.domain}" for name in self.names(day))

    def offers(self, day: Day, rng: Callable[[str], np.random.Generator], part: Part) -> Iterator[tuple[str, Arrivals]]:
        """Draw a part of each arrival process: its label and its messages.

        Parameters
        ----------
        day : Day
            When second 0 is, and how long the scenario lasts.
        rng : callable
            Gives the random stream of a name.
        part : Part
            Which stretch of the run.

        Yields
        ------
        str
            The label of the process.
        Arrivals
            Its messages.

        Raises
        ------
        ValueError
            If an arrival process has more senders than the tenant.
        """
        names = self.names(day)
        for number, arrival in enumerate(self.arrivals):
            own = _named(rng, f"arrivals {number}", part)
            count = len(names) if arrival.senders is None else arrival.senders
            if count > len(names):
                raise ValueError(f"senders must be at most the tenant's {len(names)}, got {count}")
            if isinstance(arrival, Trace):
                # whose rows a sender sends is drawn once
                drawn = _replay(arrival, day, names[:count], rng(f"arrivals {number} names"), self.bytes)
            else:
                spread = self.spread or ("observed" if isinstance(arrival, BusinessDay) else "even")
                weights = observed_spread(count) if spread == "observed" else np.full(count, 1 / count)
                at, sender = arrival.draw(day, weights, own, part, part.dealt[number])
                drawn = Arrivals(at, sender, np.full(len(at), self.recipients), np.full(len(at), self.bytes))
            part.dealt[number] += len(drawn.at)
            inside = (drawn.at >= part.begin) & (drawn.at < part.end)
            yield (
                arrival.label,
                Arrivals(drawn.at[inside], drawn.sender[inside], drawn.recipients[inside], drawn.bytes[inside]),
            )


def _named(rng: Callable[[str], np.random.Generator], prefix: str, part: Part) -> Callable[[str], np.random.Generator]:
    return lambda purpose: rng(part.named(f"{prefix} {purpose}"))


@dataclass(frozen=True, slots=True)
class Messages:
    """Everything that is offered in one run, in the order of creation; arrays of shape ``(messages,)``.

    Parameters
    ----------
    created_at : ndarray of float
        In seconds.
    tenant, sender, label : ndarray of int
        Positions in `tenants`, `addresses` and `labels`.
    recipients, bytes : ndarray of int
        How many, how big.
    number : ndarray of int
        Counts within the tenant, from 0; `ids` are made of it.
    choice : ndarray of float
        A number in [0, 1) that picks the provider where a channel has several.
    tenants, domains, addresses, labels : tuple of str
        What the positions mean; `domains` goes with `tenants`.
    """

    created_at: Floats
    tenant: Ints
    sender: Ints
    label: Ints
    recipients: Ints
    bytes: Ints
    number: Ints
    choice: Floats
    tenants: tuple[str, ...]
    domains: tuple[str, ...]
    addresses: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.created_at)

    def __repr__(self) -> str:
        return f"<Messages: {len(self):,} of {len(self.tenants)} tenants>"

    def ids(self) -> list[str]:
        """Return the message ids, ``us-17`` and so on.

        Returns
        -------
        list of str
            In the order of the messages.
        """
        names = self.quoted()
        return [f"{names[t]}-{n}" for t, n in zip(self.tenant.tolist(), self.number.tolist(), strict=True)]

    def quoted(self) -> list[str]:
        """Return the tenants' names as message ids have them.

        Returns
        -------
        list of str
            In the order of `tenants`.
        """
        return [quote(tenant, safe="") for tenant in self.tenants]

    def at(self, positions: Ints) -> "Messages":
        """Return those at these positions.

        Parameters
        ----------
        positions : array of int
            Which, in which order.

        Returns
        -------
        Messages
            Of the same tenants.
        """
        return self._with([getattr(self, name)[positions] for name in COLUMNS])

    def _with(self, columns: Sequence[Any]) -> "Messages":
        own: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
        return replace(self, **own)

    @staticmethod
    def joined(parts: "Sequence[Messages]") -> "Messages":
        """Return one after the other, of the same tenants.

        Parameters
        ----------
        parts : sequence of Messages
            At least one.

        Returns
        -------
        Messages
            In the order of the parts.
        """
        if len(parts) == 1:
            return parts[0]
        # labels are only ever added
        last = max(parts, key=lambda part: len(part.labels))
        return last._with([np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS])

    def goes_to(self, tenants: Sequence[str], shares: Mapping[str, float], provider: str) -> Bools:
        """Which messages of these tenants go to a provider, given each provider's share.

        Parameters
        ----------
        tenants : sequence of str
            Whose.
        shares : mapping of str to float
            Each provider's share; they add to 1.
        provider : str
            Which of them.

        Returns
        -------
        array of bool
            One a message.
        """
        below, position = 0.0, list(shares).index(provider)
        below = sum(list(shares.values())[:position])
        above = math.inf if position == len(shares) - 1 else below + shares[provider]
        mine = np.isin(self.tenant, [self.tenants.index(name) for name in tenants])
        return mine & (self.choice >= below) & (self.choice < above)


COLUMNS = ("created_at", "tenant", "sender", "label", "recipients", "bytes", "number", "choice")
"""The fields of `Messages` that have an entry a message."""


def recipients(provider: str, message: int, count: int) -> list[str]:
    """Return a message's recipients: distinct, in domains that nobody can own (RFC 6761).

    Parameters
    ----------
    provider : str
        Whose mailboxes they have.
    message : int
        Its number, from 0.
    count : int
        How many.

    Returns
    -------
    list of str
        Addresses.

    Examples
    --------
    >>> recipients("google-mx", 51, 2)
    ['to0@d02.google-mx.test', 'to1@d02.google-mx.test']
    """
    domain = f"d{message % DOMAINS + 1:02}.{provider}.test"
    return [f"to{number}@{domain}" for number in range(count)]


def offered(tenants: Sequence[Tenant], day: Day, seed: int, replication: int) -> Messages:
    """Draw what all tenants offer in one replication.

    Parameters
    ----------
    tenants : sequence of Tenant
        Who offers.
    day : Day
        When second 0 is and how long the scenario lasts.
    seed, replication : int
        Which run of the random streams.

    Returns
    -------
    Messages
        In the order in which they are offered.
    """
    return Messages.joined([messages for _, messages in by_day(tenants, day, seed, replication)])


def by_day(tenants: Sequence[Tenant], day: Day, seed: int, replication: int) -> Iterator[tuple[float, Messages]]:
    """Draw what all tenants offer in one replication, a day after the other, as `offered` does in one go.

    Parameters
    ----------
    tenants : sequence of Tenant
        Who offers.
    day : Day
        When second 0 is and how long the scenario lasts.
    seed, replication : int
        Which run of the random streams.

    Yields
    ------
    float
        When the part of the scenario ends, in seconds: every 24 hours, and at its end.
    Messages
        What is offered in it.
    """
    dealt = [[0] * len(tenant.arrivals) for tenant in tenants]
    volumes = [tenant.volume(seed, replication) for tenant in tenants]
    numbers = [0] * len(tenants)
    labels: list[str] = []
    for begin in np.arange(0.0, day.duration, DAY).tolist():
        end = min(begin + DAY, day.duration)
        parts = [Part(begin, end, volume, own) for volume, own in zip(volumes, dealt, strict=True)]
        messages = _offered(tenants, day, seed, replication, parts, numbers, labels)
        for position, count in enumerate(np.bincount(messages.tenant, minlength=len(tenants)).tolist()):
            numbers[position] += count
        yield end, messages


def _offered(
    tenants: Sequence[Tenant],
    day: Day,
    seed: int,
    replication: int,
    parts: Sequence[Part],
    numbers: Sequence[int],
    labels: list[str],
) -> Messages:
    """Draw a part, each tenant's messages numbered from there on; labels that are new are added."""
    columns: list[tuple[Any, ...]] = []
    addresses: list[str] = []
    for position, (tenant, part, number) in enumerate(zip(tenants, parts, numbers, strict=True)):

        def rng(purpose: str, name: str = tenant.name) -> np.random.Generator:
            return stream(seed, replication, "tenant", name, purpose)

        found = []
        for label, drawn in tenant.offers(day, rng, part):
            if label not in labels:
                labels.append(label)
            found.append((drawn, labels.index(label)))
        at = np.concatenate([drawn.at for drawn, _ in found])
        order = np.argsort(at, kind="stable")
        columns.append(
            (
                at[order],
                np.full(len(at), position),
                np.concatenate([drawn.sender for drawn, _ in found])[order] + len(addresses),
                np.concatenate([np.full(len(drawn.at), label) for drawn, label in found])[order],
                np.concatenate([drawn.recipients for drawn, _ in found])[order],
                np.concatenate([drawn.bytes for drawn, _ in found])[order],
                np.arange(number, number + len(at)),
                rng(part.named("providers")).random(len(at)),
            )
        )
        addresses += tenant.addresses(day)
    together = [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = np.argsort(together[0], kind="stable")
    at, tenant_of, sender, label_of, recipients, sizes, number_of, choice = (column[order] for column in together)
    return Messages(
        at,
        tenant_of.astype(np.int64),
        sender.astype(np.int64),
        label_of.astype(np.int64),
        recipients.astype(np.int64),
        sizes.astype(np.int64),
        number_of.astype(np.int64),
        choice,
        tuple(tenant.name for tenant in tenants),
        tuple(tenant.domain for tenant in tenants),
        tuple(addresses),
        tuple(labels),
    )


def _uniform_times(rng: np.random.Generator, expected: float, begin: float, end: float) -> Floats:
    """Poisson arrivals at a constant rate: their number is Poisson, their times uniform."""
    return np.sort(rng.uniform(begin, end, rng.poisson(expected)))


def _deal(count: int, weights: Floats, rng: np.random.Generator, dealt: int) -> Ints:
    """Deal messages to senders in turn, going on after those dealt before; or draw them where the weights differ."""
    if np.ptp(weights) == 0:
        return np.arange(dealt, dealt + count) % len(weights)
    return rng.choice(len(weights), count, p=weights)


@cache
def _business_day() -> tuple[Floats, Floats]:
    data = read_toml(Path(str(files("simlib") / "business_day.toml")))
    hours = np.array(data["hours"], dtype=float)
    volumes = np.repeat(*np.array(data["senders"], dtype=float).T.astype(int)).astype(float)
    return hours / hours.sum(), np.sort(volumes)[::-1]


def hourly_shape() -> Floats:
    """Return the share of a working day's mail in each hour; shape ``(24,)``, adding to 1.

    Examples
    --------
    >>> int(hourly_shape().argmax())
    9
    """
    return _business_day()[0]


def observed_spread(senders: int) -> Floats:
    """Return each sender's share of the volume, the busiest first: the real week's distribution, cut into so many.

    Parameters
    ----------
    senders : int
        How many senders share the volume.

    Returns
    -------
    ndarray of float
        Shape ``(senders,)``, adding to 1: the mean volume of each of `senders` equal parts of the week's senders,
        so that the distribution is kept whatever their number.

    Examples
    --------
    >>> [round(float(share), 2) for share in observed_spread(4)]
    [0.68, 0.19, 0.09, 0.04]
    """
    volumes = _business_day()[1]
    cumulative = np.concatenate([[0.0], np.cumsum(volumes)])
    edges = np.linspace(0, len(volumes), senders + 1)
    shares = np.diff(np.interp(edges, np.arange(len(volumes) + 1), cumulative))
    return np.asarray(shares / shares.sum())


@cache
def _read_trace(path: Path, day: Day, changed_at: int) -> tuple[Floats, list[str], Ints, Ints]:
    """Read a trace once, and again when the file has changed."""
    at: list[float] = []
    senders: list[str] = []
    recipients: list[int] = []
    sizes: list[int] = []
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    with file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        clock = "seconds" not in columns
        for needed in ("time" if clock else "seconds", "sender", "recipients"):
            if needed not in columns:
                raise ValueError(f"{path}: column {needed!r} is missing (there are: {', '.join(columns) or 'none'})")
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            moment = _time_of(row["time"], day, where) if clock else _number(row["seconds"], "seconds", where)
            if at and moment < at[-1]:
                column = "time" if clock else "seconds"
                raise ValueError(f"{where}: {column} must not go back, got {row[column]!r} after the line before")
            count = _number(row["recipients"], "recipients", where)
            size = _number(row.get("bytes") or "0", "bytes", where)
            if count < 1 or count != int(count):
                raise ValueError(f"{where}: recipients must be a whole number of at least 1, got {row['recipients']!r}")
            if count > MOST or size > MOST * MOST:
                raise ValueError(f"{where}: recipients or bytes beyond belief, got {count:g} and {size:g}")
            if size < 0 or size != int(size):
                raise ValueError(f"{where}: bytes must be a whole number of at least 0, got {row['bytes']!r}")
            if not LOCAL_PART.fullmatch(row["sender"] or ""):
                raise ValueError(f"{where}: sender must be an address without @ and domain, got {row['sender']!r}")
            at.append(moment)
            senders.append(row["sender"].lower())
            recipients.append(int(count))
            sizes.append(int(size))
    if not at:
        raise ValueError(f"{path}: has no rows")
    return np.array(at), senders, np.array(recipients), np.array(sizes)


def _number(text: str | None, column: str, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {column} must be a number, got {text!r}")
    return value


def _time_of(text: str | None, day: Day, where: str) -> float:
    try:
        return day.at(time_of_day(text or ""))
    except ValueError:
        raise ValueError(f"{where}: time must look like '09:30' or '09:30:15', got {text!r}") from None


def _replay(trace: Trace, day: Day, names: Sequence[str], rng: np.random.Generator, default_bytes: int) -> Arrivals:
    """Give each sender its own rows, or those of a name drawn with replacement."""
    at, row_names, recipients, sizes = trace.rows(day)
    rows_of: dict[str, list[int]] = {name: [] for name in names}
    for row, name in enumerate(row_names):
        if name in rows_of:
            rows_of[name].append(row)
    drawn = rng.integers(len(names), size=len(names)) if trace.resample == "senders" else np.arange(len(names))
    rows = [rows_of[names[source]] for source in drawn]
    chosen = np.array([row for own in rows for row in own], dtype=np.int64)
    sender = np.repeat(np.arange(len(names)), [len(own) for own in rows])
    order = np.argsort(at[chosen], kind="stable")
    chosen, sender = chosen[order], sender[order]
    return Arrivals(at[chosen], sender, recipients[chosen], np.where(sizes[chosen] > 0, sizes[chosen], default_bytes))
