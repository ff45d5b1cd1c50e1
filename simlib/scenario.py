"""The scenario file: tenants, alternatives, events. Read, checked, and made ready to run (DESIGN §6)."""

import copy
import dataclasses
import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, field_validator

from simlib.channel import Channel, Incident, Lane
from simlib.event import Event, incidents
from simlib.facts import Frozen, Seconds, check, read_json, read_toml, table_html, table_text, time_of_day
from simlib.faults import NO_FAULTS, Faults, FaultyReceiver
from simlib.lane import habit_of, lane_of
from simlib.provider import PUBLISHED, Provider, parse
from simlib.provider import names as shipped
from simlib.receiver import Account, Receiver
from simlib.reputation import Reputation, Rules, left_out, parameters
from simlib.workload import DAY, Batches, Day, Messages, Tenant, Trace, by_day, offered

__all__ = ["Alternative", "Event", "Scenario"]

LONGEST = 3660 * 86400.0
"""Seconds in ten years: no scenario lasts longer."""
YEARS = range(1970, 2201)
"""Years in which a scenario may start: pandas keeps times from 1677 to 2262."""
MOST_MESSAGES = 10_000_000
"""Messages that one arrival process may offer in a run: beyond that, it doesn't end in a day."""


class Alternative(Frozen):
    """One way to partition the tenants over channels.

    Parameters
    ----------
    channels : tuple of Channel
        Each tenant is carried by one of them; neighbours may be left out.
    """

    channels: tuple[Channel, ...] = Field(min_length=1)

    def carrying(self, groups: Mapping[str, Sequence[str]]) -> "Alternative":
        """Return it with each name of a group replaced by those of its tenants.

        Parameters
        ----------
        groups : mapping of str to sequence of str
            The name of a table with a `count`, and the names of its tenants.

        Returns
        -------
        Alternative
            Naming tenants only.
        """
        channels = []
        for channel in self.channels:
            each = tuple(name for one in channel.tenants for name in groups.get(one, (one,)))
            channels.append(channel if each == channel.tenants else channel.model_copy(update={"tenants": each}))
        return self.model_copy(update={"channels": tuple(channels)})


def _start(value: object) -> object:
    """Read ``"2026-12-01T08:00+09:00"``, a TOML datetime, or a bare ``"08:00"``."""
    try:
        if isinstance(value, dt.time) or (isinstance(value, str) and "T" not in value):
            return time_of_day(value)
        found = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"must look like '2026-12-01T08:00+09:00' or '08:00', got {str(value)!r}") from None
    if found.year not in YEARS:
        raise ValueError(f"must lie between {YEARS[0]} and {YEARS[-1]}, got {str(value)!r}")
    return found


def _deadline(value: object) -> object:
    return None if value is None else time_of_day(value)


class Scenario(Frozen):
    """A question: who sends what when, and which ways there are to send it.

    Parameters
    ----------
    name : str
        What the answer is headed with.
    duration : duration
        How long the run is: ``"10h"``; in seconds once read.
    transient : duration, optional
        What is cut off at the beginning, of a steady study; in seconds once read.
    start : datetime or time, optional
        Second 0.
    deadline : time, optional
        When `on_time` is counted.
    time_scale : float, optional
        How many times faster than the clock `load` and `validate` run.
    tenants : tables
        Who sends, what and when (`workload.Tenant`).
    alternatives : table of tables
        The ways there are to send it, each a list of channels (`channel.Channel`).
    events : tables, optional
        What happens to credentials and IPs.
    faults : str or tables, optional
        What goes wrong at the providers: a faults file, its path relative to this one, or what would stand in it.
    reputation : bool or table, optional
        Whether complaints change an IP's limits, and by which numbers.
    readings : table, optional
        Which reading of a disputed limit is meant, by the limit's id.
    limits : table, optional
        An account's own amounts, by the limit's id: ``"50000/d"``.
    providers : table of tables, optional
        Providers of one's own, with the fields of the facts.

    Notes
    -----
    These are the keys of the scenario file; DESIGN §6 says more of each. A key that isn't one is refused.

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "80 at once", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 80}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o365", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> scenario.replace(tenants={"us": {"senders": 2}}).tenants[0].senders
    2
    """

    name: str
    duration: Annotated[Seconds, Field(gt=0, le=LONGEST)]
    transient: Seconds = 0.0
    start: Annotated[dt.datetime | dt.time, BeforeValidator(_start)] = dt.time()
    deadline: Annotated[dt.time | None, BeforeValidator(_deadline)] = None
    time_scale: float = Field(default=1.0, gt=0)
    tenants: tuple[Tenant, ...] = Field(min_length=1)
    alternatives: dict[str, Alternative] = Field(min_length=1)
    events: tuple[Event, ...] = ()
    faults: str | tuple[dict[str, Any], ...] = ()
    reputation: bool | dict[str, Any] = False
    readings: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, Any] = Field(default_factory=dict)
    providers: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("tenants")
    @classmethod
    def _one_by_one(cls, tables: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
        return tuple(one for table in tables for one in table.members())

    @field_validator("alternatives")
    @classmethod
    def _each_by_name(cls, found: dict[str, Alternative], info: ValidationInfo) -> dict[str, Alternative]:
        groups: dict[str, list[str]] = {}
        for tenant in info.data.get("tenants", ()):
            groups.setdefault(tenant.group, []).append(tenant.name)
        return {name: one.carrying(groups) for name, one in found.items()}

    _data: dict[str, Any] = PrivateAttr(default_factory=dict)
    _where: str = PrivateAttr(default="scenario")
    _folder: Path = PrivateAttr(default=Path())
    _inline: dict[str, Provider] = PrivateAttr(default_factory=dict)
    _faults: Faults = PrivateAttr(default=NO_FAULTS)
    _lanes: dict[tuple[str, dt.date | None], tuple[Lane, ...]] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> "Scenario":
        """Read a scenario file, TOML or (with the ending ``.json``) JSON.

        Parameters
        ----------
        path : str or Path
            The file; traces are looked for beside it.

        Returns
        -------
        Scenario
            Checked: whatever can be wrong with it has been looked for.

        Raises
        ------
        ValueError
            One line that names file, key and value, if anything in it can't be.

        Examples
        --------
        ``Scenario.load("scenarios/team_day.toml")``
        """
        path = Path(path)
        data = read_json(path) if path.suffix == ".json" else read_toml(path)
        return cls.build(data, str(path), path.parent)

    @classmethod
    def build(cls, data: Mapping[str, Any], where: str = "scenario", folder: Path = Path()) -> "Scenario":
        """Check a scenario given as the dictionary that its TOML would be; `folder` is where traces are looked for.

        Parameters
        ----------
        data : mapping
            The keys of the file.
        where : str, optional
            What an error calls it.
        folder : Path, optional
            Where traces are looked for.

        Returns
        -------
        Scenario
            Checked.

        Raises
        ------
        ValueError
            One line that names key and value, if anything in it can't be.
        """
        own: dict[str, Any] = copy.deepcopy(dict(data))
        if isinstance(own.get("tenants"), list):
            own["tenants"] = [_with_paths(tenant, folder.absolute()) for tenant in own["tenants"]]
        if isinstance(own.get("providers"), dict):
            own["providers"] = {
                name: read_toml(folder / facts) if isinstance(facts, str) else facts
                for name, facts in own["providers"].items()
            }
        scenario = check(cls, own, where)
        if isinstance(scenario.faults, str):
            scenario._faults = Faults.load(folder / scenario.faults)
            own["faults"] = scenario._faults.data()
        elif scenario.faults:
            scenario._faults = Faults.build({"faults": own["faults"]}, where)
        scenario._data, scenario._where, scenario._folder = own, where, folder
        try:
            for name, facts in scenario.providers.items():
                scenario._inline[name] = parse({"name": name, **facts}, f"providers.{name}")
                if scenario._inline[name].name != name:
                    raise ValueError(f"providers.{name}: name must be {name!r}, got {scenario._inline[name].name!r}")
            scenario._cross_check()
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        return scenario

    def replace(self, **changes: Any) -> "Scenario":
        """Return a changed copy: tables are merged, lists of named tables changed by name, all else replaced.

        Parameters
        ----------
        **changes
            Keys of the scenario file; a table's keys are changed one by one.

        Returns
        -------
        Scenario
            Another one, checked; this one stays as it is.

        Raises
        ------
        ValueError
            If the changed one can't be.

        Examples
        --------
        ``scenario.replace(tenants={"us": {"senders": 40}}, duration="8h")``
        """
        return Scenario.build(_merge(self._data, changes), self._where, self._folder)

    def __repr__(self) -> str:
        return f"<Scenario {self.name!r}: {len(self.tenants)} tenants, {len(self.alternatives)} alternatives>"

    def __str__(self) -> str:
        caption, tenants, channels = self._tables()
        return f"{table_text(tenants, caption)}\n\n{table_text(channels)}"

    def _repr_html_(self) -> str:
        caption, tenants, channels = self._tables()
        return table_html(tenants, caption) + table_html(channels)

    def _tables(self) -> tuple[str, list[dict[str, object]], list[dict[str, object]]]:
        """Return what it is about, its tenants, and its channels."""
        until = "" if self.deadline is None else f", deadline {self.deadline:%H:%M}"
        tenants: list[dict[str, object]] = [
            {
                "tenant": tenant.group + (" (neighbour)" if tenant.neighbour else ""),
                "senders": len(tenant.names(self.day)) * (tenant.count or 1),
                "arrivals": "; ".join(arrival.label or arrival.kind for arrival in tenant.arrivals),
                "messages expected": f"{sum(self._expected(tenant)) * (tenant.count or 1):,.0f}",
            }
            for tenant in self._tables_of_tenants()
        ]
        group_of = {tenant.name: tenant.group for tenant in self.tenants}
        channels: list[dict[str, object]] = [
            {
                "alternative": name,
                "channel": lane.channel.name,
                "tenants": ", ".join(dict.fromkeys(group_of[name] for name in lane.channel.tenants)),
                "to": lane.provider.name,
                "IPs": lane.channel.ips,
                "connections": lane.connections,
                "pace": lane.pace or "–",
                "tool": lane.channel.tool or "–",
            }
            for name in self.alternatives
            for lane in self.lanes(name)
        ]
        return f"{self.name}: {self.duration / 3600:g} h from {self.start:%H:%M}{until}", tenants, channels

    def _expected(self, tenant: Tenant) -> list[float]:
        """Return how many messages to expect of each of a tenant's arrivals."""
        senders = len(tenant.names(self.day))
        return [arrival.expected(self.day, arrival.senders or senders) for arrival in tenant.arrivals]

    def expected(self, alternative: str) -> float:
        """Return how many messages to expect in one run of an alternative.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.

        Returns
        -------
        float
            Messages of the tenants that it carries.

        Examples
        --------
        >>> Scenario.build({
        ...     "name": "an hour", "duration": "1h",
        ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "poisson", "rate": "2/s"}}],
        ...     "alternatives": {"it": {"channels": [{"name": "c", "tenants": ["us"], "to": "office365"}]}},
        ... }).expected("it")
        7200.0
        """
        carried = {name for channel in self.alternatives[alternative].channels for name in channel.tenants}
        return sum(sum(self._expected(tenant)) for tenant in self.tenants if tenant.name in carried)

    @property
    def data(self) -> dict[str, Any]:
        """The dictionary that the file is, traces' paths made complete."""
        return copy.deepcopy(self._data)

    # What the keys mean

    @property
    def day(self) -> Day:
        """When second 0 is, for times of day."""
        clock = self.start if isinstance(self.start, dt.time) else self.start.time()
        return Day(clock.hour * 3600 + clock.minute * 60 + clock.second + clock.microsecond / 1e6, self.duration)

    @property
    def deadline_at(self) -> float | None:
        """The deadline, in seconds since second 0."""
        return None if self.deadline is None else self.day.at(self.deadline)

    @property
    def date(self) -> dt.date:
        """The date whose facts apply: that of `start`, else the newest `as_of` of the facts in use."""
        if isinstance(self.start, dt.datetime):
            return self.start.date()
        used = [self._raw_provider(name) for name in self._provider_names()]
        known = [provider for provider in used if provider.limits or provider.replies]
        return max(provider.newest for provider in known or map(Provider.load, shipped()))

    @property
    def zero(self) -> dt.datetime:
        """Second 0 as a moment with a zone (UTC where the file names none)."""
        if isinstance(self.start, dt.datetime):
            return self.start if self.start.tzinfo else self.start.replace(tzinfo=dt.UTC)
        return dt.datetime.combine(self.date, self.start, dt.UTC)

    def messages(self, seed: int, replication: int) -> Messages:
        """Draw what all tenants offer in one replication; the same in every alternative.

        Parameters
        ----------
        seed : int
            Which random streams: the same seed gives the same messages.
        replication : int
            Which run, from 0.

        Returns
        -------
        Messages
            In the order of creation.
        """
        return offered(self.tenants, self.day, seed, replication)

    def days(self, seed: int, replication: int) -> Iterator[tuple[float, Messages]]:
        """Draw the same a day at a time: until when, in seconds, and what is offered until then.

        Parameters
        ----------
        seed : int
            Which random streams: the same seed gives the same messages.
        replication : int
            Which run, from 0.

        Returns
        -------
        iterator of (float, Messages)
            Every 24 hours and at the end, in seconds since second 0; in the order of creation.
        """
        return by_day(self.tenants, self.day, seed, replication)

    def provider(self, name: str, as_of: dt.date | None = None) -> Provider:
        """Return a provider as it is on that date, under this scenario's readings and amounts.

        Parameters
        ----------
        name : str
            One of the shipped providers, or of the scenario's own.
        as_of : date, optional
            The date whose facts apply; the scenario's by default.

        Returns
        -------
        Provider
            The facts.
        """
        return self._provider_under(self.readings, name, as_of)

    def _provider_under(self, readings: Mapping[str, str], name: str, as_of: dt.date | None) -> Provider:
        provider = self._raw_provider(name).on(as_of or self.date)
        own = f"{name}/"
        provider = provider.read_as({id_: reading for id_, reading in readings.items() if id_.startswith(own)})
        return provider.set({id_: amount for id_, amount in self.limits.items() if id_.startswith(own)})

    def lanes(self, alternative: str, as_of: dt.date | None = None) -> tuple[Lane, ...]:
        """Return an alternative's channels, each on its way to each of its providers, with every default filled in.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        as_of : date, optional
            The date whose facts apply; the scenario's by default.

        Returns
        -------
        tuple of Lane
            What `channel.simulate` takes.
        """
        key = alternative, as_of
        if key not in self._lanes:
            providers = {name: self.provider(name, as_of) for name in self._provider_names(alternative)}
            channels = self.alternatives[alternative].channels
            midnight = self.day.start
            self._lanes[key] = tuple(
                lane_of(channel, providers[name], midnight) for channel in channels for name in channel.to
            )
        return self._lanes[key]

    @property
    def rules(self) -> Rules | None:
        """The numbers of the reputation model, this scenario's own before those of the facts; None if it is off."""
        own = self.reputation if isinstance(self.reputation, dict) else {}
        return None if self.reputation is False else Rules.of(own)

    def opinion(self, provider: Provider, seed: int = 1, replication: int = 0) -> Reputation | None:
        """Return how a provider forms its opinion of an IP, and with which luck; None if it has none.

        Parameters
        ----------
        provider : Provider
            A mailbox provider.
        seed, replication : int, optional
            Which run of the random streams.

        Returns
        -------
        Reputation or None
            What `Receiver` takes.
        """
        if provider.role != "delivery" or self.rules is None:
            return None
        rates = {one.domain: one.complaints(seed, replication) for one in self.tenants}
        return Reputation(self.rules, rates, seed, replication)

    def faults_of(self, seed: int = 1, replication: int = 0) -> Faults:
        """Return what goes wrong at the providers, and with which luck.

        Parameters
        ----------
        seed, replication : int, optional
            Which run of the random streams.

        Returns
        -------
        Faults
            What `FaultyReceiver` takes.
        """
        return dataclasses.replace(self._faults, seed=seed, replication=replication)

    def receivers(self, lanes: Sequence[Lane], seed: int = 1, replication: int = 0) -> dict[str, Receiver]:
        """Return one receiver for each provider of an alternative, with the accounts of those who send there.

        `seed` and `replication` say with which luck mail is complained about, where reputation is on.

        Parameters
        ----------
        lanes : sequence of Lane
            The channels of an alternative.
        seed, replication : int, optional
            Which run of the random streams.

        Returns
        -------
        dict of str to Receiver
            By the provider's name.
        """
        found: dict[str, Receiver] = {}
        for lane in lanes:
            name = lane.provider.name
            accounts = {user: _account(user) for user in self._users(lane)}
            if name not in found:
                opinion = self.opinion(lane.provider, seed, replication)
                if self._faults:
                    faults = self.faults_of(seed, replication)
                    found[name] = FaultyReceiver(lane.provider, {}, self.zero, opinion, faults)
                else:
                    found[name] = Receiver(lane.provider, {}, self.zero, opinion)
            found[name].accounts = {**found[name].accounts, **accounts}
        return found

    def incidents(
        self, lanes: Sequence[Lane], rng: Callable[..., np.random.Generator]
    ) -> list[tuple[Incident, tuple[str, ...]]]:
        """Draw what happens to credentials and IPs in one run of an alternative, and at which providers.

        Parameters
        ----------
        lanes : sequence of Lane
            The channels of an alternative.
        rng : callable
            Gives the random stream of a name.

        Returns
        -------
        list of (Incident, tuple of str)
            Times in seconds.
        """
        # an entry in a block list expires by itself, where reputation is on
        listed = math.inf if self.rules is None else self.rules.listed_days * DAY
        return incidents(self.events, lanes, self.tenants, self.day, listed, rng)

    def rests_on(self, alternatives: Sequence[str], as_of: dt.date | None = None) -> list[dict[str, str]]:
        """List what these alternatives assume: facts graded assumed or with an assumed field, and own figures.

        Parameters
        ----------
        alternatives : sequence of str
            Their names.
        as_of : date, optional
            The date whose facts apply; the scenario's by default.

        Returns
        -------
        list of dict
            ``id`` and ``grade`` of each.
        """
        found: dict[str, str] = {}
        for alternative in alternatives:
            for lane in self.lanes(alternative, as_of):
                for limit in lane.provider.limits:
                    met = limit.limit is not None and (limit.only is None or not lane.channel.aligned)
                    if met and limit.rests_on_assumption:
                        # a grade is that of what a source states, and an amount that none publishes isn't stated
                        grade = "assumed" if "limit" in limit.assumed else limit.grade
                        found[f"{lane.provider.name}/{limit.id}"] = grade
                for key in lane.channel.assumed:
                    found[f"{lane.channel.name}: {key}"] = "assumed"
                if lane.warmup is not None and lane.warmup.rests_on_assumption:
                    found[f"warmup/{lane.warmup.name}"] = lane.warmup.grade
                if lane.reaction is not None and lane.reaction.rests_on_assumption:
                    found[f"reaction/{lane.reaction.name}"] = lane.reaction.grade
                habit = habit_of(lane.channel, lane.provider.name)
                if habit is not None and habit.rests_on_assumption:
                    found[f"{lane.channel.tool}/{habit.id}"] = habit.grade
                if lane.provider.role == "delivery" and (self.rules is not None or not lane.channel.aligned):
                    found |= {f"reputation/{one.id}": one.grade for one in left_out()}
                if lane.provider.role == "delivery" and self.rules is not None:
                    own = self.reputation if isinstance(self.reputation, dict) else {}
                    for number in parameters():
                        if number.id in own or number.rests_on_assumption:
                            found[f"reputation/{number.id}"] = "assumed" if number.id in own else number.grade
        channels = [channel for name in alternatives for channel in self.alternatives[name].channels]
        carried = {one for channel in channels for one in channel.tenants}
        groups = {tenant.group for tenant in self.tenants if tenant.name in carried}
        found |= {f"{group}: {key}": "assumed" for group, key in self._drawn() if group in groups}
        return [{"id": id_, "grade": grade} for id_, grade in found.items()]

    def _drawn(self) -> list[tuple[str, str]]:
        """Return the groups of tenants that are drawn, and what of them is."""
        return [
            (tenant.group, key)
            for tenant in self._tables_of_tenants()
            for key in ("volumes", "complaint_rates")
            if getattr(tenant, key) is not None
        ]

    def _tables_of_tenants(self) -> list[Tenant]:
        """Return one tenant for each table of the file: of a group, its first."""
        return list({tenant.group: tenant for tenant in reversed(self.tenants)}.values())[::-1]

    def readings_of(self, alternative: str, as_of: dt.date | None = None) -> list[tuple[str, str]]:
        """Return the other readings of the limits that an alternative meets: ``(limit id, reading)``.

        Readings that differ in nothing but the sentence are left out: they change no number. Where the scenario has
        chosen one, ``"published"`` is another.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        as_of : date, optional
            The date whose facts apply; the scenario's by default.

        Returns
        -------
        list of (str, str)
            Limit and reading.
        """
        found = []
        for name in self._provider_names(alternative):
            for limit in self.provider(name, as_of).limits:
                id_ = f"{name}/{limit.id}"
                unlike = [limit]
                for reading in (PUBLISHED, *(str(one["name"]) for one in limit.readings)):
                    other = self._provider_under({**self.readings, id_: reading}, name, as_of).limit(limit.id)
                    if not any(other.acts_as(one) for one in unlike):
                        unlike.append(other)
                        found.append((id_, reading))
        return found

    def random_parts(self) -> list[str]:
        """List what differs between replications (DESIGN §9).

        Returns
        -------
        list of str
            In words; empty where every replication is the same.
        """
        parts = [f"{group}: {key}" for group, key in self._drawn()]
        for tenant in self._tables_of_tenants():
            for number, arrival in enumerate(tenant.arrivals, 1):
                name = f"{tenant.group}: {arrival.label or f'arrivals {number}'}"
                if isinstance(arrival, Trace):
                    if arrival.resample == "senders":
                        parts.append(f"{name}: whose rows of the trace each sender sends")
                elif not isinstance(arrival, Batches) or arrival.rate is not None:
                    parts.append(f"{name}: times of arrival")
                elif tenant.spread == "observed" and arrival.per_sender is None:
                    parts.append(f"{name}: who sends")
        channels = [channel for alternative in self.alternatives.values() for channel in alternative.channels]
        parts += [f"{channel.name}: service times" for channel in channels if channel.service.kind != "constant"]
        parts += [f"{channel.name}: which provider a message goes to" for channel in channels if len(channel.to) > 1]
        if self.rules is not None and any(tenant.complaint_rate or tenant.complaint_rates for tenant in self.tenants):
            parts.append("reputation: which mail is complained about")
        parts += [f"{event.kind}: when" for event in self.events if event.rate is not None]
        parts += [f"{fault.name}: which commands it strikes" for fault in self._faults.faults if 0 < fault.odds < 1]
        return list(dict.fromkeys(parts))

    # Checks across tables

    def _cross_check(self) -> None:
        tenants = [tenant.name for tenant in self.tenants]
        _unique(tenants, "tenants", "name")
        if all(tenant.neighbour for tenant in self.tenants):
            raise ValueError(f"tenants: at least one must not be a neighbour, got {', '.join(tenants)}")
        _unique([tenant.domain for tenant in self.tenants], "tenants", "domain")
        if self.transient >= self.duration:
            raise ValueError(
                f"transient must be shorter than the duration of {self.duration:g} s, got {self.transient:g} s"
            )
        if self.deadline_at is not None and self.deadline_at <= 0:
            start = self.start if isinstance(self.start, dt.time) else self.start.time()
            raise ValueError(f"deadline must come after the start at {start:%H:%M}, got {self.deadline:%H:%M}")
        for tenant in self.tenants:
            self._check_tenant(tenant)
        for name, alternative in self.alternatives.items():
            self._check_alternative(name, alternative, tenants)
        for table, entries in (("readings", self.readings), ("limits", self.limits)):
            for key, value in entries.items():
                self._check_limit(table, key, value)
        for name in self._provider_names():
            self.provider(name)
        if isinstance(self.reputation, dict):
            Rules.of(self.reputation)
        # one that another scenario goes to is no slip: they may share a file of faults
        self._faults.meant_for([*dict.fromkeys((*self._provider_names(), *self._inline, *shipped()))])
        for number, event in enumerate(self.events, 1):
            self._check_event(event, f"events[{number}]", tenants)

    def _check_limit(self, table: str, key: str, value: Any) -> None:
        name, _, limit = key.partition("/")
        if not limit:
            raise ValueError(f"{table}: must look like 'office365/messages-per-minute', got {key!r}")
        try:
            provider = self._raw_provider(name)
            changed = provider.read_as({key: value}) if table == "readings" else provider.set({key: value})
        except ValueError as error:
            raise ValueError(f'{table}."{key}": {error}') from None
        assert changed.name == name

    def _check_tenant(self, tenant: Tenant) -> None:
        try:
            names = tenant.names(self.day)
        except ValueError as error:
            raise ValueError(f"tenants[{tenant.name}]: {error}") from None
        count = len(names)
        for number, arrival in enumerate(tenant.arrivals, 1):
            where = f"tenants[{tenant.name}].arrivals[{arrival.label or number}]"
            if arrival.senders is not None and arrival.senders > count:
                raise ValueError(f"{where}.senders: must be at most the tenant's {count}, got {arrival.senders}")
            if isinstance(arrival, Batches):
                first = self.day.at(arrival.first)
                if first >= self.duration or (first < 0 and arrival.every is None):
                    shown = arrival.first if isinstance(arrival.first, dt.time) else f"{arrival.first:g}s"
                    raise ValueError(f"{where}.first: must lie within the scenario's hours, got '{shown}'")
            expected = arrival.expected(self.day, arrival.senders or count)
            if expected > MOST_MESSAGES:
                raise ValueError(f"{where}: offers {expected:,.0f} messages, must be at most {MOST_MESSAGES:,}")
            if isinstance(arrival, Trace) and not _any_inside(arrival, self.day, names[: arrival.senders]):
                raise ValueError(f"{where}.file: no row lies within the scenario's hours, got {str(arrival.file)!r}")

    def _check_alternative(self, name: str, alternative: Alternative, tenants: Sequence[str]) -> None:
        where = f"alternatives.{name}"
        _unique([channel.name for channel in alternative.channels], f"{where}.channels", "name")
        carried = [tenant for channel in alternative.channels for tenant in channel.tenants]
        for channel in alternative.channels:
            unknown = next((one for one in channel.tenants if one not in tenants), None)
            if unknown is not None:
                known = f"(there are: {', '.join(tenants)})"
                raise ValueError(f"{where}.channels[{channel.name}].tenants: unknown tenant {unknown!r} {known}")
            for provider in channel.to:
                try:
                    self._raw_provider(provider)
                    lane_of(channel, self._raw_provider(provider))
                except ValueError as error:
                    raise ValueError(f"{where}.channels[{channel.name}]: {error}") from None
        for channel in alternative.channels:
            self._check_overflow(channel, alternative, f"{where}.channels[{channel.name}].overflow")
        twice = next((tenant for tenant in carried if carried.count(tenant) > 1), None)
        if twice:
            raise ValueError(f"{where}: tenant {twice!r} is on more than one channel")
        for tenant in self.tenants:
            if tenant.name not in carried and not tenant.neighbour:
                raise ValueError(f"{where}: no channel carries tenant {tenant.name!r}")

    def _check_overflow(self, channel: Channel, alternative: Alternative, where: str) -> None:
        if channel.overflow is None:
            return
        others = {one.name: one for one in alternative.channels if one.name != channel.name}
        takes = others.get(channel.overflow)
        if takes is None:
            known = f"(there are: {', '.join(others) or 'none'})"
            raise ValueError(f"{where}: must be another channel of the alternative, got {channel.overflow!r} {known}")
        if takes.warmup is not None:
            raise ValueError(f"{where}: must be a channel that isn't being warmed up itself, got {takes.name!r}")
        at_login = next((name for name in takes.to if self._raw_provider(name).role != "delivery"), None)
        if at_login is not None:
            raise ValueError(
                f"{where}: must be a channel to mailbox providers, got {takes.name!r}, which goes to {at_login}"
            )

    def _check_event(self, event: Event, where: str, tenants: Sequence[str]) -> None:
        if event.tenant and event.tenant not in tenants:
            raise ValueError(f"{where}.tenant: unknown tenant {event.tenant!r} (there are: {', '.join(tenants)})")
        if event.tenant and event.senders is not None:
            tenant = self.tenants[tenants.index(event.tenant)]
            count = len(tenant.names(self.day))
            if event.senders > count:
                raise ValueError(f"{where}.senders: must be at most the tenant's {count}, got {event.senders}")
        if event.channel:
            channels = [c for a in self.alternatives.values() for c in a.channels if c.name == event.channel]
            if not channels:
                raise ValueError(f"{where}.channel: unknown channel {event.channel!r}")
            most = max(channel.ips for channel in channels)
            if event.ip is not None and event.ip > most:
                raise ValueError(f"{where}.ip: must be at most the channel's {most}, got {event.ip}")
        if event.at is not None and event.at >= self.duration:
            raise ValueError(f"{where}.at: must lie within the scenario's {self.duration:g} s, got {event.at:g} s")
        if event.rate is not None and event.rate.per_second * self.duration > MOST_MESSAGES:
            raise ValueError(f"{where}.rate: must be an event now and then, got '{event.rate}'")

    # Finding things

    def _provider_names(self, alternative: str | None = None) -> tuple[str, ...]:
        chosen = self.alternatives.values() if alternative is None else [self.alternatives[alternative]]
        return tuple(dict.fromkeys(name for one in chosen for channel in one.channels for name in channel.to))

    def _raw_provider(self, name: str) -> Provider:
        if name in self._inline:
            return self._inline[name]
        return Provider.load(name)

    def _users(self, lane: Lane) -> list[str]:
        """Return who logs in: each sender, or where a credential is a domain's, the domain."""
        mine = [tenant for tenant in self.tenants if tenant.name in lane.channel.tenants]
        if lane.provider.credential == "account":
            return [address.lower() for tenant in mine for address in tenant.addresses(self.day)]
        return [tenant.domain.lower() for tenant in mine] if lane.provider.credential == "domain" else [""]


def _account(user: str) -> Account:
    return Account(user, refresh_token=user, domains=frozenset([user.rpartition("@")[2]]), listed=False)


def _any_inside(trace: Trace, day: Day, senders: Sequence[str]) -> bool:
    """Whether the trace has a message of one of these senders that is offered."""
    at, names, *_ = trace.rows(day)
    return bool(((at >= 0) & (at < day.duration) & np.isin(names, senders)).any())


def _unique(values: Sequence[str], where: str, key: str) -> None:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice:
        raise ValueError(f"{where}: {key} given twice: {twice!r}")


def _with_paths(tenant: Any, folder: Path) -> Any:
    """Make a trace's path relative to the scenario file."""
    if not isinstance(tenant, dict):
        return tenant
    arrivals = tenant.get("arrivals")
    several = arrivals if isinstance(arrivals, list) else [arrivals]
    found = [
        {**one, "file": str(folder / one["file"])}
        if isinstance(one, dict) and isinstance(one.get("file"), str)
        else one
        for one in several
    ]
    return {**tenant, "arrivals": found} if arrivals is not None else tenant


def _merge(old: Any, new: Any) -> Any:
    """Merge tables of the same kind; a list of named tables is changed by name, everything else replaced."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("kind", old.get("kind")) == old.get("kind"):
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
    named = isinstance(old, list) and all(isinstance(item, Mapping) and "name" in item for item in old)
    if named and isinstance(new, Mapping):
        known = [item["name"] for item in old]
        unknown = next((name for name in new if name not in known), None)
        if unknown is not None:
            raise ValueError(f"replace: unknown name {unknown!r} (there are: {', '.join(map(str, known))})")
        return [_merge(item, new[item["name"]]) if item["name"] in new else item for item in old]
    return new
