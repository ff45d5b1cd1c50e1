"""The question of size: whose mail, by when, over which channels; and one simulated day of the answer.

*Done by the deadline* means: every message that was offered by then was accepted by then, by the first party that it is
handed to. Messages offered later don't count. (`finished` of a comparison is less: nothing is left waiting.)
"""

import dataclasses
import datetime as dt
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from simlib.attempts import Attempts
from simlib.channel import Lane
from simlib.experiment import run
from simlib.facts import Rate
from simlib.option import Option, options, timing
from simlib.pacing import fastest
from simlib.provider import Limit, Provider
from simlib.scenario import Scenario
from simlib.sender import Pace
from simlib.summary import outcomes, summarize
from simlib.tool import Habit, Tool
from simlib.windows import INSTANT
from simlib.workload import Messages

__all__ = ["Candidate", "Day", "Fates", "from_scenario", "from_team"]

Floats = np.typing.NDArray[np.float64]
Bools = np.typing.NDArray[np.bool_]

TRANSACTION = 1.0
"""Seconds that a message takes at most on average within a batch, for a pace to be called safe: more than the 0.83 s of
`options.toml`."""
SHORT = 3600.0
"""Seconds: limits per hour or less are kept by a pace, longer ones by a number a day."""
OWN, STRANGERS = "team", "strangers"
TOOL = "sales-connect"
"""The application that sends, if nobody says."""
RECIPIENTS = ("recipients", "unique_recipients", "external_recipients")
SHARED = ("domain", "tenant", "ip")
Unit = Literal["mailbox", "ip", ""]


@dataclass(frozen=True, slots=True)
class Day:
    """What became of a team's mail in one simulated day; counts are messages, times seconds since second 0.

    Parameters
    ----------
    done : bool
        Every message offered by the deadline was accepted by then.
    offered, on_time, lost, held : int
        Offered by the deadline; of these accepted by then, and refused or given up; of all messages accepted though a
        limit made them late.
    finished_at : float
        When the last of those offered by the deadline was accepted, inf if one never was.
    throttled : dict
        For each limit, the messages that it made late or lost.
    causes : dict
        For each cause, the seconds that accepted messages waited for it.
    others : dict
        For each refusal that isn't a limit's, the messages that ended with it.
    first : dict
        For each limit and cause, when it was first met.
    print_ : int
        Equal for two days on which the same happened at the same times.
    """

    done: bool
    offered: int
    on_time: int
    lost: int
    held: int
    finished_at: float
    throttled: dict[str, float]
    causes: dict[str, float]
    others: dict[str, float]
    first: dict[str, float]
    print_: int


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of each message of one simulated day; arrays are of shape ``(messages,)``, in the record's order.

    Parameters
    ----------
    attempts : Attempts
        The record of the day.
    mine, due : array of bool
        Which messages are the team's own; and of these, which were offered by the deadline.
    accepted_at : array of float
        When each was accepted, in seconds since second 0; inf if never.
    lost : array of bool
        Which were refused or given up.
    """

    attempts: Attempts
    mine: Bools
    due: Bools
    accepted_at: Floats
    lost: Bools


@dataclass(frozen=True)
class Candidate:
    """A channel in question: a scenario with one alternative, and how its mail is dealt over mailboxes or IPs.

    Parameters
    ----------
    name : str
        The alternative's.
    scenario : Scenario
        What is simulated.
    asked : Scenario
        Whose messages are offered: the scenario itself, unless they are dealt over another number of mailboxes.
    option : Option or None
        What is known about setting it up.
    """

    name: str
    scenario: Scenario
    asked: Scenario
    option: Option | None = field(default=None, repr=False)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The tenants that are not neighbours."""
        return tuple(tenant.name for tenant in self.scenario.tenants if not tenant.neighbour)

    def lanes(self, as_of: dt.date) -> tuple[Lane, ...]:
        """Return the channels, each on its way to each provider.

        Parameters
        ----------
        as_of : date
            The date whose facts apply.

        Returns
        -------
        tuple of Lane
            What `simlib.run` simulates.
        """
        return self.scenario.lanes(self.name, as_of)

    @cached_property
    def deadline(self) -> float:
        """The deadline, in seconds since second 0."""
        found = self.scenario.deadline_at
        assert found is not None  # `from_team` writes one in, `from_scenario` refuses a scenario without
        return found

    @property
    def role(self) -> Literal["submission", "delivery"]:
        """Where the mail is accepted: at a provider's door, or at mailbox providers."""
        lanes = self.lanes(self.scenario.date)
        return "delivery" if all(lane.provider.role == "delivery" for lane in lanes) else "submission"

    @property
    def unit(self) -> Unit:
        """What there may be more or fewer of: mailboxes, IPs, or nothing that the facts know of."""
        lanes = self.lanes(self.scenario.date)
        if len({lane.channel.name for lane in lanes}) > 1 or len(self.own) > 1:
            return ""
        if self.role == "delivery":
            return "ip"
        return "mailbox" if all(lane.provider.credential == "account" for lane in lanes) else ""

    @property
    def units(self) -> int:
        """How many mailboxes or IPs there are; 1 where there is nothing to count."""
        if self.unit == "mailbox":
            tenant = next(tenant for tenant in self.scenario.tenants if not tenant.neighbour)
            return len(tenant.names(self.scenario.day))
        return self.lanes(self.scenario.date)[0].channel.ips if self.unit == "ip" else 1

    def over(self, units: int) -> "Candidate":
        """Return the same mail over so many mailboxes (dealt in turn) or IPs.

        Parameters
        ----------
        units : int
            How many mailboxes or IPs.

        Returns
        -------
        Candidate
            With so many; itself is unchanged.

        Raises
        ------
        ValueError
            If the channel has neither.
        """
        if self.unit == "ip":
            return self.change({"ips": units})
        if self.unit != "mailbox":
            raise ValueError(f"{self.name} has neither mailboxes nor IPs to count, got {units}")
        data = self.scenario.data
        for tenant in data["tenants"]:
            if tenant["name"] in self.own:
                # who sends what is decided by dealing; the arrivals only have to be something
                tenant |= {"senders": units, "arrivals": {"kind": "batches", "size": 1}}
        for event in data.get("events", ()):
            if "senders" in event:
                event["senders"] = min(event["senders"], units)
        return dataclasses.replace(self, scenario=Scenario.build(data, "size"))

    def change(self, keys: Mapping[str, Any]) -> "Candidate":
        """Return the candidate with other keys of its channels.

        Parameters
        ----------
        keys : mapping of str to object
            As in a scenario's ``[[channels]]``; None takes one away.

        Returns
        -------
        Candidate
            With these; itself is unchanged.

        Raises
        ------
        ValueError
            If there is no such key, or the value can't be.
        """
        channels = {channel.name: dict(keys) for channel in self.scenario.alternatives[self.name].channels}
        return self._with(alternatives={self.name: {"channels": channels}})

    def read_as(self, limit: str, reading: str) -> "Candidate":
        """Return the candidate under another reading of a limit.

        Parameters
        ----------
        limit : str
            Its id.
        reading : str
            The reading's name.

        Returns
        -------
        Candidate
            Under it; itself is unchanged.

        Raises
        ------
        ValueError
            If there is no such limit or reading.
        """
        return self._with(readings={limit: reading})

    def set(self, limits: Mapping[str, str]) -> "Candidate":
        """Return the candidate with other amounts of limits.

        Parameters
        ----------
        limits : mapping of str to str
            A limit's id to its amount: ``{'sparkpost/messages-per-day': '50000/d'}``.

        Returns
        -------
        Candidate
            With these; itself is unchanged.

        Raises
        ------
        ValueError
            If there is no such limit, or the amount can't be.
        """
        return self._with(limits=dict(limits))

    def _with(self, **changes: Any) -> "Candidate":
        scenario = self.scenario.replace(**changes)
        return dataclasses.replace(
            self, scenario=scenario, asked=scenario if self.asked is self.scenario else self.asked
        )

    def messages(self, seed: int, replication: int) -> Messages:
        """Draw what is offered, dealt over the mailboxes if these are others than asked.

        Parameters
        ----------
        seed, replication : int
            Which run of the random streams.

        Returns
        -------
        Messages
            The same for every channel of the question.
        """
        asked = self.asked.messages(seed, replication)
        return asked if self.asked is self.scenario else _dealt(asked, self.scenario)

    def day(self, seed: int, replication: int, as_of: dt.date, messages: Messages | None = None) -> Day:
        """Simulate one day; the same messages in the same replication, whatever else differs.

        Parameters
        ----------
        seed, replication : int
            Which run of the random streams.
        as_of : date
            The date whose facts apply.
        messages : Messages, optional
            What is offered, if already drawn for this run.

        Returns
        -------
        Day
            What became of the team's mail.
        """
        return _day(self, self.fates(seed, replication, as_of, messages), as_of)

    def fates(self, seed: int, replication: int, as_of: dt.date, messages: Messages | None = None) -> Fates:
        """Simulate one day and return what became of each of its messages; `day` sums it up.

        Parameters
        ----------
        seed, replication : int
            Which run of the random streams.
        as_of : date
            The date whose facts apply.
        messages : Messages, optional
            What is offered, if already drawn for this run.

        Returns
        -------
        Fates
            Times in seconds since second 0.
        """
        offered = self.messages(seed, replication) if messages is None else messages
        attempts = run(self.scenario, self.name, seed, replication, as_of, offered)
        accepted_at, lost = outcomes(attempts, self.lanes(as_of))
        mine = np.isin(offered.tenant, [offered.tenants.index(name) for name in self.own])
        return Fates(attempts, mine, mine & (offered.created_at <= self.deadline), accepted_at, lost)

    def random(self) -> list[str]:
        """List what differs between replications.

        Returns
        -------
        list of str
            In words; empty if all runs are the same.
        """
        return list(dict.fromkeys([*self.asked.random_parts(), *self.scenario.random_parts()]))

    # What the tool does, and what could be typed into it

    def habit(self) -> Habit | None:
        """Return what the tool does on this channel, None if there is no tool or no source says.

        Returns
        -------
        Habit or None
            Its pace, connections and retries.
        """
        lanes = self.lanes(self.scenario.date)
        tool = lanes[0].channel.tool
        return Tool.load(tool).habit(lanes[0].provider.name) if tool else None

    def setting(self, as_of: dt.date) -> Pace | None:
        """Return the batch and wait to type into a tool: the fastest that no limit a minute or an hour can mind.

        None where nothing limits so short a time. Every published reading of a limit is kept.

        Parameters
        ----------
        as_of : date
            The date whose facts apply.

        Returns
        -------
        Pace or None
            The batch in messages, the wait in seconds.
        """
        limits = [limit for lane in self.lanes(as_of) for limit in self._shares(lane) if _period(limit) <= SHORT]
        return fastest(limits, TRANSACTION) if limits else None

    def cap(self, as_of: dt.date) -> int | None:
        """Return how many messages a mailbox (or the whole team, if it shares one credential) may send a day.

        Parameters
        ----------
        as_of : date
            The date whose facts apply.

        Returns
        -------
        int or None
            Messages a day; None without a limit so long.
        """
        found = [
            limit.limit.amount
            for lane in self.lanes(as_of)
            for limit in _readings(lane.provider.limits)
            if limit.limit is not None and _period(limit) > SHORT
        ]
        return int(min(found)) // self._recipients() if found else None

    def _shares(self, lane: Lane) -> list[Limit]:
        """Return the limits on messages in a time, in each reading, as what one sender may use of each."""
        senders = sum(len(t.names(self.scenario.day)) for t in self.scenario.tenants if not t.neighbour)
        shares = []
        for limit in _readings(lane.provider.limits):
            if limit.limit is None or not _period(limit):
                continue
            of_all = limit.per in SHARED or (limit.per == "account" and lane.provider.credential != "account")
            parts = (senders if of_all else 1) * (self._recipients() if limit.count in RECIPIENTS else 1)
            shares.append(limit.model_copy(update={"limit": Rate(limit.limit.amount / parts, limit.limit.period)}))
        return shares

    def _recipients(self) -> int:
        return max(tenant.recipients for tenant in self.scenario.tenants if not tenant.neighbour)


def from_team(
    senders: int,
    per_sender: int,
    group_email: int = 0,
    start: str = "09:00",
    deadline: str = "17:30",
    have: Mapping[str, int | None] | None = None,
    tool: str = TOOL,
    readings: Mapping[str, str] | None = None,
) -> tuple[Candidate, ...]:
    """Ask about a team: everyone's messages and a group e-mail by one of them, all at the start.

    Parameters
    ----------
    senders, per_sender : int
        How many people send, and how many messages each.
    group_email : int
        People who get a further message each from the first sender.
    start, deadline : str
        From when, until when: times of day.
    have : mapping of str to int or None, optional
        The channels that the team has and how many mailboxes or IPs of each (None: one a sender, or one IP). By
        default those that most teams could have.
    tool : str
        The application that sends.
    readings : mapping of str to str, optional
        Where sources disagree, other readings of limits: limit id to reading.

    Returns
    -------
    tuple of Candidate
        One a channel.

    Raises
    ------
    ValueError
        For numbers, times, a channel or a tool that can't be.

    Notes
    -----
    All at the start is what Sales Connect does: a campaign's step has a time, and no random spacing. It is also the
    hardest case.

    Examples
    --------
    >>> [candidate.name for candidate in from_team(25, 40, have={"office365": 25, "sparkpost": None})]
    ['office365', 'sparkpost']
    """
    for flag, value, least in (("senders", senders, 1), ("per-sender", per_sender, 1), ("group-email", group_email, 0)):
        if value < least:
            raise ValueError(f"{flag} must be at least {least}, got {value}")
    Tool.load(tool)
    chosen = dict(have) if have else {option.name: None for option in options() if option.default}
    for limit in readings or {}:
        if not any(_mine({limit: ""}, _destinations(Option.load(name))) for name in chosen):
            raise ValueError(f"reading: {limit} is a limit of none of the channels {', '.join(chosen)}")
    candidates = []
    for name, count in chosen.items():
        option = Option.load(name)
        arrivals: list[dict[str, Any]] = [{"kind": "batches", "per_sender": per_sender, "label": "everyone"}]
        if group_email:
            arrivals.append({"kind": "batches", "size": group_email, "senders": 1, "label": "group e-mail"})
        tenants: list[dict[str, Any]] = [{"name": OWN, "senders": senders, "arrivals": arrivals}]
        channel = {"assumed": [], **timing(), **option.channel, "name": name, "tenants": [OWN]}
        channel["assumed"] = sorted({*channel["assumed"], "service", "session_setup"})
        if option.strangers is not None:
            each = {"kind": "business_day", "per_sender": option.strangers.per_sender, "label": STRANGERS}
            tenants.append(
                {"name": STRANGERS, "neighbour": True, "senders": option.strangers.senders, "arrivals": each}
            )
            channel["tenants"] = [OWN, STRANGERS]
        if Provider.load(next(iter(_destinations(option)))).role == "submission":
            channel["tool"] = tool
        scenario = Scenario.build(
            {
                "name": f"{senders} senders",
                "start": start,
                "duration": "24h",
                "deadline": deadline,
                "tenants": tenants,
                "alternatives": {name: {"channels": [channel]}},
                "limits": option.limits,
                "readings": _mine(readings or {}, _destinations(option)),
            },
            "size",
        )
        candidate = Candidate(name, scenario, scenario, option)
        if count is not None and count < 1:
            raise ValueError(f"have: {name} must be at least 1, got {count}")
        if count is not None and candidate.unit == "" and count != 1:
            raise ValueError(f"{name} serves the whole team with one credential: write {name}, got {name}={count}")
        if count is not None and candidate.unit != "" and count != candidate.units:
            candidate = candidate.over(count)
        candidates.append(candidate)
    return tuple(candidates)


def from_scenario(scenario: Scenario, deadline: str | None = None) -> tuple[Candidate, ...]:
    """Ask about a scenario: each of its alternatives is a candidate.

    Parameters
    ----------
    scenario : Scenario
        The question.
    deadline : str, optional
        A time of day; the scenario's own by default.

    Returns
    -------
    tuple of Candidate
        One for each alternative.

    Raises
    ------
    ValueError
        If neither the scenario nor the argument has a deadline.

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "40 at once", "duration": "1h", "deadline": "00:30",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 40}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o365", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> [candidate.name for candidate in from_scenario(scenario)]
    ['Office 365']
    """
    if deadline is not None:
        scenario = scenario.replace(deadline=deadline)
    if scenario.deadline is None:
        raise ValueError(f"{scenario.name}: has no deadline (give --deadline, or write one into the scenario)")
    candidates = []
    for name in scenario.alternatives:
        data = scenario.data
        data["alternatives"] = {name: data["alternatives"][name]}
        names = [channel["name"] for channel in data["alternatives"][name]["channels"]]
        data["events"] = [event for event in data.get("events", ()) if event.get("channel") in (None, "", *names)]
        own = Scenario.build(data, scenario.name)
        providers = list(dict.fromkeys(lane.provider.name for lane in own.lanes(name)))
        known = [option for option in options() if list(_destinations(option)) == providers]
        candidates.append(Candidate(name, own, own, known[0] if known and len(providers) == 1 else None))
    return tuple(candidates)


def _mine(readings: Mapping[str, str], providers: Mapping[str, float]) -> dict[str, str]:
    return {limit: name for limit, name in readings.items() if limit.partition("/")[0] in providers}


def _destinations(option: Option) -> dict[str, float]:
    to = option.channel["to"]
    return {to: 1.0} if isinstance(to, str) else to


def _readings(limits: Sequence[Limit]) -> list[Limit]:
    """Return each limit and its other readings."""
    return [one for limit in limits for one in (limit, *(limit.read_as(r["name"]) for r in limit.readings))]


def _period(limit: Limit) -> float:
    """Return the period of a limit on messages or recipients, in seconds; 0 where it is off or has none."""
    counted = limit.count in ("messages", *RECIPIENTS) and limit.limit is not None
    return (limit.limit.period or 0.0) if counted and limit.limit is not None else 0.0


def _dealt(asked: Messages, scenario: Scenario) -> Messages:
    """Deal the team's messages over the senders of another scenario, in turn; neighbours stay as they are."""
    addresses: list[str] = []
    sender = asked.sender.copy()
    old = 0  # where a tenant's addresses begin among those asked for
    for position, tenant in enumerate(scenario.tenants):
        mine = asked.tenant == position
        names = tenant.addresses(scenario.day)
        if tenant.neighbour:
            sender[mine] += len(addresses) - old
        else:
            sender[mine] = len(addresses) + np.arange(int(mine.sum())) % len(names)
        addresses += names
        old += sum(address.endswith(f"@{tenant.domain}") for address in asked.addresses)
    return dataclasses.replace(asked, sender=sender, addresses=tuple(addresses))


def _day(candidate: Candidate, fates: Fates, as_of: dt.date) -> Day:
    summed = summarize(fates.attempts, candidate.scenario, candidate.lanes(as_of))
    summaries = [found for tenant, found in summed.items() if tenant in candidate.own]
    accepted_at = fates.accepted_at[fates.due]
    offered, on_time = len(accepted_at), int((accepted_at <= candidate.deadline).sum())

    def merged(pick: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = dict.fromkeys(name for one in pick for name in one)
        return {name: sum(one.get(name, 0.0) for one in pick) for name in names}

    return Day(
        done=on_time == offered,
        offered=offered,
        on_time=on_time,
        lost=int(fates.lost[fates.due].sum()),
        held=int(sum(found.numbers["throttled_accepted"] for found in summaries)),
        finished_at=float(accepted_at.max(initial=0.0)),
        throttled=merged([found.refusals for found in summaries]),
        causes=merged([found.bound_by for found in summaries]),
        others=merged([found.other_refusals for found in summaries]),
        first=_first(fates.attempts, fates.mine),
        print_=zlib.crc32(fates.attempts.rows.tobytes()),
    )


def _first(attempts: Attempts, mine: Bools) -> dict[str, float]:
    """Say when each limit and each other cause was first met by one of these messages."""
    rows = mine[attempts["message"].astype(int)] & ~np.isnan(attempts["started"])
    kinds = attempts["kind"].astype(int)
    met: dict[str, float] = {}
    for number, (_, _, _, _, _, limit) in enumerate(attempts.kinds):
        those = rows & (kinds == number)
        if limit and those.any():
            answered = np.where(np.isnan(attempts["ended"]), attempts["started"], attempts["ended"] - attempts["held"])
            met[limit] = min(float(answered[those].min()), met.get(limit, math.inf))
    for cause, begin, over in (("pace", "due", "released"), ("connections", "released", "started")):
        those = rows & (attempts[over] - attempts[begin] > INSTANT)
        if those.any():
            met[cause] = float(attempts[begin][those].min())
    if rows.any():
        met["service"] = float(attempts["started"][rows].min())
    again = rows & (attempts["retry"] > 0)
    if again.any():
        met["retry"] = float(attempts["due"][again].min())
    return met
